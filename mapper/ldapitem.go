package mapper

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
)

// element is one element of attribute_map: conditions that must all hold.
type element struct {
	text    string
	clauses []mappers.Condition
}

// maxItemValues bounds the values of one item that take part in a filter.
const maxItemValues = 64

// filter returns the element's filter; "" when the certificate does not have all items.
func (e element) filter(cert *certinfo.Certificate, weak bool) (string, error) {
	var b strings.Builder
	for _, c := range e.clauses {
		part := ""
		if c.Item == "cert" {
			part = certificateFilter(c.Attribute, cert, "auto")
		} else {
			values, err := itemValues(c.Item, cert, weak)
			if err != nil {
				return "", err
			}
			part = anyOf(c.Attribute, values)
		}
		if part == "" {
			return "", nil
		}
		b.WriteString(part)
	}
	if len(e.clauses) > 1 {
		return "(&" + b.String() + ")", nil
	}
	return b.String(), nil
}

// uses tells whether a clause of the element has the item.
func (e element) uses(item string) bool {
	return slices.ContainsFunc(e.clauses, func(c mappers.Condition) bool { return c.Item == item })
}

// anyOf returns the filter that any of the values satisfies; "" when there is none.
func anyOf(attribute string, values [][]byte) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString("(" + attribute + "=" + ldapconn.EscapeFilter(v) + ")")
	}
	if len(values) > 1 {
		return "(|" + b.String() + ")"
	}
	return b.String()
}

// itemValues returns what a certificate says about an item. Text that holds NUL or control characters is
// not among it.
func itemValues(item string, cert *certinfo.Certificate, weak bool) ([][]byte, error) {
	var values [][]byte
	texts := func(list []certinfo.Text) {
		for _, s := range usable(list) {
			values = append(values, []byte(s))
		}
	}
	switch item {
	case "cn":
		texts(cert.CommonNames())
	case "subject":
		values = namesAsText(cert.Subject)
	case "issuer":
		values = namesAsText(cert.Issuer)
	case "kpn":
		texts(cert.KerberosPrincipals())
	case "email":
		texts(cert.Emails())
	case "upn":
		texts(cert.UPNs())
	case "uid":
		texts(cert.UserIDs())
	case "serial":
		values = [][]byte{[]byte(cert.Serial.String())}
	case "sid":
		sid, err := certificateSID(cert)
		if err != nil {
			return nil, err
		}
		if sid != nil {
			values = [][]byte{sid.binary(), []byte(sid.text)}
		}
	case "altsecid":
		return altSecurityIdentities(cert, weak)
	}
	if len(values) > maxItemValues {
		return nil, fmt.Errorf("the certificate has %d values of %s, more than %d", len(values), item, maxItemValues)
	}
	return values, nil
}

// namesAsText gives a name in both forms: RFC 4514, and OpenSSL's one-line form of old directories. An
// empty name is none.
func namesAsText(n certinfo.Name) [][]byte {
	if len(n) == 0 {
		return nil
	}
	return [][]byte{[]byte(n.RFC4514()), []byte(n.OneLine())}
}

// certificateFilter returns the filter of entries that hold the certificate. Servers differ in what they
// compare: 389ds and Active Directory compare octets; OpenLDAP compares serial number and issuer, by the
// assertion of certificateExactMatch (RFC 4523, 2.5), and holds anything else to be undefined, which in a
// disjunction does no harm.
func certificateFilter(attribute string, cert *certinfo.Certificate, how string) string {
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

// plainAttribute leaves the options of an attribute out.
func plainAttribute(attribute string) string {
	plain, _, _ := strings.Cut(attribute, ";")
	return plain
}

// exactAssertion is a CertificateExactAssertion in GSER (RFC 4523, A.1; RFC 3641, 3.2: a quote is doubled).
func exactAssertion(cert *certinfo.Certificate) string {
	return "{ serialNumber " + cert.Serial.String() + `, issuer rdnSequence:"` + strings.ReplaceAll(cert.Issuer.RFC4514(), `"`, `""`) + `" }`
}

// exactWorks tells whether OpenLDAP can compare the issuer: with characters outside of ASCII it finds
// nothing (seen with 2.5).
func exactWorks(cert *certinfo.Certificate) bool {
	for _, c := range []byte(cert.Issuer.RFC4514()) {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
