// Package crl reads CRLs (RFC 5280, 5) and judges certificates by them (6.3). A list is read as a stream in one pass,
// whatever its size, or answered from an index; the judgement sees only List and Source, so that it does not matter
// where lists come from. Where that is, and what is kept of them, is the room of crl/store.
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

func entryKey(issuerKey string, serial []byte) string { return issuerKey + "\x00" + string(serial) }

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

func readNumber(der []byte) (*big.Int, error) {
	s := cryptobyte.String(der)
	n := new(big.Int)
	if !s.ReadASN1Integer(n) || !s.Empty() || n.Sign() < 0 || n.BitLen() > 8*64 {
		return nil, errors.New("not a CRL number")
	}
	return n, nil
}

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
