package login

import (
	"context"
	"time"
)

// touchHintAfter is how long a signature may take before the user is told that the token may wait for
// a touch. PKCS#11 does not tell; a card that is only slow has signed by then, most of the time.
const touchHintAfter = 2 * time.Second

// touchHint is the pending advice to touch the token.
type touchHint struct {
	timer *time.Timer
	ended chan struct{} // closed once the advice was given
}

// hintTouch gives the advice unless the signature is there before. With silent, for a
// user who is busy at the reader's keypad, there is none. Call stop in any case.
func (t *attempt) hintTouch(ctx context.Context, silent bool) *touchHint {
	if silent {
		return &touchHint{}
	}
	h := &touchHint{ended: make(chan struct{})}
	h.timer = time.AfterFunc(touchHintAfter, func() {
		var fault error
		defer close(h.ended)
		defer recoverInto(&fault)
		t.instruct(ctx, MsgTouch)
	})
	return h
}

// stop takes the advice back, or waits until it was given: nothing is said behind it.
func (h *touchHint) stop() {
	if h.timer != nil && !h.timer.Stop() {
		<-h.ended
	}
}
