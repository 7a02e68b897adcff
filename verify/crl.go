package verify

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// CRLs in memory (RFC 5280, 5). The evaluation in crlcheck.go sees only crlSource and crlList, so that a list may as
// well be read from an index or a stream.

// crlList is one CRL, however it is kept.
type crlList interface {
	// head returns what stands around the entries.
	head() *crlHead
	// lookup finds the entry for a certificate by its issuer's name and the content octets of its serial number.
	lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error)
	// signedBy checks the CRL's signature.
	signedBy(key any) error
}

// crlSource gives the CRLs, base and delta, that may speak of a certificate. point is the distribution point that is
// being looked at. The evaluation itself checks issuer, scope, dates and signature of each.
type crlSource interface {
	lists(s *search, cert *certinfo.Certificate, point *certinfo.DistributionPoint) ([]crlList, error)
}

// crlHead is a CRL without its entries.
type crlHead struct {
	issuer                 certinfo.Name
	algorithm              certinfo.AlgorithmIdentifier
	thisUpdate, nextUpdate time.Time // nextUpdate is zero when absent
	number, deltaBase      *big.Int  // nil when absent; deltaBase makes it a delta
	point                  *issuingPoint
	rawPoint               []byte // the extension's value, nil when absent
	authorityKeyID         []byte // value of the extension
	unknownCritical        string // an extension, of the CRL or an entry, that forbids its use
}

// issuingPoint is the issuingDistributionPoint (RFC 5280, 5.2.5).
type issuingPoint struct {
	name                        *certinfo.DistributionPointName
	onlyUser, onlyCA, onlyAttrs bool
	reasons                     certinfo.ReasonFlags // 0: all
	indirect                    bool
}

// crlEntry is what a CRL says of one certificate.
type crlEntry struct {
	when   time.Time
	reason int // CRLReason; -1 when absent
}

// CRLReason values that matter (RFC 5280, 5.3.1).
const (
	reasonAbsent        = -1
	reasonRemoveFromCRL = 8
)

var crlReasons = map[int]string{reasonAbsent: "no reason given", 0: "unspecified", 1: "keyCompromise", 2: "cACompromise",
	3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL",
	9: "privilegeWithdrawn", 10: "aACompromise"}

// CRL and entry extensions that are understood.
const (
	oidCRLNumber         = "2.5.29.20"
	oidReasonCode        = "2.5.29.21"
	oidInvalidityDate    = "2.5.29.24"
	oidDeltaCRLIndicator = "2.5.29.27"
	oidIssuingPoint      = "2.5.29.28"
	oidCertificateIssuer = "2.5.29.29"
)

// memoryCRL is a parsed CRL with its entries in a map.
type memoryCRL struct {
	crlHead
	tbs, signature []byte
	entries        map[string]crlEntry
}

func (c *memoryCRL) head() *crlHead { return &c.crlHead }

func (c *memoryCRL) lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error) {
	e, ok := c.entries[entryKey(issuer.Key(), serial)]
	return e, ok, nil
}

func (c *memoryCRL) signedBy(key any) error {
	scheme, err := c.algorithm.Scheme()
	if err != nil {
		return err
	}
	return checkRaw(key, scheme, c.tbs, c.signature)
}

func entryKey(issuerKey string, serial []byte) string { return issuerKey + "\x00" + string(serial) }

// parseCRL reads one DER CRL and nothing after it.
func parseCRL(der []byte) (*memoryCRL, error) {
	c, err := readCRL(der)
	if err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	return c, nil
}

func readCRL(der []byte) (*memoryCRL, error) {
	input := cryptobyte.String(bytes.Clone(der))
	var outer, tbs, algorithm cryptobyte.String
	c := &memoryCRL{entries: map[string]crlEntry{}}
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Element(&tbs, asn1.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !outer.ReadASN1BitStringAsBytes(&c.signature) || !outer.Empty() {
		return nil, errors.New("not a CertificateList")
	}
	c.tbs = tbs
	var err error
	if c.algorithm, err = certinfo.ParseAlgorithmIdentifier(algorithm); err != nil {
		return nil, err
	}
	return c, c.readTBS(tbs, algorithm)
}

func (c *memoryCRL) readTBS(element, outerAlgorithm cryptobyte.String) error {
	var tbs, inner, issuer cryptobyte.String
	version := 0
	malformed := errors.New("malformed tbsCertList")
	if !element.ReadASN1(&tbs, asn1.SEQUENCE) {
		return malformed
	}
	if tbs.PeekASN1Tag(asn1.INTEGER) && (!tbs.ReadASN1Integer(&version) || version != 1) {
		return errors.New("unknown version")
	}
	if !tbs.ReadASN1Element(&inner, asn1.SEQUENCE) || !bytes.Equal(inner, outerAlgorithm) ||
		!tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) {
		return malformed
	}
	var err error
	if c.issuer, err = certinfo.ParseName(issuer); err != nil {
		return err
	}
	if c.thisUpdate, err = certinfo.ReadTime(&tbs); err != nil {
		return fmt.Errorf("thisUpdate: %w", err)
	}
	if tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime) {
		if c.nextUpdate, err = certinfo.ReadTime(&tbs); err != nil {
			return fmt.Errorf("nextUpdate: %w", err)
		}
	}
	var entries, explicit cryptobyte.String
	var hasEntries, hasExtensions bool
	if !tbs.ReadOptionalASN1(&entries, &hasEntries, asn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&explicit, &hasExtensions, asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.Empty() {
		return malformed
	}
	if hasExtensions {
		if version != 1 {
			return errors.New("extensions in a version 1 CRL")
		}
		if err := c.readHeadExtensions(explicit); err != nil {
			return err
		}
	}
	return c.readEntries(entries, version)
}

func (c *crlHead) readHeadExtensions(der []byte) error {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return err
	}
	for _, e := range list {
		var err error
		switch e.String() {
		case oidCRLNumber:
			c.number, err = readNumber(e.Value)
		case oidDeltaCRLIndicator:
			c.deltaBase, err = readNumber(e.Value)
		case oidIssuingPoint:
			c.rawPoint = e.Value
			c.point, err = readIssuingPoint(e.Value)
		case certinfo.OIDAuthorityKeyIdentifier.String():
			c.authorityKeyID = e.Value
		case certinfo.OIDFreshestCRL.String(), certinfo.OIDIssuerAltName.String(), certinfo.OIDAuthorityInfoAccess.String():
		default:
			if e.Critical {
				c.unknownCritical = e.String()
			}
		}
		if err != nil {
			return fmt.Errorf("extension %v: %w", e, err)
		}
	}
	return nil
}

func readNumber(der []byte) (*big.Int, error) {
	s := cryptobyte.String(der)
	n := new(big.Int)
	if !s.ReadASN1Integer(n) || !s.Empty() || n.Sign() < 0 || n.BitLen() > 8*64 {
		return nil, errors.New("not a CRL number")
	}
	return n, nil
}

func readIssuingPoint(der []byte) (*issuingPoint, error) {
	s := cryptobyte.String(der)
	var seq, name cryptobyte.String
	var hasName bool
	malformed := errors.New("malformed issuingDistributionPoint")
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadOptionalASN1(&name, &hasName, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, malformed
	}
	var p issuingPoint
	var err error
	if hasName {
		if p.name, err = certinfo.ParseDistributionPointName(name); err != nil {
			return nil, err
		}
	}
	flags := map[uint8]*bool{1: &p.onlyUser, 2: &p.onlyCA, 4: &p.indirect, 5: &p.onlyAttrs}
	for n := uint8(1); n <= 5; n++ {
		tag := asn1.Tag(n).ContextSpecific()
		if !seq.PeekASN1Tag(tag) {
			continue
		}
		if n == 3 {
			if p.reasons, err = certinfo.ReadReasons(&seq, tag); err != nil {
				return nil, err
			}
			if p.reasons == 0 {
				return nil, malformed
			}
			continue
		}
		var content cryptobyte.String
		if !seq.ReadASN1(&content, tag) || len(content) != 1 || content[0] != 0 && content[0] != 0xff {
			return nil, malformed
		}
		*flags[n] = content[0] != 0
	}
	only := 0
	for _, set := range []bool{p.onlyUser, p.onlyCA, p.onlyAttrs} {
		if set {
			only++
		}
	}
	if !seq.Empty() || only > 1 {
		return nil, malformed
	}
	return &p, nil
}

// readEntries reads revokedCertificates. An entry's issuer is that of the entry before, at first the CRL's (RFC 5280,
// 5.3.3). Of two entries for one certificate the one that does not remove it counts.
func (c *memoryCRL) readEntries(list cryptobyte.String, version int) error {
	issuer := c.issuer.Key()
	for !list.Empty() {
		var seq cryptobyte.String
		if !list.ReadASN1(&seq, asn1.SEQUENCE) {
			return errors.New("malformed entry")
		}
		serial, ok := certinfo.ReadSerial(&seq)
		if !ok {
			return errors.New("entry: malformed serial number")
		}
		entry := crlEntry{reason: reasonAbsent}
		var err error
		if entry.when, err = certinfo.ReadTime(&seq); err != nil {
			return fmt.Errorf("entry: %w", err)
		}
		if !seq.Empty() {
			if version != 1 {
				return errors.New("entry extensions in a version 1 CRL")
			}
			if issuer, err = c.readEntryExtensions(seq, &entry, issuer); err != nil {
				return fmt.Errorf("entry: %w", err)
			}
		}
		key := entryKey(issuer, serial)
		if old, twice := c.entries[key]; !twice || old.reason == reasonRemoveFromCRL {
			c.entries[key] = entry
		}
	}
	return nil
}

func (c *memoryCRL) readEntryExtensions(der []byte, entry *crlEntry, issuer string) (string, error) {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return issuer, err
	}
	for _, e := range list {
		switch e.String() {
		case oidReasonCode:
			s := cryptobyte.String(e.Value)
			if !s.ReadASN1Enum(&entry.reason) || !s.Empty() || entry.reason < 0 || entry.reason > 10 {
				return issuer, errors.New("malformed reason")
			}
		case oidCertificateIssuer:
			name, err := directoryName(e.Value)
			if err != nil {
				return issuer, err
			}
			issuer = name.Key()
		case oidInvalidityDate:
		default:
			if e.Critical {
				c.unknownCritical = e.String()
			}
		}
	}
	return issuer, nil
}

// directoryName takes the one directoryName out of a GeneralNames.
func directoryName(der []byte) (certinfo.Name, error) {
	names, err := certinfo.ParseGeneralNames(der)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n.Tag == certinfo.TagDirectoryName && n.OK {
			return n.Name, nil
		}
	}
	return nil, errors.New("certificateIssuer without a directory name")
}
