package piv_test

import (
	"pam_pkcs11/token"
	"pam_pkcs11/verify/sig"
)

// verifies is the login's own check of a signature.
func verifies(key any, s token.Signature, message []byte) bool {
	return sig.Check(key, s.Scheme, message, s.Bytes) == nil
}
