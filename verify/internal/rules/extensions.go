package rules

import (
	"encoding/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// What a malformed extension means. It is unusable, which is never absent: where its meaning
// restricts the certificate, or its issuer calls it critical, the certificate is refused (RFC 5280,
// 4.2). certificatePolicies is checked with the policies of the chain, and subjectAltName with the
// name constraints, both in path.

// restricting are the extensions without which a certificate would be allowed more.
var restricting = map[string]bool{
	certinfo.OIDBasicConstraints.String():  true,
	certinfo.OIDKeyUsage.String():          true,
	certinfo.OIDExtKeyUsage.String():       true,
	certinfo.OIDNameConstraints.String():   true,
	certinfo.OIDPolicyConstraints.String(): true,
	certinfo.OIDPolicyMappings.String():    true,
	certinfo.OIDInhibitAnyPolicy.String():  true,
}

// CheckExtensions refuses a certificate, whatever its place in the chain, with a critical extension
// that is not known or an unusable one that must be obeyed.
func CheckExtensions(c *certinfo.Certificate) *refusal.Error {
	if unknown := c.UnknownCritical(); len(unknown) > 0 {
		return refusal.New(c, refusal.ReasonCriticalExtension, "critical extension %v is not known", unknown[0])
	}
	// An unusable extension that only adds something, as an address to ask at, is passed over.
	for _, e := range c.Extensions {
		if e.Unusable != "" && (e.Critical || restricting[e.OID.String()]) {
			return RefuseExtension(c, e)
		}
	}
	return nil
}

// IsCA reports whether the basic constraints say that the certificate is an authority.
func IsCA(c *certinfo.Certificate) bool { return c.BasicConstraintsValid && c.IsCA }

// RefuseExtension names the extension and what is wrong with it.
func RefuseExtension(c *certinfo.Certificate, e certinfo.Extension) *refusal.Error {
	return refusal.New(c, refusal.ReasonMalformed, "extension %s cannot be used: %s", e.Name(), e.Unusable)
}

// Unusable returns the extension when the certificate has it and it cannot be used, else nil.
func Unusable(c *certinfo.Certificate, id asn1.ObjectIdentifier) *certinfo.Extension {
	if e := c.Extension(id); e != nil && e.Unusable != "" {
		return e
	}
	return nil
}
