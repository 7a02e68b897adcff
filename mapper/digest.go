package mapper

import (
	"context"
	"crypto"
	_ "crypto/sha1" // old mapfiles
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// digestMapper knows certificates by their fingerprint, or by that of their key (SubjectPublicKeyInfo, RFC 5280, 4.1.2.7). Only a mapfile can name the user: a fingerprint is
// no login.
type digestMapper struct {
	hashes  []crypto.Hash
	ofKey   bool // digest_of = key
	mapfile *mapfile
}

var digests = map[string]crypto.Hash{
	"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
}

// newDigest: without algorithm every length is tried, so that mapfiles made with SHA-1 keep working.
func newDigest(s mappers.Digest, o Options) (mapper, error) {
	m := &digestMapper{hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1, crypto.SHA384, crypto.SHA512, crypto.SHA224}}
	if name := s.Algorithm; name != "" {
		h, known := digests[strings.ToLower(strings.ReplaceAll(name, "-", ""))]
		if !known {
			return nil, errors.New("algorithm " + name + " is not known, expected sha256, sha384, sha512, sha224 or sha1")
		}
		m.hashes = []crypto.Hash{h}
	}
	if s.OfKey {
		m.ofKey = true
		if s.Algorithm == "" {
			m.hashes = []crypto.Hash{crypto.SHA256}
		}
	}
	var err error
	m.mapfile, err = mapfileOf(s.Mapfile, o, true)
	return m, err
}

func (m *digestMapper) binds() bool { return true }

func (m *digestMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers are those about a person, nil is anybody.
func (m *digestMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *person) ([]answer, error) {
	var keys []string
	for _, h := range m.hashes {
		sum := m.sum(cert, h)
		tellRead(ctx, colons(sum))
		keys = append(keys, colons(sum), hex.EncodeToString(sum))
		if !m.ofKey {
			keys = append(keys, opensslFingerprint(h)+colons(sum))
		}
	}
	if m.mapfile == nil {
		return nil, errors.New("mapfile is not set, and a fingerprint is no login")
	}
	return m.mapfile.lookupFor(ctx, keys, user)
}

func (m *digestMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := pick(found, user, false)
	return a, a.user != "" && err == nil, err
}

func (m *digestMapper) sum(cert *certinfo.Certificate, h crypto.Hash) []byte {
	if !m.ofKey {
		return cert.Fingerprint(h)
	}
	hash := h.New()
	hash.Write(cert.RawSPKI)
	return hash.Sum(nil)
}

// opensslFingerprint is what openssl x509 -fingerprint writes before a fingerprint, but for its case.
func opensslFingerprint(h crypto.Hash) string {
	return strings.ReplaceAll(h.String(), "-", "") + " Fingerprint="
}

// colons writes a fingerprint as openssl x509 -fingerprint does.
func colons(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}
