package pkcs11

import "pam_pkcs11/token"

// meanings are what codes say in the words of package token, whichever function returns them
// (PKCS#11 2.40, section 5.1).
var meanings = map[Code]error{
	CKR_PIN_INCORRECT:            token.ErrPINWrong,
	CKR_PIN_LEN_RANGE:            token.ErrPINFormat,
	CKR_PIN_INVALID:              token.ErrPINFormat,
	CKR_PIN_LOCKED:               token.ErrPINLocked,
	CKR_PIN_EXPIRED:              token.ErrPINExpired,
	CKR_USER_PIN_NOT_INITIALIZED: token.ErrPINNotSet,

	CKR_DEVICE_REMOVED:         token.ErrRemoved,
	CKR_TOKEN_NOT_PRESENT:      token.ErrRemoved,
	CKR_SESSION_HANDLE_INVALID: token.ErrRemoved, // a session ends with its card (PKCS#11 2.40, section 5.6)

	// Errors of the device and of memory.
	CKR_DEVICE_ERROR:         token.ErrFault,
	CKR_DEVICE_MEMORY:        token.ErrFault,
	CKR_HOST_MEMORY:          token.ErrFault,
	CKR_GENERAL_ERROR:        token.ErrFault,
	CKR_TOKEN_NOT_RECOGNIZED: token.ErrFault,
}

// Is makes errors.Is work with the errors of package token.
func (e *Error) Is(target error) bool {
	switch target {
	case token.ErrForeign:
		return e.Func == "C_GetTokenInfo" && e.Code == CKR_TOKEN_NOT_RECOGNIZED
	case token.ErrNotStarted:
		return e.Func == "C_Initialize"
	case token.ErrCancelled:
		return e.ofLogIn() && e.Code == CKR_FUNCTION_CANCELED
	case token.ErrPINUnsupported:
		return e.ofLogIn() && (e.Code == CKR_FUNCTION_NOT_SUPPORTED || e.Code == CKR_USER_TYPE_INVALID)
	}
	meaning, known := meanings[e.Code]
	return known && meaning == target
}

// ofLogIn reports whether a log-in has failed, which may begin with a log-out (Relogin).
func (e *Error) ofLogIn() bool { return e.Func == "C_Login" || e.Func == "C_Logout" }
