package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Extension is one extension as it stands (RFC 5280, 4.2). OID is nil when an arc of it does not fit an int.
type Extension struct {
	OID      stdasn1.ObjectIdentifier
	RawOID   []byte // content octets of the identifier
	Critical bool
	Value    []byte // content of the OCTET STRING
}

// KeyUsage is the set of RFC 5280, 4.2.1.3; bit i is bit i of the BIT STRING.
type KeyUsage uint16

// The usages.
const (
	KeyUsageDigitalSignature KeyUsage = 1 << iota
	KeyUsageNonRepudiation            // also called contentCommitment
	KeyUsageKeyEncipherment
	KeyUsageDataEncipherment
	KeyUsageKeyAgreement
	KeyUsageKeyCertSign
	KeyUsageCRLSign
	KeyUsageEncipherOnly
	KeyUsageDecipherOnly
)

// Limits on what one certificate may carry; each is far above what CAs issue.
const (
	maxExtensions         = 128
	maxExtKeyUsages       = 256
	maxDistributionPoints = 256
	maxPolicies           = 512
	maxSubtrees           = 2048
)

// readExtension reads an extension that is understood into the certificate; others stay as they are.
func (c *Certificate) readExtension(e Extension) error {
	s := cryptobyte.String(e.Value)
	var err error
	switch e.OID.String() {
	case OIDSubjectKeyIdentifier.String():
		if !s.ReadASN1Bytes(&c.SubjectKeyID, asn1.OCTET_STRING) {
			err = errors.New("not an octet string")
		}
	case OIDKeyUsage.String():
		bits, ok := readBits(&s, asn1.BIT_STRING)
		if !ok {
			err = errors.New("not a key usage")
		}
		c.HasKeyUsage, c.KeyUsage = true, KeyUsage(bits&0x1ff)
	case OIDBasicConstraints.String():
		err = c.readBasicConstraints(&s)
	case OIDExtKeyUsage.String():
		c.HasExtKeyUsage = true
		c.ExtKeyUsage, err = readExtKeyUsage(&s)
	case OIDSubjectAltName.String():
		var seq cryptobyte.String
		if !s.ReadASN1(&seq, asn1.SEQUENCE) {
			return errors.New("not a sequence")
		}
		c.SANs, err = readGeneralNames(seq)
	case OIDAuthorityKeyIdentifier.String():
		err = c.readAuthorityKeyID(&s)
	case OIDNameConstraints.String():
		c.NameConstraints, err = readNameConstraints(&s)
	case OIDCRLDistributionPoints.String():
		c.CRLDistributionPoints, err = readDistributionPoints(&s)
	case OIDFreshestCRL.String():
		c.FreshestCRL, err = readDistributionPoints(&s)
	case OIDCertificatePolicies.String():
		c.HasPolicies = true
		c.Policies, err = readPolicies(&s)
	case OIDPolicyMappings.String():
		c.PolicyMappings, err = readPolicyMappings(&s)
	case OIDPolicyConstraints.String():
		c.PolicyConstraints, err = readPolicyConstraints(&s)
	case OIDInhibitAnyPolicy.String():
		n, ok := readSmallInteger(&s, asn1.INTEGER)
		if !ok {
			err = errors.New("not a number")
		}
		c.InhibitAnyPolicy = n
	case OIDAuthorityInfoAccess.String():
		// Only hints where to ask: a malformed one leaves no hints, it does not spoil the certificate.
		c.OCSPServers, c.CAIssuers = readInfoAccess(s)
		return nil
	default:
		return nil
	}
	if err == nil && !s.Empty() {
		err = errTrailing
	}
	return err
}

func (c *Certificate) readBasicConstraints(s *cryptobyte.String) error {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return errors.New("not a sequence")
	}
	if seq.PeekASN1Tag(asn1.BOOLEAN) && !seq.ReadASN1Boolean(&c.IsCA) {
		return errors.New("cA is not a boolean")
	}
	if seq.PeekASN1Tag(asn1.INTEGER) {
		n, ok := readSmallInteger(&seq, asn1.INTEGER)
		if !ok {
			return errors.New("pathLenConstraint is not a number from 0")
		}
		c.MaxPathLen = n
	}
	if !seq.Empty() {
		return errTrailing
	}
	c.BasicConstraintsValid = true
	return nil
}

// readExtKeyUsage reads the purposes; one whose identifier cannot be held is left out, it is none that is asked for.
func readExtKeyUsage(s *cryptobyte.String) ([]stdasn1.ObjectIdentifier, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errors.New("not a sequence with a purpose in it")
	}
	var usages []stdasn1.ObjectIdentifier
	for n := 0; !seq.Empty(); n++ {
		oid, _, ok := readOID(&seq)
		if !ok || n == maxExtKeyUsages {
			return nil, errors.New("malformed purpose, or too many")
		}
		if oid != nil {
			usages = append(usages, oid)
		}
	}
	return usages, nil
}

func (c *Certificate) readAuthorityKeyID(s *cryptobyte.String) error {
	var seq, names, serial, keyID cryptobyte.String
	var hasKey, hasNames, hasSerial bool
	if !s.ReadASN1(&seq, asn1.SEQUENCE) ||
		!seq.ReadOptionalASN1(&keyID, &hasKey, asn1.Tag(0).ContextSpecific()) ||
		!seq.ReadOptionalASN1(&names, &hasNames, asn1.Tag(1).ContextSpecific().Constructed()) ||
		!seq.ReadOptionalASN1(&serial, &hasSerial, asn1.Tag(2).ContextSpecific()) || !seq.Empty() {
		return errors.New("malformed")
	}
	if hasKey {
		c.AuthorityKeyID = keyID
	}
	c.AuthoritySerial = serial
	var err error
	c.AuthorityIssuer, err = readGeneralNames(names)
	return err
}

// readInfoAccess reads the URLs of authorityInfoAccess (RFC 5280, 4.2.2.1).
func readInfoAccess(s cryptobyte.String) (ocsp, issuers []string) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, nil
	}
	for n := 0; !seq.Empty() && n < maxGeneralNames; n++ {
		var description cryptobyte.String
		if !seq.ReadASN1(&description, asn1.SEQUENCE) {
			return ocsp, issuers
		}
		method, _, ok := readOID(&description)
		location, err := readGeneralName(&description)
		if !ok || err != nil || !location.OK || location.Tag != TagURI {
			continue
		}
		if u, err := url.Parse(location.Text); err != nil || u.Host == "" && u.Scheme != "ldap" {
			continue
		}
		switch {
		case method.Equal(oidAccessOCSP):
			ocsp = append(ocsp, location.Text)
		case method.Equal(oidAccessCAIssuers):
			issuers = append(issuers, location.Text)
		}
	}
	return ocsp, issuers
}

// understood lists the extensions of a certificate whose meaning this project knows: a critical one of these is
// processed (RFC 5280, 4.2), any other critical extension refuses the certificate.
var understood = map[string]bool{
	OIDSubjectKeyIdentifier.String(): true, OIDKeyUsage.String(): true, OIDSubjectAltName.String(): true,
	OIDIssuerAltName.String(): true, OIDBasicConstraints.String(): true, OIDNameConstraints.String(): true,
	OIDCRLDistributionPoints.String(): true, OIDCertificatePolicies.String(): true, OIDPolicyMappings.String(): true,
	OIDAuthorityKeyIdentifier.String(): true, OIDPolicyConstraints.String(): true, OIDExtKeyUsage.String(): true,
	OIDFreshestCRL.String(): true, OIDInhibitAnyPolicy.String(): true, OIDAuthorityInfoAccess.String(): true,
	OIDOCSPNoCheck.String(): true, OIDNTDSSecurity.String(): true,
}

// UnknownCritical returns the critical extensions of the certificate that this project does not understand.
func (c *Certificate) UnknownCritical() []Extension {
	var unknown []Extension
	for _, e := range c.Extensions {
		if e.Critical && (e.OID == nil || !understood[e.OID.String()]) {
			unknown = append(unknown, e)
		}
	}
	return unknown
}

// Extension returns the extension with the given identifier, nil when the certificate has none.
func (c *Certificate) Extension(oid stdasn1.ObjectIdentifier) *Extension {
	for i := range c.Extensions {
		if c.Extensions[i].OID.Equal(oid) {
			return &c.Extensions[i]
		}
	}
	return nil
}

// String gives the identifier in dotted form, or its octets when it cannot be held.
func (e Extension) String() string {
	if e.OID == nil {
		return fmt.Sprintf("#%x", e.RawOID)
	}
	return e.OID.String()
}
