package login

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/token"
)

// pinPadWait is how long a user may take for one PIN at the reader's own keypad; readers give up
// before.
const pinPadWait = 2 * time.Minute

// startPad tells the user, in a text in his language, to type so many PINs at the reader's keypad
// and announces the wait for them; done ends it.
func (t *attempt) startPad(ctx context.Context, text string, entries int) (done func(), r *Refusal) {
	t.instructText(ctx, text)
	if err := t.conv.Wait(ctx, time.Duration(entries)*pinPadWait); err != nil {
		return nil, refuse(PINNotRead, err)
	}
	return func() { _ = t.conv.Wait(ctx, 0) }, nil
}

// wrongPIN asks what the refused PIN has left of the tries, unless the card has said it. That only
// one try is left belongs to the reason of the refusal, and is told as that is.
func (t *attempt) wrongPIN(ctx context.Context, c *card, err error) *Refusal {
	left, known := c.triesAfter(ctx, err)
	if !known {
		return refuse(PINIncorrect, err)
	}

	switch n := noticeOf(left); {
	case n == noticeLocked:
		// One try left is told even with PAM_SILENT: the next wrong PIN locks the card.
		return refuse(PINLocked, err)
	case n == noticeLast:
		t.instruct(ctx, MsgWrongFinalTry)
	case left.Counted:
		t.info(ctx, MsgTriesLeft, left.Left)
	case n == noticeFew:
		t.info(ctx, MsgFewTries)
	// Such a token gives no warning before it is locked.
	case t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass:
		t.log.Warn("this token does not tell of wrong PINs: with use_first_pass and try_first_pass it can be locked "+
			"by secrets that were typed for another module", "token", c.token.Label)
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

// notice is what the user is told of the tries that are left.
type notice int

const (
	noticeNone  notice = iota // nothing
	noticeFew                 // a wrong PIN was typed, and nobody knows how many are left
	noticeCount               // so many are left, two or more
	noticeLast
	noticeLocked
)

// alwaysShownBelow: fewer tries are always told.
const alwaysShownBelow = 3

// noticeOf returns what the user is told. A number is, where it is small, or smaller than the card
// has shown before.
func noticeOf(n token.Tries) notice {
	switch {
	case n.Level == token.Locked, n.Counted && n.Left <= 0:
		return noticeLocked
	case n.Level == token.Last, n.Counted && n.Left == 1:
		return noticeLast
	case n.Counted && (n.Left < alwaysShownBelow || n.Left < n.Most || n.Level == token.Few):
		return noticeCount
	case n.Level == token.Few:
		return noticeFew
	}
	return noticeNone
}

// byTries is one request for a PIN in its forms. What guards the tries stands in the request
// itself: an application may show the user nothing else. The sentences are whole, so that they can
// be translated.
type byTries struct{ plain, few, left, last string }

// request is the form for the tries that are left, in the user's language; args are what the other
// forms take.
func (t *attempt) request(b byTries, n token.Tries, args ...any) string {
	switch noticeOf(n) {
	case noticeLast:
		return t.say(b.last, args...)
	case noticeCount:
		return t.say(b.left, append(args, n.Left)...)
	case noticeFew:
		return t.say(b.few, args...)
	}
	return t.say(b.plain, args...)
}

var (
	promptPIN      = byTries{MsgPINPrompt, MsgPINPromptFew, MsgPINPromptLeft, MsgPINPromptLast}
	promptNamedPIN = byTries{MsgPINPromptNamed, MsgPINPromptNamedFew, MsgPINPromptNamedLeft, MsgPINPromptNamedLast}
	promptOldPIN   = byTries{MsgChangeCurrentPIN, MsgChangePINFew, MsgChangePINLeft, MsgChangePINLast}
	typeOnPad      = byTries{MsgPINPad, MsgPINPadFew, MsgPINPadLeft, MsgPINPadLast}
	changeOnPad    = byTries{MsgChangePad, MsgChangePadFew, MsgChangePadLeft, MsgChangePadLast}
)
