package pcsc

import "time"

// driverLock is a mutex around the calls to a slot. Waiting for it can be given up: a slot may be busy for minutes.
// Those who wait get it in the order in which they came.
type driverLock chan struct{} // holds an element while it is locked

func newDriverLock() driverLock { return make(driverLock, 1) }

// TryLock takes the lock if it is free, and reports whether it was.
func (l driverLock) TryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// Lock waits for the lock.
func (l driverLock) Lock() { l <- struct{}{} }

// Unlock gives the lock to the next who waits for it.
func (l driverLock) Unlock() { <-l }

// usualWait is how long an exchange of another usually takes, at most. Who has waited longer is worth looking at: its
// program may have died meanwhile.
const usualWait = 20 * time.Millisecond

// lockFor waits for the lock as long as the client is there, and reports whether it has the lock.
func (l driverLock) lockFor(c *client) bool {
	timer := time.NewTimer(usualWait)
	defer timer.Stop()
	select {
	case l <- struct{}{}:
		return true
	case <-c.ctx.Done():
		return false
	case <-timer.C:
	}

	if c.onWait != nil {
		defer c.onWait()()
	}
	select {
	case l <- struct{}{}:
		return true
	case <-c.ctx.Done():
		return false
	}
}
