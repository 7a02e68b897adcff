package pkcs11

import "pam_pkcs11/internal/secret"

// TokenFlags are the flags of CK_TOKEN_INFO (PKCS#11 2.40, section 3.2, table 3).
type TokenFlags uint

// Bits of TokenFlags.
const (
	flagWriteProtected     TokenFlags = 0x2
	flagLoginRequired      TokenFlags = 0x4
	flagUserPINInitialized TokenFlags = 0x8
	flagProtectedPath      TokenFlags = 0x100
	flagTokenInitialized   TokenFlags = 0x400
	flagPINCountLow        TokenFlags = 0x10000
	flagPINFinalTry        TokenFlags = 0x20000
	flagPINLocked          TokenFlags = 0x40000
	flagPINToBeChanged     TokenFlags = 0x80000
	flagSOPINCountLow      TokenFlags = 0x100000
	flagSOPINFinalTry      TokenFlags = 0x200000
	flagSOPINLocked        TokenFlags = 0x400000
)

// Initialized reports CKF_TOKEN_INITIALIZED. A token without it counts as no card.
func (f TokenFlags) Initialized() bool { return f&flagTokenInitialized != 0 }

// LoginRequired reports CKF_LOGIN_REQUIRED.
func (f TokenFlags) LoginRequired() bool { return f&flagLoginRequired != 0 }

// UserPINInitialized reports CKF_USER_PIN_INITIALIZED.
func (f TokenFlags) UserPINInitialized() bool { return f&flagUserPINInitialized != 0 }

// PINLocked reports CKF_USER_PIN_LOCKED; no PIN can succeed until it is unblocked.
func (f TokenFlags) PINLocked() bool { return f&flagPINLocked != 0 }

// PINFinalTry reports CKF_USER_PIN_FINAL_TRY; one more wrong PIN locks it.
func (f TokenFlags) PINFinalTry() bool { return f&flagPINFinalTry != 0 }

// PINCountLow reports CKF_USER_PIN_COUNT_LOW; a wrong PIN was entered since the last right one.
func (f TokenFlags) PINCountLow() bool { return f&flagPINCountLow != 0 }

// PINToBeChanged reports CKF_USER_PIN_TO_BE_CHANGED; it is the issuer's, or expired.
func (f TokenFlags) PINToBeChanged() bool { return f&flagPINToBeChanged != 0 }

// ProtectedPath reports CKF_PROTECTED_AUTHENTICATION_PATH; the PIN is entered at the reader.
func (f TokenFlags) ProtectedPath() bool { return f&flagProtectedPath != 0 }

// WriteProtected reports CKF_WRITE_PROTECTED.
func (f TokenFlags) WriteProtected() bool { return f&flagWriteProtected != 0 }

// Token is what C_GetTokenInfo tells of a card. Texts are without padding and printable.
type Token struct {
	Slot                               uint
	Label, Manufacturer, Model, Serial string
	Flags                              TokenFlags
	MinPINLen, MaxPINLen               int // bytes; MaxPINLen 0 is no limit, and none is over secret.MaxPIN
}

// tokenInfo is the library's answer, padding cut by miekg.
type tokenInfo struct {
	label, manufacturer, model, serial string
	flags, minPIN, maxPIN              uint
}

// RefreshToken asks for the token's state now (C_GetTokenInfo): after a refused PIN the flags tell
// what is left.
func (m *Module) RefreshToken(slot uint) (*Token, error) {
	var i tokenInfo
	if err := m.call("C_GetTokenInfo", func() (code Code) { i, code = m.lib.tokenInfo(slot); return code }); err != nil {
		return nil, err
	}

	return &Token{
		Slot:         slot,
		Label:        text(i.label),
		Manufacturer: text(i.manufacturer),
		Model:        text(i.model),
		Serial:       text(i.serial),
		Flags:        TokenFlags(i.flags),
		MinPINLen:    pinLength(i.minPIN),
		MaxPINLen:    pinLength(i.maxPIN),
	}, nil
}

// pinLength bounds what a token says of its PIN: CK_UNAVAILABLE_INFORMATION and other nonsense is
// 0.
func pinLength(n uint) int {
	const nonsense = 1 << 20
	switch {
	case n >= nonsense:
		return 0
	case n > secret.MaxPIN:
		return secret.MaxPIN
	}
	return int(n)
}
