package link

import (
	"context"
	"sync/atomic"
	"time"

	"pam_pkcs11/ccid/device"
)

// waitTimer bounds one wait after the other with one context: a context with a deadline for each
// message would cost more than everything else that is done for it. Not for concurrent use.
type waitTimer struct {
	parent  context.Context
	ctx     context.Context // ends with parent, and when the time is up
	cancel  context.CancelFunc
	timer   *time.Timer
	running bool         // a wait is in progress
	up      *atomic.Bool // the time was up: the context cannot be used again
}

// start begins a wait of d within parent and returns its context. A wait in progress ends.
func (w *waitTimer) start(parent context.Context, d time.Duration) context.Context {
	w.stop()

	// The usual case, the same caller's next message: only the timer is set anew.
	if w.parent == parent && !w.up.Load() {
		w.running = true
		w.timer.Reset(d)
		return w.ctx
	}

	// The old context would stay registered with its parent otherwise.
	if w.cancel != nil {
		w.cancel()
	}

	// A flag of its own for each context: a timer that fires late must not end the next one.
	up := new(atomic.Bool)
	ctx, cancel := context.WithCancel(parent)
	*w = waitTimer{
		parent:  parent,
		ctx:     ctx,
		cancel:  cancel,
		running: true,
		up:      up,
	}
	w.timer = time.AfterFunc(d, func() {
		up.Store(true)
		cancel()
	})
	return ctx
}

// stop ends the wait. Where the timer has fired meanwhile, the context is not used again.
func (w *waitTimer) stop() {
	if w.running && !w.timer.Stop() {
		w.up.Store(true)
	}
	w.running = false
}

// err is why the wait has ended: the parent's error, or DeadlineExceeded when the time is up; nil
// when it has not ended.
func (w *waitTimer) err() error {
	switch {
	case w.parent.Err() != nil:
		return w.parent.Err()
	case w.up.Load():
		return context.DeadlineExceeded
	}
	return w.ctx.Err()
}

// explain replaces an error that says only that the context has ended by the reason for that: the
// parent's, or DeadlineExceeded when the timer has fired.
func (w *waitTimer) explain(err error) error {
	if reason := w.err(); reason != nil && !device.IsGone(err) {
		return reason
	}
	return err
}

// Pause waits for d. It returns early, with the context's error, when ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}

	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
