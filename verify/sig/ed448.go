package sig

import (
	"github.com/cloudflare/circl/sign/ed448"

	"pam_pkcs11/internal/certinfo"
)

// verifyEd448 checks a pure Ed448 signature with an empty context (RFC 8032, 5.2; RFC 8410).
func verifyEd448(key certinfo.Ed448PublicKey, message, signature []byte) bool {
	if len(key) != ed448.PublicKeySize || len(signature) != ed448.SignatureSize {
		return false
	}
	return ed448.Verify(ed448.PublicKey(key), message, signature, "")
}
