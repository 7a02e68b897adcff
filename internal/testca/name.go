package testca

import (
	"fmt"
	"strings"
)

var attributeTypes = map[string]string{
	"CN":                   "2.5.4.3",
	"SN":                   "2.5.4.4",
	"serialNumber":         "2.5.4.5",
	"C":                    "2.5.4.6",
	"L":                    "2.5.4.7",
	"ST":                   "2.5.4.8",
	"O":                    "2.5.4.10",
	"OU":                   "2.5.4.11",
	"title":                "2.5.4.12",
	"GN":                   "2.5.4.42",
	"x500UniqueIdentifier": "2.5.4.45",
	"UID":                  "0.9.2342.19200300.100.1.1",
	"DC":                   "0.9.2342.19200300.100.1.25",
	"emailAddress":         "1.2.840.113549.1.9.1",
}

// DN returns the DER of a Name from attributes such as "C=IT", "O=Example", "CN=Alice", most
// general first. A type is one of the usual short names or a dotted identifier. C and serialNumber
// become PrintableString, DC and emailAddress IA5String, the others UTF8String.
func DN(attributes ...string) []byte {
	var rdns [][]byte
	for _, a := range attributes {
		rdns = append(rdns, RDN(ParseAttribute(a)))
	}
	return Sequence(rdns...)
}

// ParseAttribute returns the DER of one attribute written "CN=Alice".
func ParseAttribute(s string) []byte {
	kind, value, ok := strings.Cut(s, "=")
	if !ok {
		panic(fmt.Sprintf("testca: attribute %q has no =", s))
	}

	// The string types that RFC 5280, appendix A, allows for these attributes alone.
	tag := byte(0x0c)
	switch kind {
	case "C", "serialNumber":
		tag = 0x13
	case "DC", "emailAddress":
		tag = 0x16
	}

	return Attribute(kind, tag, []byte(value))
}

// Attribute returns the DER of one attribute with any string tag and any content octets.
func Attribute(kind string, tag byte, value []byte) []byte {
	if dotted, ok := attributeTypes[kind]; ok {
		kind = dotted
	}
	return Sequence(OID(kind), TLV(tag, value))
}

// RDN returns one relative name made of attributes.
func RDN(attributes ...[]byte) []byte { return TLV(0x31, attributes...) }

// Name returns a Name made of relative names.
func Name(rdns ...[]byte) []byte { return Sequence(rdns...) }

// General names (RFC 5280, 4.2.1.6), for SAN, NameConstraints and distribution points.

// Other returns an otherName of the given type and DER value.
func Other(dotted string, value []byte) []byte { return TLV(0xa0, OID(dotted), TLV(0xa0, value)) }

// UPN returns a user principal name.
func UPN(s string) []byte { return Other("1.3.6.1.4.1.311.20.2.3", UTF8(s)) }

// Principal returns a KRB5PrincipalName (RFC 4556, 3.2.2).
func Principal(realm string, components ...string) []byte {
	var parts [][]byte
	for _, c := range components {
		parts = append(parts, TLV(0x1b, []byte(c)))
	}
	// The name's type is 1, NT-PRINCIPAL (RFC 4120, 6.2).
	return Other("1.3.6.1.5.2.2", Sequence(
		TLV(0xa0, TLV(0x1b, []byte(realm))),
		TLV(0xa1, Sequence(TLV(0xa0, Number(1)), TLV(0xa1, Sequence(parts...))))))
}

// Email returns an rfc822Name.
func Email(s string) []byte { return TLV(0x81, []byte(s)) }

// DNS returns a dNSName.
func DNS(s string) []byte { return TLV(0x82, []byte(s)) }

// Directory returns a directoryName; name is the DER of a Name.
func Directory(name []byte) []byte { return TLV(0xa4, name) }

// URI returns a uniformResourceIdentifier.
func URI(s string) []byte { return TLV(0x86, []byte(s)) }

// IP returns an iPAddress: 4 or 16 octets, or 8 or 32 in a name constraint.
func IP(octets ...byte) []byte { return TLV(0x87, octets) }

// RegisteredID returns a registeredID.
func RegisteredID(dotted string) []byte {
	der := OID(dotted)
	// The tag is implicit: it stands in the place of OBJECT IDENTIFIER's.
	der[0] = 0x88
	return der
}
