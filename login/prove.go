package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/verify"
)

// challengeSize is the number of random bytes that the card signs.
const challengeSize = 128

// prove lets the card sign a fresh challenge of this machine's (never of the card's: a card that
// picks its own challenge can replay an old answer) with the key of each certificate that qualified,
// in order, until one does. A certificate without a usable key does not end the login; an answer that
// does not verify does, because the card then holds a copied certificate.
func (t *attempt) prove(ctx context.Context, c *card, pin *secret.PIN) (candidate, *Refusal) {
	if !t.conf.Module.Policy.Signature {
		return c.qualified[0], nil
	}
	t.info(ctx, MsgSigning)
	var first *Refusal
	for _, q := range c.qualified {
		if err := ctx.Err(); err != nil {
			return candidate{}, refuse(DeadlinePassed, err)
		}
		r := t.proveOne(ctx, c, q, pin)
		if r == nil {
			return q, nil
		}
		if r.Outcome != SigningFailed && r.Outcome != NoPrivateKey {
			return candidate{}, r
		}
		t.log.Info("certificate without usable key", "subject", subjectOf(q.object), "detail", r.Err)
		if first == nil {
			first = r
		}
	}
	return candidate{}, first
}

func (t *attempt) proveOne(ctx context.Context, c *card, q candidate, pin *secret.PIN) *Refusal {
	key, err := c.session.SigningKey(q.object)
	if err != nil {
		return t.signRefusal(ctx, c, err)
	}
	challenge := make([]byte, challengeSize)
	if _, err := io.ReadFull(t.a.random(), challenge); err != nil {
		return refuse(NoRandom, err)
	}

	hint := t.hintTouch(ctx, key.AlwaysAuthenticate && c.token.Flags.ProtectedPath() || t.discreet)
	sig, err := c.session.Sign(key, q.object.Cert, challenge, func() error {
		return t.logInForKey(ctx, c, pin)
	})
	hint.stop()
	if err != nil {
		return t.signRefusal(ctx, c, err)
	}
	if err := verify.CheckSignature(q.object.Cert, sig.Scheme, challenge, sig.Bytes); err != nil {
		return refuse(ProofFailed, fmt.Errorf("the signature does not belong to the certificate's key: %w", err))
	}
	return nil
}

// logInForKey verifies the PIN once more for a key that wants it for each signature
// (CKA_ALWAYS_AUTHENTICATE). At a reader's keypad that is a second entry: the user is told, and has
// the time for it again.
func (t *attempt) logInForKey(ctx context.Context, c *card, pin *secret.PIN) error {
	if !c.token.Flags.ProtectedPath() {
		return c.session.LoginContextSpecific(pin)
	}
	done, r := t.startPad(ctx, MsgPINPadAgain, 1)
	if r != nil {
		return r
	}
	defer done()
	if err := c.session.LoginContextSpecific(nil); err != nil {
		return &padError{err}
	}
	return nil
}

// padError is the failure of an entry at the reader's keypad.
type padError struct{ err error }

func (e *padError) Error() string { return e.err.Error() }
func (e *padError) Unwrap() error { return e.err }

// signRefusal names the failure of a signature, and of the PIN for it.
func (t *attempt) signRefusal(ctx context.Context, c *card, err error) *Refusal {
	var r *Refusal
	var pad *padError
	switch {
	case errors.As(err, &r):
		return r
	case isRemoved(err):
		return refuse(CardRemoved, err)
	case isWrongPIN(err):
		return t.wrongPIN(ctx, c, err)
	case errors.Is(err, pkcs11.CKR_PIN_LOCKED):
		return refuse(PINLocked, err)
	case pkcs11.IsFault(err):
		return refuse(TokenFault, err)
	case errors.Is(err, pkcs11.ErrNoKey):
		return refuse(NoPrivateKey, err)
	case errors.As(err, &pad) && errors.Is(err, pkcs11.CKR_FUNCTION_CANCELED):
		return refuse(PINNotRead, err)
	}
	return refuse(SigningFailed, err)
}

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
