package ldap

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/activedirectory"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/directory"
)

// Element is one element of attribute_map: conditions that must all hold.
type Element struct {
	text    string
	Clauses []mappers.Condition
}

// Filter returns the element's filter; "" when the certificate does not have all items.
func (e Element) Filter(cert *certinfo.Certificate, weak bool) (string, error) {
	var b strings.Builder
	for _, c := range e.Clauses {
		part := ""
		if c.Item == "cert" {
			part = directory.CertificateFilter(c.Attribute, cert, "auto")
		} else {
			values, err := ItemValues(c.Item, cert, weak)
			if err != nil {
				return "", err
			}
			part = anyOf(c.Attribute, values)
		}

		// All conditions must hold: with one missing the others would find too many.
		if part == "" {
			return "", nil
		}
		b.WriteString(part)
	}

	if len(e.Clauses) > 1 {
		return "(&" + b.String() + ")", nil
	}
	return b.String(), nil
}

// uses reports whether a clause of the element has the item.
func (e Element) uses(item string) bool {
	return slices.ContainsFunc(e.Clauses, func(c mappers.Condition) bool { return c.Item == item })
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

// ItemValues returns what a certificate says about an item. Text that holds NUL or control
// characters is left out.
func ItemValues(item string, cert *certinfo.Certificate, weak bool) ([][]byte, error) {
	var values [][]byte
	texts := func(list []certinfo.Text) {
		for _, s := range certtext.Usable(list) {
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
		sid, err := activedirectory.SIDOf(cert)
		if err != nil {
			return nil, err
		}
		if sid != nil {
			values = [][]byte{sid.Binary(), []byte(sid.Text)}
		}
	case "altsecid":
		return activedirectory.Identities(cert, weak)
	}

	if len(values) > activedirectory.MaxItemValues {
		return nil, fmt.Errorf("the certificate has %d values of %s, more than %d", len(values), item, activedirectory.MaxItemValues)
	}
	return values, nil
}

// namesAsText returns a name in both forms: RFC 4514, and OpenSSL's one-line form of old
// directories. An empty name has none.
func namesAsText(n certinfo.Name) [][]byte {
	if len(n) == 0 {
		return nil
	}
	return [][]byte{[]byte(n.RFC4514()), []byte(n.OneLine())}
}
