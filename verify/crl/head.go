// Package crl reads CRLs (RFC 5280, 5) and checks certificates by them (6.3). A list is read as a
// stream in one pass, whatever its size, or looked up in an index; the check sees only List and
// Source, so that it does not matter where lists come from. Package crl/store fetches and keeps
// them.
package crl

import (
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// Head is a CRL without its entries.
type Head struct {
	Issuer                 certinfo.Name
	RawIssuer              []byte
	rawAlgorithm           []byte
	rawExtensions          []byte // content of crlExtensions, nil when absent
	Algorithm              certinfo.AlgorithmIdentifier
	ThisUpdate, NextUpdate time.Time // NextUpdate is zero when absent
	Number, DeltaBase      *big.Int  // nil when absent; DeltaBase makes it a delta
	Point                  *IssuingPoint
	RawPoint               []byte // the extension's value, nil when absent
	authorityKeyID         []byte // value of the extension
	UnknownCritical        string // an extension, of the CRL or an entry, that forbids its use
	signature              []byte // octets of the signature; nil when they were not read, as from an index
}

// IssuingPoint is the issuingDistributionPoint (RFC 5280, 5.2.5).
type IssuingPoint struct {
	name                        *certinfo.DistributionPointName
	onlyUser, onlyCA, onlyAttrs bool
	reasons                     certinfo.ReasonFlags // 0: all
	Indirect                    bool
}

// Entry is what a CRL says of one certificate.
type Entry struct {
	when   time.Time
	Reason int // CRLReason; -1 when absent
}

// CRL and entry extensions that are understood.
const (
	oidCRLNumber         = "2.5.29.20"
	oidReasonCode        = "2.5.29.21"
	oidInvalidityDate    = "2.5.29.24"
	oidDeltaCRLIndicator = "2.5.29.27"
	oidIssuingPoint      = "2.5.29.28"
	oidCertificateIssuer = "2.5.29.29"
)

// entryKey names the entry of a certificate by its issuer and serial number.
func entryKey(issuerKey string, serial []byte) string { return issuerKey + "\x00" + string(serial) }

// readHeadExtensions reads the content of crlExtensions. One that is critical and not known is
// noted, so that the list is refused when it is used (RFC 5280, 5.2).
func (c *Head) readHeadExtensions(der []byte) error {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return err
	}

	for _, e := range list {
		var err error
		switch e.String() {
		case oidCRLNumber:
			c.Number, err = readNumber(e.Value)
		case oidDeltaCRLIndicator:
			c.DeltaBase, err = readNumber(e.Value)
		case oidIssuingPoint:
			c.RawPoint = e.Value
			c.Point, err = readIssuingPoint(e.Value)
		case certinfo.OIDAuthorityKeyIdentifier.String():
			c.authorityKeyID = e.Value
		// Known, be they critical or not: none changes what the list says of a certificate.
		case certinfo.OIDFreshestCRL.String(), certinfo.OIDIssuerAltName.String(), certinfo.OIDAuthorityInfoAccess.String():
		default:
			if e.Critical {
				c.UnknownCritical = e.String()
			}
		}
		if err != nil {
			return fmt.Errorf("extension %v: %w", e, err)
		}
	}
	return nil
}

// readNumber reads a CRL number.
func readNumber(der []byte) (*big.Int, error) {
	s := cryptobyte.String(der)
	n := new(big.Int)

	malformed := errors.New("not a CRL number")
	if !s.ReadASN1Integer(n) || !s.Empty() {
		return nil, malformed
	}
	// RFC 5280, 5.2.3, has at most 20 octets. A longer one does no harm up to some bound.
	if n.Sign() < 0 || n.BitLen() > 8*64 {
		return nil, malformed
	}
	return n, nil
}

// readIssuingPoint reads an issuingDistributionPoint (RFC 5280, 5.2.5).
func readIssuingPoint(der []byte) (*IssuingPoint, error) {
	s := cryptobyte.String(der)
	var seq, name cryptobyte.String

	var hasName bool
	malformed := errors.New("malformed issuingDistributionPoint")
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadOptionalASN1(&name, &hasName, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, malformed
	}

	var p IssuingPoint
	var err error
	if hasName {
		if p.name, err = certinfo.ParseDistributionPointName(name); err != nil {
			return nil, err
		}
	}

	// The fields are in the order of their tags; 3 is onlySomeReasons, the others are booleans.
	flags := map[uint8]*bool{1: &p.onlyUser, 2: &p.onlyCA, 4: &p.Indirect, 5: &p.onlyAttrs}
	for n := uint8(1); n <= 5; n++ {
		tag := asn1.Tag(n).ContextSpecific()
		if !seq.PeekASN1Tag(tag) {
			continue
		}

		if n == 3 {
			if p.reasons, err = certinfo.ReadReasons(&seq, tag); err != nil {
				return nil, err
			}
			// A list about no reason at all cannot exist.
			if p.reasons == 0 {
				return nil, malformed
			}
			continue
		}

		var content cryptobyte.String
		if !seq.ReadASN1(&content, tag) || len(content) != 1 {
			return nil, malformed
		}
		// In DER a BOOLEAN is 0 or 255 (X.690, 11.1).
		if content[0] != 0 && content[0] != 0xff {
			return nil, malformed
		}
		*flags[n] = content[0] != 0
	}

	// At most one of the three may be set: together they would leave no certificate.
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
