package resmgr

import (
	"context"
	"time"

	"pam_pkcs11/pcsc"
)

// waiting is the pcsc.StateSource of a GetStatusChange in the process.
type waiting struct {
	states  *ReaderStates
	changed chan struct{} // of capacity 1
	cancel  context.CancelFunc
}

// Fire implements Watcher: something has changed.
func (w *waiting) Fire() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Arm registers, and returns the states before the next change.
func (w *waiting) Arm(context.Context) (pcsc.Snapshot, error) {
	// A change that an earlier round did not wait for is in the states below.
	select {
	case <-w.changed:
	default:
	}

	return w.states.snapshot(w), nil
}

// Disarm takes the registration back.
func (w *waiting) Disarm() error {
	w.states.Unwatch(w)
	return nil
}

// Wait waits for a change.
func (w *waiting) Wait(ctx context.Context, d time.Duration) error {
	// A change has done that itself; the other ways out have not.
	defer w.states.Unwatch(w)

	var timeout <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}

	select {
	case <-w.changed:
		return nil
	case <-timeout:
		return pcsc.ErrTimeout
	case <-ctx.Done():
		return pcsc.ErrCancelled
	}
}
