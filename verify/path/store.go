package path

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Limits on ca_dir; each is far above what an administrator keeps there.
const (
	maxCAFile      = 16 << 20 // octets of one file
	maxCAFiles     = 10000
	maxCAOctets    = 64 << 20 // octets of all files
	maxCACerts     = 20000
	MaxFromCard    = 64 // intermediates that travel with the certificate
	maxCAProblems  = 100
	pemCertificate = "CERTIFICATE"
)

// Store holds the certificates of ca_dir, or of another key, by subject: several CAs may have the
// same name.
type Store struct {
	Key      string // of the configuration, for messages
	All      []*certinfo.Certificate
	bySubj   map[string][]*certinfo.Certificate
	known    map[string]bool // by raw octets
	Problems []Problem
	reported map[Problem]bool
	read     map[string]bool // files, by resolved path

	origin    map[*certinfo.Certificate]string // the file in which each of all was found first
	rejected  map[string]string                // by raw octets: the file that rejects the certificate for logins
	unwanted  []*certinfo.Certificate          // that the trust settings of their files do not let count
	newForms  []newForm
	EKU       rules.EKU // the purposes of a login
	WithLists bool      // crl_dir is the same path: files of CRLs are used, if not here
}

// Problem is something wrong with one file of ca_dir that did not stop the rest.
type Problem struct {
	Path string
	Text string
}

// newForm is a certificate that releases before this one did not find in its file.
type newForm struct {
	cert *certinfo.Certificate
	form string
}

// NewStore is empty; what is loaded is of ca_dir unless Key says otherwise.
func NewStore() *Store {
	return &Store{
		Key:      "ca_dir",
		bySubj:   map[string][]*certinfo.Certificate{},
		known:    map[string]bool{},
		reported: map[Problem]bool{},
		read:     map[string]bool{},
		origin:   map[*certinfo.Certificate]string{},
		rejected: map[string]string{},
	}
}

// Add takes a certificate unless it is there already, as hash links make it, and reports whether it
// did.
func (s *Store) Add(c *certinfo.Certificate) bool {
	if s.known[string(c.Raw)] {
		return false
	}
	s.known[string(c.Raw)] = true
	s.All = append(s.All, c)
	key := c.Subject.Key()
	s.bySubj[key] = append(s.bySubj[key], c)
	return true
}

// Named lists the certificates with a subject.
func (s *Store) Named(subject certinfo.Name) []*certinfo.Certificate {
	return s.bySubj[subject.Key()]
}

// Incomplete reports whether a file of ca_dir is not used, or not all of it.
func (s *Store) Incomplete() bool { return len(s.Problems) > 0 }

// Has reports whether this very certificate is in ca_dir.
func (s *Store) Has(c *certinfo.Certificate) bool { return s.known[string(c.Raw)] }

func (s *Store) problem(path, format string, args ...any) {
	if len(s.Problems) < maxCAProblems {
		s.Problems = append(s.Problems, Problem{path, fmt.Sprintf(format, args...)})
	}
}

// crlLink is the name of a hash link to a CRL, which may stand in the same directory.
var crlLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-fA-F]{8}\.r[0-9]+$`) })

// AddFile takes the certificates of one file, see readCAFile. A file of which nothing is used is a
// problem.
func (s *Store) AddFile(path string, data []byte) {
	file := readCAFile(data)
	for _, text := range file.problems {
		s.problem(path, "%s", text)
	}

	for _, e := range file.entries {
		if len(s.All) >= maxCACerts {
			s.problem(path, "too many certificates")
			return
		}
		s.addEntry(path, e)
	}

	// A directory may be shared with CRLs; a file of nothing but
	// these is a problem only where nobody else reads it.
	listsOnly := len(file.other) > 0 && !slices.ContainsFunc(file.other, isNoList)
	accounted := len(file.entries) > 0 || len(file.problems) > 0
	if accounted || listsOnly && s.WithLists {
		return
	}

	text := "no certificate in it"
	if len(file.other) > 0 {
		text += ", but " + file.other[0]
	}
	s.problem(path, "%s", text)
}

// addEntry takes one certificate, unless the file itself says that it is not for logins.
func (s *Store) addEntry(path string, e caEntry) {
	c, err := certinfo.Parse(e.der)
	switch {
	case err != nil:
		s.problem(path, "%v", err)
		return
	// A rejected certificate is remembered, so that it counts in no chain, whoever sends it.
	case e.trust.rejects(s.EKU):
		s.rejected[string(c.Raw)] = path
		s.unwanted = append(s.unwanted, c)
		s.problem(path, "%s is rejected for logins by the trust settings of the file", refusal.Describe(c))
		return
	case e.trust.forOthers(s.EKU):
		s.unwanted = append(s.unwanted, c)
		s.problem(path, "%s is trusted for other purposes than a login by the trust settings of the file", refusal.Describe(c))
		return
	}

	if s.Add(c) {
		s.origin[c] = path
		// Earlier releases did not take a certificate with such an extension.
		if odd := c.Oddities(); e.newForm == "" && len(odd) > 0 && strings.HasPrefix(odd[0], "extension ") {
			e.newForm = "a certificate whose " + odd[0]
		}
		if e.newForm != "" {
			s.newForms = append(s.newForms, newForm{cert: c, form: e.newForm})
		}
	}

	// It stays in the store all the same: the refusal of a chain then names the real reason.
	if err := rules.CheckExtensions(c); err != nil {
		s.problem(path, "%s can be part of no chain: %s", refusal.Describe(c), err.Detail)
	}
}

// isNoList reports whether what a file holds beside certificates is no CRL.
func isNoList(what string) bool { return what != otherCRL && what != otherPEMCRL }

// looksLikeCRL tells a DER CRL from a certificate: it has a time where a certificate has another
// sequence (RFC 5280, 4.1 and 5.1).
func looksLikeCRL(der cryptobyte.String) bool {
	var outer, tbs cryptobyte.String
	if !der.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return false
	}

	var algorithm, issuer cryptobyte.String
	begins := tbs.SkipOptionalASN1(asn1.INTEGER) && tbs.ReadASN1(&algorithm, asn1.SEQUENCE) && tbs.ReadASN1(&issuer, asn1.SEQUENCE)
	return begins && (tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime))
}
