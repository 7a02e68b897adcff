package ldapconn

import (
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxDN is the length in octets above which a name is not read.
const maxDN = 16 << 10

// aliases are the other names of attribute types that name entries (RFC 4519, RFC 4524), each with
// the name that is used for all of them.
var aliases = map[string]string{
	"0.9.2342.19200300.100.1.1": "uid",
	"userid":                    "uid",

	"0.9.2342.19200300.100.1.3": "mail",
	"rfc822mailbox":             "mail",

	"2.5.4.3":    "cn",
	"commonname": "cn",

	"2.5.4.4": "sn",
	"surname": "sn",

	"2.5.4.5": "serialnumber",
}

// SameAttribute reports whether two attribute descriptions name one attribute type: without regard
// to case, to options and, for the types of people's entries, to which of its names is written.
func SameAttribute(a, b string) bool { return attributeType(a) == attributeType(b) }

// attributeType returns the one name of an attribute type, without the options of a description.
func attributeType(description string) string {
	plain, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(description)), ";")
	if name, known := aliases[plain]; known {
		return name
	}
	return plain
}

// Named returns the value of an attribute in the entry's relative name (RFC 4511, 4.1.3). Only who
// may rename the entry can change it. ok is false where the attribute is not part of that name, or
// the name is malformed.
func (e Entry) Named(attribute string) (value string, ok bool) {
	if len(e.DN) > maxDN {
		return "", false
	}

	dn, err := ldap.ParseDN(e.DN)
	if err != nil || len(dn.RDNs) == 0 {
		return "", false
	}

	for _, a := range dn.RDNs[0].Attributes {
		if !SameAttribute(a.Type, attribute) {
			continue
		}
		if ok {
			return "", false // one type twice is no name (X.501, 9.3)
		}
		value = a.Value
		ok = true
	}
	return value, ok
}
