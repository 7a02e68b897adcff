package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Extension is one extension as it stands (RFC 5280, 4.2). OID is nil when an arc of it does not
// fit an int.
type Extension struct {
	OID      stdasn1.ObjectIdentifier
	RawOID   []byte // content octets of the identifier
	Critical bool
	Value    []byte // content of the OCTET STRING

	// Unusable is why the value of an extension of a certificate that is understood cannot be used;
	// "" when it can. Such an extension is never absent: package verify decides whether it refuses
	// the certificate.
	Unusable string

	oddCritical bool // TRUE of critical is another octet than FF
}

// extensionNames are the names of RFC 5280 and its kin.
var extensionNames = map[string]string{
	OIDSubjectKeyIdentifier.String():   "subjectKeyIdentifier",
	OIDKeyUsage.String():               "keyUsage",
	OIDSubjectAltName.String():         "subjectAltName",
	OIDIssuerAltName.String():          "issuerAltName",
	OIDBasicConstraints.String():       "basicConstraints",
	OIDNameConstraints.String():        "nameConstraints",
	OIDCRLDistributionPoints.String():  "cRLDistributionPoints",
	OIDCertificatePolicies.String():    "certificatePolicies",
	OIDPolicyMappings.String():         "policyMappings",
	OIDAuthorityKeyIdentifier.String(): "authorityKeyIdentifier",
	OIDPolicyConstraints.String():      "policyConstraints",
	OIDExtKeyUsage.String():            "extKeyUsage",
	OIDFreshestCRL.String():            "freshestCRL",
	OIDInhibitAnyPolicy.String():       "inhibitAnyPolicy",
	OIDAuthorityInfoAccess.String():    "authorityInfoAccess",
	OIDOCSPNoCheck.String():            "ocsp-nocheck",
	OIDNTDSSecurity.String():           "NTDS security",
}

// Name returns the extension's name in the standards, or its identifier.
func (e Extension) Name() string {
	if name, known := extensionNames[e.OID.String()]; known {
		return name
	}
	return e.String()
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
	maxExtensions   = 128
	maxExtKeyUsages = 256
)

// extensionReaders read the extensions that are understood. nil is for one that is read only where
// it is needed.
var extensionReaders = map[string]func(*Certificate, *cryptobyte.String) error{
	OIDSubjectKeyIdentifier.String():   (*Certificate).readSubjectKeyID,
	OIDKeyUsage.String():               (*Certificate).readKeyUsage,
	OIDBasicConstraints.String():       (*Certificate).readBasicConstraints,
	OIDExtKeyUsage.String():            (*Certificate).readExtKeyUsage,
	OIDSubjectAltName.String():         (*Certificate).readSubjectAltName,
	OIDIssuerAltName.String():          (*Certificate).readIssuerAltName,
	OIDAuthorityKeyIdentifier.String(): (*Certificate).readAuthorityKeyID,
	OIDNameConstraints.String():        (*Certificate).readNameConstraints,
	OIDCRLDistributionPoints.String():  (*Certificate).readCRLDistributionPoints,
	OIDFreshestCRL.String():            (*Certificate).readFreshestCRL,
	OIDCertificatePolicies.String():    (*Certificate).readPolicies,
	OIDPolicyMappings.String():         (*Certificate).readPolicyMappings,
	OIDPolicyConstraints.String():      (*Certificate).readPolicyConstraints,
	OIDInhibitAnyPolicy.String():       (*Certificate).readInhibitAnyPolicy,
	OIDAuthorityInfoAccess.String():    (*Certificate).readInfoAccess,
	OIDNTDSSecurity.String():           (*Certificate).readNTDSSecurity,
	OIDOCSPNoCheck.String():            nil,
}

// readExtension reads an extension that is understood into the certificate; others stay as they
// are. It is read as a whole or not at all: of one that is malformed nothing is taken, and Unusable
// says why.
func (c *Certificate) readExtension(e *Extension) {
	read := extensionReaders[e.OID.String()]
	if read == nil {
		return
	}

	// A reader may have set some fields before it fails: then none of them counts.
	before := *c
	s := cryptobyte.String(e.Value)
	err := read(c, &s)
	if err == nil && !s.Empty() {
		err = errTrailing
	}
	if err == nil {
		return
	}

	*c = before
	e.Unusable = err.Error()
	c.assumeWorst(e)
}

// assumeWorst sets the fields of an unusable extension to the values that allow least, so that a
// caller who does not look at Unusable cannot take the extension for absent.
func (c *Certificate) assumeWorst(e *Extension) {
	switch {
	case e.OID.Equal(OIDKeyUsage):
		c.HasKeyUsage = true // for nothing
	case e.OID.Equal(OIDExtKeyUsage):
		c.HasExtKeyUsage = true // for no purpose
	case e.OID.Equal(OIDCertificatePolicies):
		c.HasPolicies = true // none of them
	case e.OID.Equal(OIDPolicyConstraints):
		c.PolicyConstraints = &PolicyConstraints{RequireExplicitPolicy: 0, InhibitPolicyMapping: 0}
	case e.OID.Equal(OIDInhibitAnyPolicy):
		c.InhibitAnyPolicy = 0
	}
}

// readSubjectKeyID reads RFC 5280, 4.2.1.2.
func (c *Certificate) readSubjectKeyID(s *cryptobyte.String) error {
	if !s.ReadASN1Bytes(&c.SubjectKeyID, asn1.OCTET_STRING) {
		return errors.New("not an octet string")
	}
	return nil
}

// readKeyUsage reads RFC 5280, 4.2.1.3. Bits that are not defined there mean nothing.
func (c *Certificate) readKeyUsage(s *cryptobyte.String) error {
	bits, ok := readBits(s, asn1.BIT_STRING)
	if !ok {
		return errors.New("not a key usage")
	}
	c.HasKeyUsage = true
	c.KeyUsage = KeyUsage(bits & 0x1ff)
	return nil
}

// readSubjectAltName reads RFC 5280, 4.2.1.6.
func (c *Certificate) readSubjectAltName(s *cryptobyte.String) (err error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return errors.New("not a sequence")
	}
	c.SANs, err = readGeneralNames(seq)
	return err
}

// readIssuerAltName only checks the form: nothing here uses these names.
func (c *Certificate) readIssuerAltName(s *cryptobyte.String) error {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return errors.New("not a sequence")
	}
	_, err := readGeneralNames(seq)
	return err
}

// readNTDSSecurity only checks the form, see SIDs.
func (c *Certificate) readNTDSSecurity(s *cryptobyte.String) error { return c.readIssuerAltName(s) }

// readCRLDistributionPoints reads RFC 5280, 4.2.1.13.
func (c *Certificate) readCRLDistributionPoints(s *cryptobyte.String) (err error) {
	c.CRLDistributionPoints, err = readDistributionPoints(s)
	return err
}

// readFreshestCRL reads RFC 5280, 4.2.1.15.
func (c *Certificate) readFreshestCRL(s *cryptobyte.String) (err error) {
	c.FreshestCRL, err = readDistributionPoints(s)
	return err
}

// readPolicies reads RFC 5280, 4.2.1.4.
func (c *Certificate) readPolicies(s *cryptobyte.String) (err error) {
	c.HasPolicies = true
	c.Policies, err = readPolicies(s)
	return err
}

// readPolicyMappings reads RFC 5280, 4.2.1.5.
func (c *Certificate) readPolicyMappings(s *cryptobyte.String) (err error) {
	c.PolicyMappings, err = readPolicyMappings(s)
	return err
}

// readPolicyConstraints reads RFC 5280, 4.2.1.11.
func (c *Certificate) readPolicyConstraints(s *cryptobyte.String) (err error) {
	c.PolicyConstraints, err = readPolicyConstraints(s)
	return err
}

// readInhibitAnyPolicy reads RFC 5280, 4.2.1.14.
func (c *Certificate) readInhibitAnyPolicy(s *cryptobyte.String) error {
	n, ok := readSmallInteger(s, asn1.INTEGER)
	if !ok {
		return errors.New("not a number")
	}
	c.InhibitAnyPolicy = n
	return nil
}

// readNameConstraints reads RFC 5280, 4.2.1.10.
func (c *Certificate) readNameConstraints(s *cryptobyte.String) (err error) {
	c.NameConstraints, err = readNameConstraints(s)
	return err
}

// readBasicConstraints reads RFC 5280, 4.2.1.9.
func (c *Certificate) readBasicConstraints(s *cryptobyte.String) error {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return errors.New("not a sequence")
	}
	// TRUE in another form than that of DER is not guessed at: it decides whether this is a CA.
	if seq.PeekASN1Tag(asn1.BOOLEAN) && !seq.ReadASN1Boolean(&c.IsCA) {
		return errors.New("cA is not a boolean of DER (FALSE 00, TRUE FF)")
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

	if !c.IsCA && c.MaxPathLen >= 0 {
		// RFC 5280, 4.2.1.9, forbids it. Some CAs write it into users' certificates, where it means
		// nothing.
		c.MaxPathLen = -1
		c.tolerate("basicConstraints has a path length beside cA FALSE")
	}

	c.BasicConstraintsValid = true
	return nil
}

// readExtKeyUsage reads the purposes. One whose identifier is too large for asn1.ObjectIdentifier
// is skipped: none that is asked for is.
func (c *Certificate) readExtKeyUsage(s *cryptobyte.String) error {
	c.HasExtKeyUsage = true
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return errors.New("not a sequence with a purpose in it")
	}

	for n := 0; !seq.Empty(); n++ {
		oid, _, ok := readOID(&seq)
		if !ok || n == maxExtKeyUsages {
			return errors.New("malformed purpose, or too many")
		}
		if oid != nil {
			c.ExtKeyUsage = append(c.ExtKeyUsage, oid)
		}
	}
	return nil
}

// readAuthorityKeyID reads RFC 5280, 4.2.1.1.
func (c *Certificate) readAuthorityKeyID(s *cryptobyte.String) error {
	var seq, names, serial, keyID cryptobyte.String
	var hasKey, hasNames, hasSerial bool
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadOptionalASN1(&keyID, &hasKey, asn1.Tag(0).ContextSpecific()) {
		return errors.New("malformed")
	}
	namesTag := asn1.Tag(1).ContextSpecific().Constructed()
	serialTag := asn1.Tag(2).ContextSpecific()
	read := seq.ReadOptionalASN1(&names, &hasNames, namesTag) && seq.ReadOptionalASN1(&serial, &hasSerial, serialTag)
	if !read || !seq.Empty() {
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

// readInfoAccess reads the URLs of authorityInfoAccess (RFC 5280, 4.2.2.1). A location that is no
// URL is skipped.
func (c *Certificate) readInfoAccess(s *cryptobyte.String) error {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return errors.New("not a sequence")
	}

	// Further locations are left out: a certificate must not make
	// this machine ask any number of them.
	for n := 0; !seq.Empty() && n < maxGeneralNames; n++ {
		var description cryptobyte.String
		if !seq.ReadASN1(&description, asn1.SEQUENCE) {
			return errors.New("malformed access description")
		}

		method, _, ok := readOID(&description)
		location, err := readGeneralName(&description)
		isURL := err == nil && location.OK && location.Tag == TagURI
		if !ok || !isURL {
			continue
		}
		// ldap:///CN=..., without a host, stands for the nearest directory (RFC 4516, 2).
		if u, err := url.Parse(location.Text); err != nil || u.Host == "" && u.Scheme != "ldap" {
			continue
		}

		switch {
		case method.Equal(oidAccessOCSP):
			c.OCSPServers = append(c.OCSPServers, location.Text)
		case method.Equal(oidAccessCAIssuers):
			c.CAIssuers = append(c.CAIssuers, location.Text)
		}
	}
	return nil
}

// UnknownCritical returns the critical extensions of the certificate that this project does not
// understand, for which it is refused (RFC 5280, 4.2).
func (c *Certificate) UnknownCritical() []Extension {
	var unknown []Extension
	for _, e := range c.Extensions {
		// An identifier that is too large has no name in the map, and is not known.
		if _, understood := extensionReaders[e.OID.String()]; e.Critical && (e.OID == nil || !understood) {
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

// String returns the identifier in dotted form, or its octets when it is too large for
// asn1.ObjectIdentifier.
func (e Extension) String() string {
	if e.OID == nil {
		return fmt.Sprintf("#%x", e.RawOID)
	}
	return e.OID.String()
}
