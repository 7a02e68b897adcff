package sig

import (
	//lint:ignore SA1019 parameters are inherited, as RFC 3279 has it
	"crypto/dsa"

	"pam_pkcs11/internal/certinfo"
)

// InheritsParameters reports whether a key is a DSA key whose parameters are those of the issuer's
// key (RFC 3279, 2.3.2).
func InheritsParameters(key any) bool {
	k, ok := key.(*dsa.PublicKey)
	return ok && k.P == nil
}

// Inherit gives the key with the parameters of the working key (RFC 5280, 6.1.4 (e)).
func Inherit(key, working any) any {
	if !InheritsParameters(key) {
		return key

	}
	if above, ok := working.(*dsa.PublicKey); ok {
		return &dsa.PublicKey{Parameters: above.Parameters, Y: key.(*dsa.PublicKey).Y}
	}
	return key
}

// WorkingKeys gives the keys of a path, the anchor first, with inherited parameters filled in.
func WorkingKeys(certs []*certinfo.Certificate) []any {
	keys := make([]any, len(certs))
	for i, c := range certs {
		keys[i] = c.PublicKey
		if i > 0 {
			keys[i] = Inherit(c.PublicKey, keys[i-1])
		}
	}
	return keys
}
