// Package certinfo reads X.509 certificates as they travel: the raw DER is kept, and the parse is
// our own, because Go's crypto/x509 refuses certificates that real smart-card PKIs issue (brainpool
// and RSASSA-PSS keys, negative serials, odd names). It is strict where ambiguity would be
// dangerous (DER, duplicates, control characters in text) and lenient where only one entry is
// spoilt. It decides nothing: package verify decides whether a certificate is good.
package certinfo

import (
	"bytes"
	"crypto"
	"crypto/x509"
	stdasn1 "encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCertificate is the size in octets above which nothing is read as a certificate.
const MaxCertificate = 64 << 10

// Certificate is an X.509 certificate (RFC 5280, 4.1). It is not to be changed after Parse.
type Certificate struct {
	Raw, RawTBS, RawSubject, RawIssuer, RawSPKI []byte

	Version             int      // 1 to 3
	SerialBytes         []byte   // content octets of the INTEGER as they stand
	Serial              *big.Int // may be negative
	NotBefore, NotAfter time.Time
	Subject, Issuer     Name
	SignatureAlgorithm  AlgorithmIdentifier
	Signature           []byte

	PublicKeyAlgorithm AlgorithmIdentifier
	PublicKey          any   // see ParsePublicKey; nil when PublicKeyErr is not nil
	PublicKeyErr       error // why the key cannot be used
	Extensions         []Extension

	HasKeyUsage    bool
	KeyUsage       KeyUsage
	HasExtKeyUsage bool
	ExtKeyUsage    []stdasn1.ObjectIdentifier

	BasicConstraintsValid bool // the extension is there
	IsCA                  bool
	MaxPathLen            int // -1 when absent

	SubjectKeyID, AuthorityKeyID []byte
	AuthorityIssuer              []GeneralName // of the authority key identifier
	AuthoritySerial              []byte        // of the authority key identifier, content octets

	SANs                  []GeneralName
	CRLDistributionPoints []DistributionPoint
	FreshestCRL           []DistributionPoint
	OCSPServers           []string // URLs of authorityInfoAccess, in order
	CAIssuers             []string

	HasPolicies       bool
	Policies          []Policy
	PolicyMappings    []PolicyMapping
	PolicyConstraints *PolicyConstraints // nil when absent
	InhibitAnyPolicy  int                // -1 when absent
	NameConstraints   *NameConstraints   // nil when absent

	tolerated []string
}

// Oddities lists what the certificate breaks of the rules of its encoding in places that do not
// decide what it means, in English: extensions that are unusable, octets behind its end. Package
// verify decides whether it is good all the same.
func (c *Certificate) Oddities() []string {
	all := slices.Clone(c.tolerated)
	for _, e := range c.Extensions {
		if e.oddCritical {
			all = append(all, "extension "+e.Name()+": TRUE of critical is not the octet FF")
		}
		if e.Unusable != "" {
			all = append(all, "extension "+e.Name()+" cannot be used: "+e.Unusable)
		}
	}

	return all
}

// tolerate notes an oddity. Clip makes append copy, for readExtension puts the fields back to what
// they were.
func (c *Certificate) tolerate(what string) { c.tolerated = append(slices.Clip(c.tolerated), what) }

// ParsePadded is Parse for what a card holds: certificates are kept in buffers of a fixed size, and
// what follows the certificate, whatever it is, is cut off. Oddities says so.
func ParsePadded(der []byte) (*Certificate, error) {
	s := cryptobyte.String(der)
	var element cryptobyte.String
	// Without a whole element, or without anything behind it, there is nothing to cut off.
	if len(der) > MaxCertificate || !s.ReadASN1Element(&element, asn1.SEQUENCE) || s.Empty() {
		return Parse(der)
	}

	c, err := Parse(element)
	if err == nil {
		c.tolerate(fmt.Sprintf("%d octets behind its end are cut off", len(s)))
	}
	return c, err
}

// Parse reads one DER certificate of at most MaxCertificate octets and nothing after it. The bytes
// are copied. A key that cannot be used is no error here, see PublicKeyErr; neither are an unusable
// entry in an alternative name and an unusable extension, see Extension.
func Parse(der []byte) (*Certificate, error) {
	c, err := parse(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return c, nil
}

// parse reads the Certificate, and the tbsCertificate by readTBS.
func parse(der []byte) (*Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("larger than %d octets", MaxCertificate)
	}

	c := &Certificate{Raw: bytes.Clone(der), MaxPathLen: -1, InhibitAnyPolicy: -1}
	// Everything that is read from here on points into this copy.
	input := cryptobyte.String(c.Raw)
	var outer, tbs cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) {
		return nil, errors.New("not a DER sequence")
	}
	if !input.Empty() {
		return nil, errTrailing
	}

	if !outer.ReadASN1Element(&tbs, asn1.SEQUENCE) {
		return nil, errors.New("no tbsCertificate")
	}

	c.RawTBS = tbs
	var rawAlgorithm cryptobyte.String
	var err error
	if !outer.ReadASN1Element(&rawAlgorithm, asn1.SEQUENCE) {
		return nil, errors.New("no signature algorithm")
	}

	if c.SignatureAlgorithm, err = ParseAlgorithmIdentifier(rawAlgorithm); err != nil {
		return nil, err
	}

	if !outer.ReadASN1BitStringAsBytes(&c.Signature) || !outer.Empty() {
		return nil, errors.New("malformed signature value")
	}

	return c, c.readTBS(tbs, rawAlgorithm)
}

// readTBS reads the tbsCertificate, whose algorithm has to be the one beside the signature.
func (c *Certificate) readTBS(element, outerAlgorithm cryptobyte.String) error {
	var tbs cryptobyte.String
	if !element.ReadASN1(&tbs, asn1.SEQUENCE) {
		return errors.New("no tbsCertificate")
	}
	if err := c.readVersionAndSerial(&tbs); err != nil {
		return err
	}

	var algorithm, issuer, validity, subject, spki cryptobyte.String
	// RFC 5280, 4.1.1.2. The one outside is not signed: it must not
	// decide how the signature is checked.
	if !tbs.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !bytes.Equal(algorithm, outerAlgorithm) {
		return errors.New("inner and outer signature algorithm differ")
	}

	if !tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) || !tbs.ReadASN1(&validity, asn1.SEQUENCE) {
		return errors.New("malformed tbsCertificate")
	}
	if !tbs.ReadASN1Element(&subject, asn1.SEQUENCE) || !tbs.ReadASN1Element(&spki, asn1.SEQUENCE) {
		return errors.New("malformed tbsCertificate")
	}

	c.RawIssuer = issuer
	c.RawSubject = subject
	c.RawSPKI = spki
	var err error
	if c.Issuer, err = ParseName(issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if c.Subject, err = ParseName(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}

	if c.NotBefore, err = readTime(&validity); err != nil {
		return fmt.Errorf("notBefore: %w", err)
	}
	if c.NotAfter, err = readTime(&validity); err != nil {
		return fmt.Errorf("notAfter: %w", err)
	}
	if !validity.Empty() {
		return errTrailing
	}

	if c.PublicKeyAlgorithm, err = spkiAlgorithm(spki); err != nil {
		return err
	}
	// A key that cannot be used is no error: the certificate can be shown, and other fields mapped.
	c.PublicKey, c.PublicKeyErr = ParsePublicKey(spki)
	return c.readOptionalParts(&tbs)
}

// readVersionAndSerial reads the first two fields.
func (c *Certificate) readVersionAndSerial(tbs *cryptobyte.String) error {
	c.Version = 1
	var version cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&version, &present, asn1.Tag(0).ContextSpecific().Constructed()) {
		return errors.New("malformed version")
	}
	// DER leaves the default out, so version 1 is the absent one.
	if present {
		n, ok := readSmallInteger(&version, asn1.INTEGER)
		if !ok || !version.Empty() || n > 2 {
			return errors.New("unknown version")
		}
		c.Version = n + 1
	}

	serial, ok := ReadSerial(tbs)
	if !ok {
		return errors.New("malformed serial number")
	}

	c.SerialBytes = serial
	c.Serial = signedInteger(serial)
	return nil
}

// signedInteger reads two's complement.
func signedInteger(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	// A negative number is written as itself plus two to the power of its bits.
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// readOptionalParts reads the unique identifiers, which mean nothing here, and the extensions.
func (c *Certificate) readOptionalParts(tbs *cryptobyte.String) error {
	// Unique identifiers came with version 2 (RFC 5280, 4.1.2.8).
	for _, tag := range []asn1.Tag{asn1.Tag(1).ContextSpecific(), asn1.Tag(2).ContextSpecific()} {
		if tbs.PeekASN1Tag(tag) && (!tbs.SkipASN1(tag) || c.Version < 2) {
			return errors.New("malformed unique identifier")
		}
	}

	var explicit, list cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&explicit, &present, asn1.Tag(3).ContextSpecific().Constructed()) || !tbs.Empty() {
		return errors.New("malformed tbsCertificate")
	}
	if !present {
		return nil
	}
	// RFC 5280, 4.1.2.9.
	if c.Version != 3 {
		return errors.New("extensions in a certificate that is not version 3")
	}
	if !explicit.ReadASN1(&list, asn1.SEQUENCE) || !explicit.Empty() {
		return errors.New("malformed extensions")
	}

	// An extension that is there twice could mean two things (RFC 5280, 4.2).
	extensions, twice, err := readExtensions(list)
	switch {
	case err != nil:
		return err
	case twice != "":
		return errTwice(twice)
	}

	c.Extensions = extensions
	for i := range c.Extensions {
		c.readExtension(&c.Extensions[i])
	}
	return nil
}

// ParseExtensions reads the DER of an Extensions sequence, as it also stands in CRLs and OCSP. An
// extension that is there twice is an error (RFC 5280, 4.2).
func ParseExtensions(der []byte) ([]Extension, error) {
	list, twice, err := ParseDoubledExtensions(der)
	if err == nil && twice != "" {
		err = errTwice(twice)
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// ParseDoubledExtensions is ParseExtensions for callers that can use a list in which an extension
// is there twice: twice names the first that is, "" when none is.
func ParseDoubledExtensions(der []byte) (list []Extension, twice string, err error) {
	s := cryptobyte.String(der)
	var content cryptobyte.String
	if !s.ReadASN1(&content, asn1.SEQUENCE) || !s.Empty() {
		return nil, "", errors.New("malformed extensions")
	}
	return readExtensions(content)
}

// errTwice is the error of an extension that is there twice.
func errTwice(extension string) error { return fmt.Errorf("extension %s is there twice", extension) }

// readExtensions reads the content of an Extensions.
func readExtensions(list cryptobyte.String) (extensions []Extension, twice string, err error) {
	seen := map[string]bool{}
	for !list.Empty() {
		var seq cryptobyte.String
		if !list.ReadASN1(&seq, asn1.SEQUENCE) || len(extensions) == maxExtensions {
			return nil, "", errors.New("malformed extension, or too many")
		}

		e, ok := readOneExtension(seq)
		if !ok {
			return nil, "", errors.New("malformed extension")
		}

		if seen[string(e.RawOID)] && twice == "" {
			twice = e.String()
		}
		seen[string(e.RawOID)] = true
		extensions = append(extensions, e)
	}
	return extensions, twice, nil
}

// readOneExtension reads the content of an Extension. `critical` counts as TRUE also where it is
// not the FF of DER: older encoders write 01, and what its issuer calls critical must not be passed
// over.
func readOneExtension(seq cryptobyte.String) (e Extension, ok bool) {
	if e.OID, e.RawOID, ok = readOID(&seq); !ok {
		return e, false
	}
	if seq.PeekASN1Tag(asn1.BOOLEAN) {
		var critical cryptobyte.String
		if !seq.ReadASN1(&critical, asn1.BOOLEAN) || len(critical) != 1 {
			return e, false
		}
		e.Critical = critical[0] != 0
		e.oddCritical = e.Critical && critical[0] != 0xff
	}
	return e, seq.ReadASN1Bytes(&e.Value, asn1.OCTET_STRING) && seq.Empty()
}

// SelfIssued reports whether subject and issuer are the same name (RFC 5280, 6.1).
func (c *Certificate) SelfIssued() bool { return c.Subject.Equal(c.Issuer) }

// SerialHex returns the serial number in upper-case hexadecimal pairs joined by sep: "0B", or
// "01:AF" with ":". A negative one has "-" before its magnitude, as OpenSSL prints it.
func (c *Certificate) SerialHex(sep string) string {
	magnitude := new(big.Int).Abs(c.Serial).Bytes()
	// The magnitude of zero has no octets.
	if len(magnitude) == 0 {
		magnitude = []byte{0}
	}

	pairs := make([]string, len(magnitude))
	for i, b := range magnitude {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}

	s := strings.Join(pairs, sep)
	if c.Serial.Sign() < 0 {
		s = "-" + s
	}
	return s
}

// Fingerprint returns the hash of the whole certificate; nil when h is not linked in.
func (c *Certificate) Fingerprint(h crypto.Hash) []byte {
	if !h.Available() {
		return nil
	}
	d := h.New()
	d.Write(c.Raw)
	return d.Sum(nil)
}

// Equal reports whether both are the same certificate, octet by octet.
func (c *Certificate) Equal(d *Certificate) bool {
	return c != nil && d != nil && bytes.Equal(c.Raw, d.Raw)
}

// X509 parses the certificate with the standard library, which refuses many that are used in
// practice.
func (c *Certificate) X509() (*x509.Certificate, error) { return x509.ParseCertificate(c.Raw) }
