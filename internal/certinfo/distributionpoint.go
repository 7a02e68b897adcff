package certinfo

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// DistributionPoint is one of the places of a CRL (RFC 5280, 4.2.1.13).
type DistributionPoint struct {
	Name       *DistributionPointName // nil when absent
	Reasons    ReasonFlags            // 0 when absent: all reasons
	HasReasons bool
	CRLIssuer  []GeneralName
}

// DistributionPointName has either full names or one name relative to the CRL issuer.
type DistributionPointName struct {
	FullName []GeneralName
	Relative RDN
}

// ReasonFlags is the set of RFC 5280, 4.2.1.13; bit i is bit i of the BIT STRING (bit 0 is unused
// there).
type ReasonFlags uint32

// AllReasons is every reason a CRL can be about (RFC 5280, 6.3.2).
const AllReasons ReasonFlags = 0x1fe

// maxDistributionPoints is how many one certificate may carry, far above what CAs issue.
const maxDistributionPoints = 256

// ReadReasons reads the ReasonFlags of a CRL's issuingDistributionPoint under its context tag.
func ReadReasons(s *cryptobyte.String, tag asn1.Tag) (ReasonFlags, error) {
	bits, ok := readBits(s, tag)
	if !ok {
		return 0, errors.New("malformed reasons")
	}
	return ReasonFlags(bits), nil
}

// readDistributionPoints reads the content of cRLDistributionPoints or freshestCRL.
func readDistributionPoints(s *cryptobyte.String) ([]DistributionPoint, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, errors.New("not a sequence")
	}

	var points []DistributionPoint
	for !seq.Empty() {
		var point cryptobyte.String
		if !seq.ReadASN1(&point, asn1.SEQUENCE) || len(points) == maxDistributionPoints {
			return nil, errors.New("malformed distribution point, or too many")
		}

		p, err := readDistributionPoint(point)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

// readDistributionPoint reads one DistributionPoint.
func readDistributionPoint(s cryptobyte.String) (p DistributionPoint, err error) {
	var name, issuer cryptobyte.String
	var hasName, hasIssuer bool
	if !s.ReadOptionalASN1(&name, &hasName, asn1.Tag(0).ContextSpecific().Constructed()) {
		return p, errors.New("malformed distribution point")
	}

	if hasName {
		if p.Name, err = readDistributionPointName(name); err != nil {
			return p, err
		}
	}

	if tag := asn1.Tag(1).ContextSpecific(); s.PeekASN1Tag(tag) {
		bits, ok := readBits(&s, tag)
		if !ok {
			return p, errors.New("malformed reasons")
		}
		p.Reasons = ReasonFlags(bits)
		p.HasReasons = true
	}

	if !s.ReadOptionalASN1(&issuer, &hasIssuer, asn1.Tag(2).ContextSpecific().Constructed()) || !s.Empty() {
		return p, errors.New("malformed distribution point")
	}

	p.CRLIssuer, err = readGeneralNames(issuer)
	return p, err
}

// ParseDistributionPointName reads the content of the [0] EXPLICIT distributionPoint field, as it
// also stands in a CRL's issuingDistributionPoint (RFC 5280, 5.2.5).
func ParseDistributionPointName(content []byte) (*DistributionPointName, error) {
	return readDistributionPointName(content)
}

// readDistributionPointName reads the CHOICE, under its tag.
func readDistributionPointName(s cryptobyte.String) (*DistributionPointName, error) {
	var content cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&content, &tag) || !s.Empty() {
		return nil, errors.New("malformed distribution point name")
	}

	var n DistributionPointName
	var err error
	// The tag around a CHOICE is explicit, those of its choices are implicit (X.680, 31.2.7).
	switch tag {
	case asn1.Tag(0).ContextSpecific().Constructed():
		n.FullName, err = readGeneralNames(content)
	case asn1.Tag(1).ContextSpecific().Constructed():
		n.Relative, err = readRDN(content)
	default:
		err = errors.New("distribution point name has neither form")
	}

	return &n, err
}
