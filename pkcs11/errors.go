package pkcs11

import (
	"errors"
	"fmt"

	"pam_pkcs11/token"
)

// Errors that are ours and not the library's.
var (
	// ErrNoKey says that the token has no signing key that belongs to the certificate.
	ErrNoKey error = &token.Error{Kind: token.ErrNoKey, Err: errors.New("no signing key with the certificate's CKA_ID on the token")}
	// ErrNoWait says that the library cannot wait for slot events; the caller looks at the slots
	// every 250 ms or less.
	ErrNoWait error = &token.Error{Kind: token.ErrNoWait, Err: errors.New("the PKCS#11 library cannot wait for slot events")}
	// ErrBusy says that an earlier WaitForSlotEvent was given up and is still inside the library.
	ErrBusy = errors.New("the PKCS#11 library is still in C_WaitForSlotEvent")
	// ErrClosed says that the module or session was closed.
	ErrClosed = errors.New("the PKCS#11 module or session is closed")
	// ErrUnsupportedKey says that no signature scheme of ours fits the certificate's key and the
	// token's mechanisms.
	ErrUnsupportedKey = errors.New("no signature mechanism for this key")
	// ErrNoCgo is what Load returns in a program built without cgo.
	ErrNoCgo = errors.New("built without cgo: PKCS#11 libraries cannot be loaded")
)

// Error is the refusal of a PKCS#11 function.
type Error struct {
	Func string // such as "C_Login"
	Code Code
}

// Error returns "C_Login: CKR_PIN_INCORRECT".
func (e *Error) Error() string { return e.Func + ": " + e.Code.Error() }

// Unwrap makes errors.Is work with a Code.
func (e *Error) Unwrap() error { return e.Code }

// LieError says that a library broke the rules of an answer: lengths over the buffer's, no function
// list and the like.
type LieError struct {
	Func   string // such as "C_Sign"
	Detail string
}

// Error returns "C_Sign: " and the detail.
func (e *LieError) Error() string { return e.Func + ": " + e.Detail }

// Error returns the public name, such as "CKR_PIN_INCORRECT", or the number of a value that has
// none.
func (c Code) Error() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	if c >= CKR_VENDOR_DEFINED {
		return fmt.Sprintf("CKR_VENDOR_DEFINED+0x%X", uint(c-CKR_VENDOR_DEFINED))
	}
	return fmt.Sprintf("CKR 0x%X", uint(c))
}

// String is the same as Error.
func (c Code) String() string { return c.Error() }

// isGone reports whether no call on the session can do anything after this error.
func isGone(err error) bool {
	for _, c := range []Code{CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED,
		CKR_CRYPTOKI_NOT_INITIALIZED, CKR_SLOT_ID_INVALID} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}
