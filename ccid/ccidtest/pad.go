package ccidtest

// Pad is what a user does at the keys of a PIN pad.
type Pad struct {
	Old, New, Again string // what is typed when asked for the PIN, a new one, and that once more
	Cancel          bool   // presses the cancel key
	Idle            bool   // presses nothing
}

// secure performs a PIN operation.
func (s *slot) secure([]byte) ([]byte, int) { return nil, errNotSupported }
