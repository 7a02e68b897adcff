package login

import (
	"context"
	"time"

	"pam_pkcs11/token"
)

// How long a signature may take before the user is told that the token may wait for a touch. A card
// that is only slow has signed by then, most of the time.
const (
	touchHintAfter = 2 * time.Second // where the card does not tell, as PKCS#11 never does
	touchHintSoon  = time.Second     // where it tells that it wants one now and then
)

// touchWait is announced for a signature that waits for a touch: tokens give up before.
const touchWait = time.Minute

// signing tells the user, as far as he has to touch the card, that a key is about to sign. A user who
// is busy at the reader's keypad is told nothing, nor is a discreet request. Call done in any case.
func (t *attempt) signing(ctx context.Context, u token.KeyUse) (done func()) {
	switch {
	case u.PINAgain, t.discreet, u.Touch == token.TouchNever:
		return func() {}
	case u.Touch == token.TouchAlways:
		t.instruct(ctx, MsgTouchNow)
		if t.conv.Wait(ctx, touchWait) != nil {
			return func() {}
		}
		return func() { _ = t.conv.Wait(ctx, 0) }
	case u.Touch == token.TouchCached:
		return t.hintTouch(ctx, touchHintSoon).stop
	}
	return t.hintTouch(ctx, touchHintAfter).stop
}

// touchHint is the pending advice to touch the token.
type touchHint struct {
	timer *time.Timer
	ended chan struct{} // closed once the advice was given
}

// hintTouch gives the advice unless the signature is there before. Call stop in any case.
func (t *attempt) hintTouch(ctx context.Context, after time.Duration) *touchHint {
	h := &touchHint{ended: make(chan struct{})}
	h.timer = time.AfterFunc(after, func() {
		var fault error
		defer close(h.ended)
		defer recoverInto(&fault)
		t.instruct(ctx, MsgTouch)
	})
	return h
}

// stop takes the advice back, or waits until it was given: nothing is said behind it.
func (h *touchHint) stop() {
	if !h.timer.Stop() {
		<-h.ended
	}
}
