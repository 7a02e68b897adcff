package certtext

import (
	"crypto"
	_ "crypto/sha1" // old mapfiles
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"strings"
)

// Digests are the hashes of fingerprints, by the names that the configuration has for them.
var Digests = map[string]crypto.Hash{
	"sha1":   crypto.SHA1,
	"sha224": crypto.SHA224,
	"sha256": crypto.SHA256,
	"sha384": crypto.SHA384,
	"sha512": crypto.SHA512,
}

// OpenSSLFingerprint is what openssl x509 -fingerprint writes before a fingerprint, but for its
// case.
func OpenSSLFingerprint(h crypto.Hash) string {
	return strings.ReplaceAll(h.String(), "-", "") + " Fingerprint="
}

// Colons writes a fingerprint as openssl x509 -fingerprint does.
func Colons(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}
