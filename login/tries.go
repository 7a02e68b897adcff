package login

import "pam_pkcs11/pkcs11"

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
