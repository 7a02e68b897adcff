// Package waitfor waits for goroutines, within bounds.
package waitfor

import (
	"sync"
	"time"
)

// Group waits until group is done, at most for d, and reports whether it is.
func Group(group *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	// Nothing can end a WaitGroup's wait: when d is over first, this goroutine
	// stays until group is done.
	go func() {
		defer close(done)
		group.Wait()
	}()

	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
