package login

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
)

// askPIN gets the PIN for this card, and no other: taken over from the stack where the options say so,
// typed otherwise. It never returns a PIN that the token cannot have; a token with a protected path
// gets nil, since the reader asks. A taken-over secret never spends the last try.
func (t *attempt) askPIN(ctx context.Context, c *card, named bool) (*secret.PIN, *Refusal) {
	f := c.token.Flags
	if r := t.tokenWithoutPIN(c); r != nil || c.noPIN {
		return nil, r
	}
	if f.ProtectedPath() {
		t.warnTries(ctx, f)
		return nil, nil
	}
	if t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass {
		pin, r := t.takeOver(ctx, c)
		if r != nil || pin != nil {
			return pin, r
		}
	}
	t.warnTries(ctx, f)
	text := t.say(MsgPINPrompt, t.tokenType())
	if named {
		text = t.say(MsgPINPromptNamed, c.token.Label)
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

// tokenWithoutPIN handles tokens that need no login and have no PIN to verify.
func (t *attempt) tokenWithoutPIN(c *card) *Refusal {
	f := c.token.Flags
	if f.LoginRequired() || f.UserPINInitialized() {
		return nil
	}
	if t.conf.Global.RequirePIN {
		return &Refusal{Outcome: PINNotVerifiable, Err: errors.New("the token has no PIN"), Restore: "require_pin = false"}
	}
	t.log.Warn("login without a PIN: the token has none and require_pin is false", "token", c.token.Label)
	c.noPIN = true
	return nil
}

func (t *attempt) warnTries(ctx context.Context, f pkcs11.TokenFlags) {
	switch {
	case f.PINFinalTry():
		t.info(ctx, MsgFinalTry)
	case f.PINCountLow():
		t.info(ctx, MsgFewTries)
	}
}

// takeOver gets the secret of an earlier module. nil, nil means: ask.
func (t *attempt) takeOver(ctx context.Context, c *card) (*secret.PIN, *Refusal) {
	pin, err := t.conv.TakeOver(ctx, Authtok)
	if err != nil {
		return nil, refuse(PINNotRead, err)
	}
	var r *Refusal
	switch {
	case pin == nil:
		r = refuse(PINNotRead, errors.New("use_first_pass: no earlier module left a secret"))
	case c.token.Flags.PINFinalTry():
		r = refuse(PINNotRead, errors.New("a secret of an earlier module is never sent on the last try"))
	default:
		r = t.mayBeSent(c.token, pin, t.takenPattern())
	}
	if r == nil {
		return pin, nil
	}
	pin.Wipe()
	if t.conf.Global.UseFirstPass {
		return nil, r
	}
	if pin != nil {
		t.log.Info("secret of an earlier module not used as PIN, asking", "reason", r.Outcome.String(), "detail", r.Err)
	}
	return nil, nil
}

// takenPattern: unless pin_pattern says otherwise only digits are taken over, so that a password is
// not sent to a card and does not spend one of its tries.
func (t *attempt) takenPattern() *regexp.Regexp {
	if p := t.conf.Global.PINPattern; p != nil {
		return p
	}
	return digits()
}

var digits = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+$`) })

// mayBeSent tells whether this answer can be the token's PIN at all.
func (t *attempt) mayBeSent(k *pkcs11.Token, pin *secret.PIN, pattern *regexp.Regexp) *Refusal {
	n := pin.Len()
	if n == 0 {
		return t.emptyPIN(k)
	}
	if low, high := pinLimits(k); n < low || n > high {
		return refuse(PINDoesNotFit, fmt.Errorf("the answer is outside the token's PIN length of %d to %d", low, high))
	}
	if pattern != nil && !pattern.Match(pin.Bytes()) {
		return refuse(PINDoesNotFit, fmt.Errorf("the answer does not match %s", pattern))
	}
	return nil
}

func (t *attempt) emptyPIN(k *pkcs11.Token) *Refusal {
	if t.conf.Global.NullOK && !t.req.NoEmptyPIN && k.MinPINLen == 0 && !k.Flags.ProtectedPath() {
		return nil
	}
	if t.conf.Global.EmptyPIN == "fallback" {
		return refuse(EmptyPINFallback, errors.New("empty answer and empty_pin = fallback"))
	}
	return refuse(PINEmpty, errors.New("empty answer"))
}

// pinLimits are the token's own where they make sense.
func pinLimits(k *pkcs11.Token) (low, high int) {
	low, high = max(k.MinPINLen, 1), k.MaxPINLen
	if high <= 0 || high > secret.MaxPIN || high < low {
		high = secret.MaxPIN
	}
	if low > high {
		low = 1
	}
	return low, high
}
