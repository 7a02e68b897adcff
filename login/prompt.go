package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// pinEntry is the PIN for one card, and where it comes from.
type pinEntry struct {
	pin   *secret.PIN // nil where the reader asks, or the token has none
	taken bool        // an earlier module's secret, which nobody has typed for this card
}

// askPIN gets the PIN for this card, and no other: taken over from the stack where the options say
// so, typed otherwise. It never returns a PIN that the token cannot have; a token with a protected
// path gets nil, since the reader asks.
func (t *attempt) askPIN(ctx context.Context, c *card, named bool) (pinEntry, *Refusal) {
	if r := t.tokenWithoutPIN(c); r != nil || c.noPIN {
		return pinEntry{}, r
	}

	if c.token.PIN.AtReader {
		t.warnTries(ctx, c.token)
		return pinEntry{}, nil
	}

	var misfit *secret.PIN // what an earlier module left and cannot be the PIN
	defer func() { misfit.Wipe() }()
	// Its owner is wiped here where it is not the PIN; what is returned is the caller's.
	if t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass {
		taken, r := t.takeOver(ctx, c)
		if r != nil || taken.fits {
			return pinEntry{taken.secret, true}, r
		}
		misfit = taken.secret
	}

	t.warnTries(ctx, c.token)
	pin, r := t.typedPIN(ctx, c, named)
	if r != nil {
		return pinEntry{}, r
	}

	// The user may have typed the password once more: what cannot be the PIN costs no try.
	if sameSecret(pin, misfit) {
		pin.Wipe()
		return pinEntry{}, &Refusal{
			Outcome: PINDoesNotFit,
			Err:     errors.New("the answer is the secret of an earlier module, which cannot be the PIN"),
			Restore: restorePattern,
		}
	}
	return pinEntry{pin: pin}, nil
}

// typedPIN asks once. What the token cannot have as its PIN is refused here.
func (t *attempt) typedPIN(ctx context.Context, c *card, named bool) (*secret.PIN, *Refusal) {
	n := c.token.PIN.Tries
	text := t.request(promptPIN, n, t.tokenType(c.conf))
	if named {
		text = t.request(promptNamedPIN, n, c.token.Label)
	}

	pin, err := t.conv.Prompt(ctx, text)
	if err != nil {
		return nil, refuse(PINNotRead, err)
	}
	if r := t.mayBeSent(c.token, pin, t.conf.Global.PINPattern); r != nil {
		pin.Wipe()
		return nil, r
	}
	return pin, nil
}

// askAgain asks once after the card has refused an earlier module's secret, as try_first_pass
// promises; the prompt tells what that has left of the tries. The same text is not sent a second
// time.
func (t *attempt) askAgain(ctx context.Context, c *card, named bool, wrong *secret.PIN) (*secret.PIN, *Refusal) {
	// What is left of the tries stands in the prompt, and may be too little to ask.
	fresh, err := c.session.Refresh(ctx)
	if err != nil {
		return nil, refuse(PINIncorrect, err)
	}
	c.token = fresh
	if r := t.mayAsk(c.token); r != nil {
		return nil, r
	}

	pin, r := t.typedPIN(ctx, c, named)
	if r != nil && r.Outcome == PINNotRead {
		// There is nobody to ask: what counts is that the secret was wrong.
		return nil, refuse(PINIncorrect, fmt.Errorf("the secret of an earlier module is not the PIN, and %w", r.Err))
	}
	if r != nil {
		return nil, r
	}

	// Sent once more it would only cost another try.
	if sameSecret(pin, wrong) {
		pin.Wipe()
		return nil, refuse(PINIncorrect, errors.New("the answer is the secret that the card has just refused; it was not sent"))
	}
	return pin, nil
}

// sameSecret reports whether two secrets are there and equal. An empty one has rules of its own.
func sameSecret(a, b *secret.PIN) bool {
	return a.Len() > 0 && bytes.Equal(a.Bytes(), b.Bytes())
}

// tokenWithoutPIN handles tokens that need no login and have no PIN to verify.
func (t *attempt) tokenWithoutPIN(c *card) *Refusal {
	if c.token.PIN.Required || c.token.PIN.Set {
		return nil
	}
	if t.conf.Global.RequirePIN {
		return &Refusal{Outcome: PINNotVerifiable, Err: errors.New("the token has no PIN"), Restore: "require_pin = false"}
	}

	t.log.Warn("login without a PIN: the token has none and require_pin is false", "token", c.token.Label)
	c.noPIN = true
	return nil
}

func (t *attempt) warnTries(ctx context.Context, k *token.Info) {
	switch n := k.PIN.Tries; noticeOf(n) {
	case noticeLast:
		t.info(ctx, MsgFinalTry)
	case noticeCount:
		t.info(ctx, MsgTriesLeft, n.Left)
	case noticeFew:
		t.info(ctx, MsgFewTries)
	}
}

// takenSecret is what an earlier module left in the stack.
type takenSecret struct {
	secret *secret.PIN // the caller wipes it; nil when there is none
	fits   bool        // it may be sent; else it cannot be the PIN, and the user is to be asked
}

// takeOver gets the secret of an earlier module. With use_first_pass, what may not be sent is a
// refusal; with try_first_pass the user is asked.
func (t *attempt) takeOver(ctx context.Context, c *card) (takenSecret, *Refusal) {
	pin, err := t.conv.TakeOver(ctx, Authtok)
	// With try_first_pass the user can still be asked, unless the time is over.
	if err != nil && (t.conf.Global.UseFirstPass || ctx.Err() != nil) {
		return takenSecret{}, refuse(PINNotRead, err)
	}

	r := t.mayBeTaken(c.token, pin)
	if r == nil {
		return takenSecret{pin, true}, nil
	}

	if t.conf.Global.UseFirstPass {
		pin.Wipe()
		return takenSecret{}, r
	}

	if pin != nil || err != nil {
		t.log.Info("secret of an earlier module not used as PIN, asking",
			(&Refusal{Outcome: r.Outcome, Err: errors.Join(r.Err, err), Restore: r.Restore}).attrs()...)
	}
	if r.Outcome != PINDoesNotFit {
		// It might be the PIN, which only was not to be sent by itself: the user may type the same.
		pin.Wipe()
		pin = nil
	}
	return takenSecret{secret: pin}, nil
}

// mayBeTaken reports whether an earlier module's secret may be sent to the token. Nobody has typed
// it for this card, and it is a password most of the time: it must have the form that the
// administrator wrote down for PINs, and a wrong one must not be the token's last try or the one
// before.
func (t *attempt) mayBeTaken(k *token.Info, pin *secret.PIN) *Refusal {
	if pin == nil {
		return refuse(PINNotRead, errors.New("no earlier module left a secret"))
	}

	// Also where nothing may be sent: what is no number is told from what may be the PIN, and
	// refused when the user types it again (askPIN).
	pattern := t.conf.Global.PINPattern
	looksLike := pattern
	if looksLike == nil {
		looksLike = digits()
	}
	if r := t.mayBeSent(k, pin, looksLike); r != nil {
		return r
	}

	switch {
	case pattern == nil:
		return &Refusal{
			Outcome: PINNotRead,
			Err:     errors.New("without pin_pattern no secret of an earlier module is sent to a card"),
			Restore: restorePattern,
		}
	case !pattern.Match(pin.Bytes()):
		// It is empty, which nullok would let pass.
		return refuse(PINDoesNotFit, fmt.Errorf("the secret of an earlier module does not match %s", pattern))
	case noticeOf(k.PIN.Tries) != noticeNone:
		return refuse(PINNotRead, errors.New("a secret of an earlier module is sent only where "+
			"the token tells of no wrong PIN since the last right one"))
	}
	return nil
}

// restorePattern is what lets earlier modules' secrets be sent.
const restorePattern = `pin_pattern = "[0-9]+" (the form that the PINs of these cards have)`

// digits is the form that a PIN is taken to have where pin_pattern does not say.
var digits = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+$`) })

// mayBeSent reports whether this answer can be the token's PIN at all.
func (t *attempt) mayBeSent(k *token.Info, pin *secret.PIN, pattern *regexp.Regexp) *Refusal {
	n := pin.Len()
	if n == 0 {
		return t.emptyPIN(k)
	}
	if low, high := PINLimits(k); n < low || n > high {
		return refuse(PINDoesNotFit, fmt.Errorf("the answer is outside the token's PIN length of %d to %d", low, high))
	}

	if pattern != nil && !pattern.Match(pin.Bytes()) {
		return refuse(PINDoesNotFit, fmt.Errorf("the answer does not match %s", pattern))
	}
	return nil
}

func (t *attempt) emptyPIN(k *token.Info) *Refusal {
	allowed := t.conf.Global.NullOK && !t.req.NoEmptyPIN
	if allowed && k.PIN.MinLen == 0 && !k.PIN.AtReader {
		return nil
	}
	if t.conf.Global.EmptyPIN == "fallback" {
		return refuse(EmptyPINFallback, errors.New("empty answer and empty_pin = fallback"))
	}
	return refuse(PINEmpty, errors.New("empty answer"))
}

// PINLimits returns how many bytes a PIN of the card has at least and at most: the card's own
// limits where they make sense.
func PINLimits(k *token.Info) (low, high int) {
	low = max(k.PIN.MinLen, 1)
	high = k.PIN.MaxLen

	// Limits that cannot be true refuse no PIN: those of package secret hold in their place.
	if high <= 0 || high > secret.MaxPIN || high < low {
		high = secret.MaxPIN
	}
	if low > high {
		low = 1
	}
	return low, high
}
