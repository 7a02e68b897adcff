package verify

import (
	"encoding/pem"
	"fmt"
	"regexp"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// Limits on ca_dir; each is far above what an administrator keeps there.
const (
	maxCAFile      = 16 << 20 // octets of one file
	maxCAFiles     = 10000
	maxCAOctets    = 64 << 20 // octets of all files
	maxCACerts     = 20000
	maxFromCard    = 64 // intermediates that travel with the certificate
	maxCAProblems  = 100
	pemCertificate = "CERTIFICATE"
)

// store holds the certificates of ca_dir, or of another key, by subject: several CAs may have the same name.
type store struct {
	key      string // of the configuration, for messages
	all      []*certinfo.Certificate
	bySubj   map[string][]*certinfo.Certificate
	known    map[string]bool // by raw octets
	problems []Problem
	reported map[Problem]bool
	read     map[string]bool // files, by resolved path
}

func newStore() *store {
	return &store{key: "ca_dir", bySubj: map[string][]*certinfo.Certificate{}, known: map[string]bool{},
		reported: map[Problem]bool{}, read: map[string]bool{}}
}

// add takes a certificate unless it is there already, as hash links make it.
func (s *store) add(c *certinfo.Certificate) {
	if s.known[string(c.Raw)] {
		return
	}
	s.known[string(c.Raw)] = true
	s.all = append(s.all, c)
	key := c.Subject.Key()
	s.bySubj[key] = append(s.bySubj[key], c)
}

// has tells whether the very certificate is in ca_dir.
func (s *store) has(c *certinfo.Certificate) bool { return s.known[string(c.Raw)] }

func (s *store) problem(path, format string, args ...any) {
	if len(s.problems) < maxCAProblems {
		s.problems = append(s.problems, Problem{path, fmt.Sprintf(format, args...)})
	}
}

// crlLink is the name of a hash link to a CRL, which may stand in the same directory.
var crlLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-fA-F]{8}\.r[0-9]+$`) })

// addFile takes the certificates of one file, PEM or DER, several one after the other.
func (s *store) addFile(path string, data []byte) {
	ders, other := split(data)
	for _, der := range ders {
		c, err := certinfo.Parse(der)
		if err != nil {
			s.problem(path, "%v", err)
			continue
		}
		if len(s.all) >= maxCACerts {
			s.problem(path, "too many certificates")
			return
		}
		s.add(c)
	}
	if len(ders) == 0 && !other {
		s.problem(path, "no certificate in it")
	}
}

// split finds the certificates of a file. other tells that it holds something else that is well-formed (a CRL, a key).
func split(data []byte) (ders [][]byte, other bool) {
	if len(data) > 0 && data[0] == 0x30 {
		rest := cryptobyte.String(data)
		for !rest.Empty() {
			var der cryptobyte.String
			if !rest.ReadASN1Element(&der, asn1.SEQUENCE) {
				ders = append(ders, rest) // parsed once more, for the error
				return ders, other
			}
			if looksLikeCRL(der) {
				other = true
				continue
			}
			ders = append(ders, der)
		}
		return ders, other
	}
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case pemCertificate, "X509 CERTIFICATE":
			ders = append(ders, block.Bytes)
		default:
			other = true
		}
	}
	return ders, other
}

// looksLikeCRL tells a DER CRL from a certificate: it has a time where a certificate has another sequence (RFC 5280,
// 4.1 and 5.1).
func looksLikeCRL(der cryptobyte.String) bool {
	var outer, tbs cryptobyte.String
	if !der.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return false
	}
	var algorithm, issuer cryptobyte.String
	return tbs.SkipOptionalASN1(asn1.INTEGER) && tbs.ReadASN1(&algorithm, asn1.SEQUENCE) && tbs.ReadASN1(&issuer, asn1.SEQUENCE) &&
		(tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime))
}
