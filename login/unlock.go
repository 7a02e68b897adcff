package login

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/token"
)

// pinPadWait is how long a user may take for one PIN at the reader's own keypad; readers give up before.
const pinPadWait = 2 * time.Minute

// startPad tells the user to type so many PINs at the reader's keypad and announces the wait for them; done
// ends it.
func (t *attempt) startPad(ctx context.Context, text string, entries int) (done func(), r *Refusal) {
	t.instruct(ctx, text)
	if err := t.conv.Wait(ctx, time.Duration(entries)*pinPadWait); err != nil {
		return nil, refuse(PINNotRead, err)
	}
	return func() { _ = t.conv.Wait(ctx, 0) }, nil
}

// wrongPIN asks what the refused PIN has left of the tries, unless the card has said it. That only one try is left
// belongs to the reason of the refusal, and is told as that is.
func (t *attempt) wrongPIN(ctx context.Context, c *card, err error) *Refusal {
	left, known := c.triesAfter(ctx, err)
	if !known {
		return refuse(PINIncorrect, err)
	}

	switch left.Level {
	case token.Locked:
		return refuse(PINLocked, err)
	case token.Last:
		t.instruct(ctx, MsgWrongFinalTry)
	case token.Few:
		t.info(ctx, MsgFewTries)
	case token.Untold:
		if t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass {
			t.log.Warn("this token does not tell of wrong PINs: with use_first_pass and try_first_pass it can be locked "+
				"by secrets that were typed for another module", "token", c.token.Label)
		}
	}
	return refuse(PINIncorrect, err)
}

// triesAfter returns the tries that a wrong PIN has left.
func (c *card) triesAfter(ctx context.Context, wrong error) (left token.Tries, known bool) {
	var e *token.Error
	if errors.As(wrong, &e) && e.Tries.Counted {
		return e.Tries, true
	}
	fresh, err := c.session.Refresh(ctx)
	if err != nil {
		return token.Tries{}, false
	}
	return fresh.PIN.Tries, true
}

// byTries is one request for a PIN in its three forms. What guards the tries stands in the request
// itself: an application may show the user nothing else. The sentences are whole, so that they can
// be translated.
type byTries struct{ untold, few, last string }

func (b byTries) text(n token.Level) string {
	switch n {
	case token.Last:
		return b.last
	case token.Few:
		return b.few
	}
	return b.untold
}

var (
	promptPIN      = byTries{MsgPINPrompt, MsgPINPromptFew, MsgPINPromptLast}
	promptNamedPIN = byTries{MsgPINPromptNamed, MsgPINPromptNamedFew, MsgPINPromptNamedLast}
	promptOldPIN   = byTries{MsgChangeCurrentPIN, MsgChangePINFew, MsgChangePINLast}
	typeOnPad      = byTries{MsgPINPad, MsgPINPadFew, MsgPINPadLast}
	changeOnPad    = byTries{MsgChangePad, MsgChangePadFew, MsgChangePadLast}
)
