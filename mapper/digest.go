package mapper

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapfile"
	"pam_pkcs11/mapper/internal/mapping"
)

// digestMapper knows certificates by their fingerprint, or by that of their key
// (SubjectPublicKeyInfo, RFC 5280, 4.1.2.7). Only a mapfile can name the user: a fingerprint is no
// login.
type digestMapper struct {
	hashes  []crypto.Hash
	ofKey   bool // digest_of = key
	mapfile *mapfile.File
}

// newDigest sets up a digestMapper. Without algorithm it tries every length, so that mapfiles made
// with SHA-1 keep working.
func newDigest(s mappers.Digest, o Options) (mapping.Mapper, error) {
	m := &digestMapper{
		hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1, crypto.SHA384, crypto.SHA512, crypto.SHA224},
	}
	if name := s.Algorithm; name != "" {
		h, known := certtext.Digests[strings.ToLower(strings.ReplaceAll(name, "-", ""))]
		if !known {
			return nil, errors.New("algorithm " + name + " is not known, expected sha256, sha384, sha512, sha224 or sha1")
		}
		m.hashes = []crypto.Hash{h}
	}

	// No old mapfile has fingerprints of keys: there is nothing to stay compatible with.
	if s.OfKey {
		m.ofKey = true
		if s.Algorithm == "" {
			m.hashes = []crypto.Hash{crypto.SHA256}
		}
	}

	var err error
	m.mapfile, err = mapfile.New(s.Mapfile, o, true)
	return m, err
}

// Binds implements mapping.Mapper.
func (m *digestMapper) Binds() bool { return true }

// Find implements mapping.Mapper.
func (m *digestMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers returns the answers about a person, or about anybody where user is nil.
func (m *digestMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) ([]mapping.Answer, error) {
	var keys []string
	for _, h := range m.hashes {
		sum := m.sum(cert, h)
		mapping.TellRead(ctx, certtext.Colons(sum))
		// Mapfiles are written with the output of openssl x509 -fingerprint, with colons and with
		// its heading, or with that of sha256sum, without.
		keys = append(keys, certtext.Colons(sum), hex.EncodeToString(sum))
		if !m.ofKey {
			keys = append(keys, certtext.OpenSSLFingerprint(h)+certtext.Colons(sum))
		}
	}

	if m.mapfile == nil {
		return nil, errors.New("mapfile is not set, and a fingerprint is no login")
	}
	return m.mapfile.LookupFor(ctx, keys, user)
}

// Match implements mapping.Mapper.
func (m *digestMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := mapping.Pick(found, user, false)
	return a, a.User != "" && err == nil, err
}

func (m *digestMapper) sum(cert *certinfo.Certificate, h crypto.Hash) []byte {
	if !m.ofKey {
		return cert.Fingerprint(h)
	}
	hash := h.New()
	hash.Write(cert.RawSPKI)
	return hash.Sum(nil)
}
