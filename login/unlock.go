package login

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
)

// logIn verifies the PIN on the card. A card that another program unlocked is locked again first:
// its state is no proof that this user knows the PIN.
func (t *attempt) logIn(ctx context.Context, c *card, pin *secret.PIN) *Refusal {
	if c.noPIN {
		return nil
	}
	t.at(stepPIN)
	var sent *secret.PIN
	if c.token.Flags.ProtectedPath() {
		done, r := t.startPad(ctx, typeOnPad.text(triesOf(c.token.Flags)), 1)
		if r != nil {
			return r
		}
		defer done()
	} else {
		sent = pin
	}
	err := c.session.Login(sent)
	if errors.Is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		t.log.Info("card was already unlocked, PIN is verified all the same", "token", c.token.Label)
		err = c.session.Relogin(sent)
	}
	if isWrongPIN(err) {
		return t.wrongPIN(ctx, c, err)
	}
	if err != nil {
		return t.loginRefusal(c.token, err)
	}
	c.loggedIn = true
	if c.token.Flags.PINToBeChanged() {
		t.info(ctx, MsgMustChangePIN)
	}
	return nil
}

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

// wrongPIN reads the PIN flags again, since the refused PIN may have been the last try. That only one try is left belongs to the reason of the
// refusal, and is told as that is.
func (t *attempt) wrongPIN(ctx context.Context, c *card, err error) *Refusal {
	fresh, refreshErr := c.module.RefreshToken(c.slot.ID)
	if refreshErr != nil {
		return refuse(PINIncorrect, err)
	}
	switch {
	case fresh.Flags.PINLocked():
		return refuse(PINLocked, err)
	case fresh.Flags.PINFinalTry():
		t.instruct(ctx, MsgWrongFinalTry)
	case fresh.Flags.PINCountLow():
		t.info(ctx, MsgFewTries)
	case t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass:
		t.log.Warn("this token does not tell of wrong PINs: with use_first_pass and try_first_pass it can be locked "+
			"by secrets that were typed for another module", "token", fresh.Label)
	}
	return refuse(PINIncorrect, err)
}

// tries is what a token tells of the tries that are left for its PIN. The flags of CK_TOKEN_INFO
// (PKCS#11 2.40, section 3.2) are all there is: no field of it holds a number.
type tries int

const (
	triesUntold tries = iota // no wrong PIN since the last right one, or a token that never tells
	triesFew                 // CKF_USER_PIN_COUNT_LOW: a wrong PIN since the last right one
	triesLast                // CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks it
)

func triesOf(f pkcs11.TokenFlags) tries {
	switch {
	case f.PINFinalTry():
		return triesLast
	case f.PINCountLow():
		return triesFew
	}
	return triesUntold
}

// severalTriesLeft reports whether more than one try is known to be left: the token tells of no wrong PIN
// since the last right one. CKF_USER_PIN_COUNT_LOW is not enough, since many tokens never set
// CKF_USER_PIN_FINAL_TRY beside it. A token that sets none of the flags cannot be told from one that
// tells; with those, one try is spent by each wrong secret that has the form of a PIN.
func severalTriesLeft(f pkcs11.TokenFlags) bool {
	return !f.PINCountLow() && !f.PINFinalTry() && !f.PINLocked()
}

// byTries is one request for a PIN in its three forms. What guards the tries stands in the request
// itself: an application may show the user nothing else. The sentences are whole, so that they can
// be translated.
type byTries struct{ untold, few, last string }

func (b byTries) text(n tries) string {
	switch n {
	case triesLast:
		return b.last
	case triesFew:
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
