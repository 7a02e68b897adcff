package verify

import (
	"errors"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/sig"
)

// CheckSignature checks the proof of the private key: that signature was made over message, in the
// given scheme, with the private key of cert. Hashes below SHA-224 are refused: the challenge is
// ours and every card can do better.
func CheckSignature(cert *certinfo.Certificate, scheme certinfo.SignatureScheme, message, signature []byte) error {
	if cert.PublicKeyErr != nil {
		return refusal.New(cert, ReasonKeyUnsupported, "%v", cert.PublicKeyErr)
	}

	if sig.WeakHash(scheme.Hash) {
		return refusal.New(cert, ReasonWeakSignature, "%v is not accepted as proof of the private key", scheme.Hash)
	}

	if err := sig.Check(cert.PublicKey, scheme, message, signature); err != nil {
		reason := ReasonBadSignature
		if errors.Is(err, sig.ErrKeyType) {
			reason = ReasonKeyUnsupported
		}
		return refusal.New(cert, reason, "proof of the private key (%v): %v", scheme, err)
	}
	return nil
}
