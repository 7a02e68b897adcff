package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Name is a distinguished name in the order of the certificate, most general part first (RFC 5280,
// 4.1.2.4).
type Name []RDN

// RDN is one relative distinguished name: a set of attributes, in the order in which it is encoded.
type RDN []Attribute

// Attribute is one type and value of a name.
type Attribute struct {
	OID  stdasn1.ObjectIdentifier
	Tag  int    // universal tag of the value's type
	Raw  []byte // content octets of the value
	Text string // the value as UTF-8
	OK   bool   // Text decodes and has no NUL and no control characters; false: it must never match
}

// maxAttributes bounds the attributes of one relative name, so that comparing two, which tries
// every pair, stays cheap.
const maxAttributes = 64

// ParseName reads one DER-encoded Name and nothing after it.
func ParseName(der []byte) (Name, error) {
	s := cryptobyte.String(der)
	n, err := readName(&s)
	if err == nil && !s.Empty() {
		err = errTrailing
	}
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	return n, nil
}

// readName reads the RDNSequence form of a Name, its only one.
func readName(s *cryptobyte.String) (Name, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, errors.New("not a sequence")
	}

	name := Name{}
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, asn1.SET) {
			return nil, errors.New("relative name is not a set")
		}
		rdn, err := readRDN(set)
		if err != nil {
			return nil, err
		}

		name = append(name, rdn)
	}
	return name, nil
}

// readRDN reads the content of the SET of one relative name. The order of the set, which DER
// prescribes, is not enforced: CAs get it wrong, and comparison ignores it.
func readRDN(set cryptobyte.String) (RDN, error) {
	var rdn RDN
	for !set.Empty() {
		var atv, value cryptobyte.String
		var tag asn1.Tag
		if !set.ReadASN1(&atv, asn1.SEQUENCE) {
			return nil, errors.New("attribute is not a sequence")
		}

		oid, _, ok := readOID(&atv)
		if !ok || oid == nil {
			return nil, errors.New("attribute type is not an object identifier that can be held")
		}
		if !atv.ReadAnyASN1(&value, &tag) || !atv.Empty() {
			return nil, errors.New("malformed attribute value")
		}

		if len(rdn) == maxAttributes {
			return nil, fmt.Errorf("more than %d attributes in one relative name", maxAttributes)
		}

		rdn = append(rdn, newAttribute(oid, int(tag), value))
	}
	if len(rdn) == 0 {
		return nil, errors.New("empty relative name")
	}
	return rdn, nil
}

// newAttribute decodes an attribute; one that is no text keeps its octets.
func newAttribute(oid stdasn1.ObjectIdentifier, tag int, raw []byte) Attribute {
	text := newText(tag, raw)
	return Attribute{
		OID:  oid,
		Tag:  tag,
		Raw:  raw,
		Text: text.Value,
		OK:   text.OK,
	}
}

// Values returns the attributes of the given type, in the order of the certificate.
func (n Name) Values(oid stdasn1.ObjectIdentifier) []Attribute {
	var found []Attribute
	for _, rdn := range n {
		for _, a := range rdn {
			if a.OID.Equal(oid) {
				found = append(found, a)
			}
		}
	}
	return found
}

// Equal compares two names as RFC 5280, 7.1 asks: attribute by attribute, text without regard to
// its string type, to upper and lower case, and to the amount of white space. Text that does not
// decode is equal only octet by octet. The Unicode normalisation of RFC 4518 (NFKC) is not done:
// names that need it compare as different.
func (n Name) Equal(m Name) bool {
	return len(n) == len(m) && n.HasPrefix(m)
}

// HasPrefix reports whether n begins with the relative names of m: whether n lies in the subtree m
// (RFC 5280, 4.2.1.10).
func (n Name) HasPrefix(m Name) bool {
	if len(n) < len(m) {
		return false
	}
	for i := range m {
		if !n[i].equal(m[i]) {
			return false
		}
	}
	return true
}

// equal compares relative names as sets: their attributes have no order that means anything.
func (r RDN) equal(q RDN) bool {
	if len(r) != len(q) {
		return false
	}

	// Nearly every relative name has one attribute.
	if len(r) == 1 {
		return r[0].Equal(q[0])
	}

	used := make([]bool, len(q))
next:
	for _, a := range r {
		for i, b := range q {
			if !used[i] && a.Equal(b) {
				// Each attribute counts once, or two equal ones would stand for two different ones.
				used[i] = true
				continue next
			}
		}
		return false
	}
	return true
}

// Equal compares two attributes as Name.Equal does.
func (a Attribute) Equal(b Attribute) bool {
	if !a.OID.Equal(b.OID) {
		return false
	}

	if a.Tag == b.Tag && string(a.Raw) == string(b.Raw) {
		return true
	}
	return a.OK && b.OK && isText(a.Tag) && isText(b.Tag) && fold(a.Text) == fold(b.Text)
}

// Key returns a string that is the same for names that are Equal, for use as a map key.
func (n Name) Key() string {
	var b strings.Builder
	for _, rdn := range n {
		// The attributes of a set are sorted, since Equal ignores their order.
		parts := make([]string, len(rdn))
		for i, a := range rdn {
			parts[i] = a.key()
		}
		slices.Sort(parts)

		// With its length before it no text can pass for two parts.
		for _, p := range parts {
			fmt.Fprintf(&b, "%d:%s", len(p), p)
		}
		b.WriteByte('/')
	}
	return b.String()
}

// key returns a string that is the same for attributes that are Equal.
func (a Attribute) key() string {
	if a.OK && isText(a.Tag) {
		return a.OID.String() + "=" + fold(a.Text)
	}
	return fmt.Sprintf("%v#%d=%x", a.OID, a.Tag, a.Raw)
}

// isText reports whether a value is compared as text. A bit string is compared octet by octet.
func isText(tag int) bool { return tag != tagBitString }

// fold returns text in the form in which names are compared (RFC 4518: map, then insignificant
// space handling).
func fold(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := true // leading space is dropped
	for _, r := range s {
		switch {
		case ignorable(r):
		case unicode.IsSpace(r):
			if !space {
				b.WriteByte(' ')
			}
			space = true
		default:
			// Both ways, because some letters meet only in one of the cases (the final sigma, the
			// Kelvin sign).
			b.WriteRune(unicode.ToLower(unicode.ToUpper(r)))
			space = false
		}
	}
	return strings.TrimSuffix(b.String(), " ")
}

// ignorable reports whether RFC 4518, 2.2, maps a character to nothing.
func ignorable(r rune) bool {
	switch {
	case r == 0x00AD, r == 0x1806, r == 0x034F, r == 0x200B, r == 0xFFFC, r == 0xFEFF:
		return true
	case r >= 0x180B && r <= 0x180D, r >= 0xFE00 && r <= 0xFE0F, r >= 0x200C && r <= 0x200F,
		r >= 0x202A && r <= 0x202E, r >= 0x2060 && r <= 0x2063:
		return true
	}
	return false
}
