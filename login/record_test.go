package login

import "testing"

// TestAPanicAsideIsAFault: what goes wrong beside the end of the library is known to the verdict.
func TestAPanicAsideIsAFault(t *testing.T) {
	a := &attempt{}
	a.record(&judge{}, nil, candidate{}, "alice") // there is no card to name
	a.aside.Wait()
	if a.fault == nil {
		t.Error("nobody knows")
	}
}
