package directory

import (
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
)

// CertificateFilter returns the filter of entries that hold the certificate. Servers differ in what
// they compare: 389ds and Active Directory compare octets; OpenLDAP compares serial number and
// issuer, by the assertion of certificateExactMatch (RFC 4523, 2.5), and holds anything else to be
// undefined, which in a disjunction does no harm.
func CertificateFilter(attribute string, cert *certinfo.Certificate, how string) string {
	octets := "(" + attribute + "=" + ldapconn.EscapeFilter(cert.Raw) + ")"
	exact := "(" + plainAttribute(attribute) + "=" + ldapconn.EscapeFilter([]byte(exactAssertion(cert))) + ")"
	switch how {
	case "filter":
		return octets
	case "exact":
		return exact
	}
	return "(|" + octets + exact + ")"
}

// plainAttribute cuts the options off an attribute, as ";binary" (RFC 4512, 2.5).
func plainAttribute(attribute string) string {
	plain, _, _ := strings.Cut(attribute, ";")
	return plain
}

// exactAssertion is a CertificateExactAssertion in GSER (RFC 4523, A.1; RFC 3641, 3.2: a quote is
// doubled).
func exactAssertion(cert *certinfo.Certificate) string {
	issuer := strings.ReplaceAll(cert.Issuer.RFC4514(), `"`, `""`)
	return "{ serialNumber " + cert.Serial.String() + `, issuer rdnSequence:"` + issuer + `" }`
}

// ExactWorks reports whether OpenLDAP can compare the issuer: with characters outside of ASCII it
// finds nothing (seen with 2.5).
func ExactWorks(cert *certinfo.Certificate) bool {
	for _, c := range []byte(cert.Issuer.RFC4514()) {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
