package verify

import (
	"pam_pkcs11/verify/sig"
)

// Warm checks the signature that a CA of ca_dir made on itself, if there is one, and forgets the answer: the first
// check of a process takes several times as long as the next, and a caller may have time for it now. It may run beside
// everything else.
func (v *Verifier) Warm() {
	if len(v.store.All) == 0 {
		return
	}
	ca := v.store.All[0]
	if scheme, err := ca.SignatureAlgorithm.Scheme(); err == nil && ca.PublicKeyErr == nil {
		_ = sig.Check(ca.PublicKey, scheme, ca.RawTBS, ca.Signature)
	}
}
