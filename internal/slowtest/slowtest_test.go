package slowtest

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestAllowance: a process that wants more processors than there are is allowed for what it waits.
func TestAllowance(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("this kernel does not say how long a thread waits")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * runtime.NumCPU()))
	allowed := Allowance()

	// A thread's wait is counted when it ends, so that all have to go on for several slices of the scheduler.
	var all sync.WaitGroup
	end := time.Now().Add(500 * time.Millisecond)
	for range 4 * runtime.NumCPU() {
		all.Go(func() {
			for time.Now().Before(end) {
			}
		})
	}
	all.Wait()

	if d := allowed(); d < 500*time.Millisecond {
		t.Errorf("%v allowed", d)
	}
}
