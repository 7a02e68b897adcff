package certinfo

import (
	stdasn1 "encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Names as text: OpenSSL's one-line form, in which mapfiles of pam_pkcs11 are written, and the
// string form of RFC 4514.

// maxTypedName bounds a name given as text, in octets.
const maxTypedName = 64 << 10

// OneLine returns the name as OpenSSL's X509_NAME_oneline prints it: "/C=IT/O=Ex/CN=Alice", the
// attributes of one relative name joined by "+", octets outside printable ASCII as \xHH, "/" and
// "+" in a value as "\/" and "\+".
func (n Name) OneLine() string {
	var b strings.Builder
	for _, rdn := range n {
		for i, a := range rdn {
			if i == 0 {
				b.WriteByte('/')
			} else {
				b.WriteByte('+')
			}
			b.WriteString(shortName(a.OID))
			b.WriteByte('=')
			writeOneLineValue(&b, a)
		}
	}
	return b.String()
}

// writeOneLineValue writes the octets of a value, whatever its string type, as OpenSSL does.
func writeOneLineValue(b *strings.Builder, a Attribute) {
	const digits = "0123456789ABCDEF"
	raw := a.Raw
	if a.Tag == tagBitString && len(raw) > 0 {
		raw = raw[1:] // the count of unused bits is no content for OpenSSL
	}

	for _, c := range raw {
		switch {
		case c < ' ' || c > '~':
			b.WriteString(`\x`)
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		case c == '/' || c == '+':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

// shortName is the name that OpenSSL has for a type, or its dotted identifier.
func shortName(oid stdasn1.ObjectIdentifier) string {
	dotted := oid.String()
	if s, ok := shortNames[dotted]; ok {
		return s
	}
	return dotted
}

// RFC4514 returns the name in the string form of RFC 4514: most specific part first, special
// characters escaped. An attribute whose type has no name, or whose text does not decode, is
// written as "#" and the hexadecimal DER of its value.
func (n Name) RFC4514() string {
	var b strings.Builder
	for i := len(n) - 1; i >= 0; i-- {
		for j, a := range n[i] {
			if j > 0 {
				b.WriteByte('+')
			}
			writeRFC4514(&b, a)
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}

// String is RFC4514.
func (n Name) String() string { return n.RFC4514() }

// writeRFC4514 writes TYPE=VALUE.
func writeRFC4514(b *strings.Builder, a Attribute) {
	dotted := a.OID.String()
	name, known := shortNames[dotted]
	// RFC 4514, 2.4: a value that has no text is written as its DER.
	if !known || !a.OK || a.Tag == tagBitString {
		if known {
			b.WriteString(name)
		} else {
			b.WriteString(dotted)
		}
		b.WriteString("=#")
		b.WriteString(hex.EncodeToString(a.der()))
		return
	}

	b.WriteString(name)
	b.WriteByte('=')
	for i, r := range a.Text {
		last := i+utf8.RuneLen(r) == len(a.Text)
		special := strings.ContainsRune(`"+,;<>\=`, r)
		edge := i == 0 && (r == '#' || r == ' ') || last && r == ' '
		if special || edge {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
}

// der returns the value of the attribute with tag and length.
func (a Attribute) der() []byte {
	var b cryptobyte.Builder
	// A tag of several octets cannot be built, and no string type has one.
	b.AddASN1(asn1.Tag(a.Tag), func(c *cryptobyte.Builder) { c.AddBytes(a.Raw) })
	out, err := b.Bytes()
	if err != nil {
		return nil
	}
	return out
}

// ParseDN reads a name in either form: one that begins with "/" is OpenSSL's one-line form, any
// other RFC 4514.
func ParseDN(s string) (Name, error) {
	if strings.HasPrefix(s, "/") {
		return parseOneLine(s)
	}
	return ParseRFC4514(s)
}

// parseOneLine reads OpenSSL's one-line form. The form is ambiguous: a "/" or "+" begins a new
// attribute only when a known attribute type (or a dotted identifier) and "=" follow it, and it is
// not escaped.
func parseOneLine(s string) (Name, error) {
	if len(s) > maxTypedName || !utf8.ValidString(s) {
		return nil, errors.New("name is too long or not UTF-8")
	}
	var name Name
	// Each turn reads a separator, a type and its value; the first separator is the leading slash.
	for i := 0; i < len(s); {
		joined := s[i] == '+'
		oid, length := attributeAt(s[i+1:])
		if length == 0 {
			return nil, fmt.Errorf("no attribute type at %q", clip(s[i:]))
		}

		i += 1 + length
		end := oneLineEnd(s, i)

		text, err := unescapeOneLine(s[i:end])
		if err != nil {
			return nil, err
		}
		i = end

		a := newAttribute(oid, tagUTF8String, []byte(text))
		// A plus at the beginning has no relative name to join.
		if joined && len(name) > 0 {
			if len(name[len(name)-1]) == maxAttributes {
				return nil, fmt.Errorf("more than %d attributes in one relative name", maxAttributes)
			}
			name[len(name)-1] = append(name[len(name)-1], a)
		} else {
			name = append(name, RDN{a})
		}
	}
	return name, nil
}

// oneLineEnd returns where the value that begins at i ends.
func oneLineEnd(s string, i int) int {
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			// An escaped separator belongs to the value.
			if i+1 < len(s) && (s[i+1] == '/' || s[i+1] == '+') {
				i++
			}
		case '/', '+':
			if _, length := attributeAt(s[i+1:]); length > 0 {
				return i
			}
		}
	}
	return i
}

// attributeAt reads "TYPE=" at the start of s and returns its length, 0 when there is none.
func attributeAt(s string) (stdasn1.ObjectIdentifier, int) {
	// No type is longer: a slash in a long value need not be looked at further.
	equals := strings.IndexByte(s, '=')
	if equals <= 0 || equals > 128 {
		return nil, 0
	}
	oid, ok := attributeType(s[:equals])
	if !ok {
		return nil, 0
	}
	return oid, equals + 1
}

// unescapeOneLine undoes the escapes of OneLine. A backslash before anything else is one.
func unescapeOneLine(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}

	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if v, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		escaped := i+1 < len(s) && (s[i+1] == '/' || s[i+1] == '+')
		if s[i] == '\\' && escaped {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// attributeType resolves the name of an attribute type, without regard to case, or a dotted
// identifier. The names that differ only in case (UID, uid) resolve exactly first.
func attributeType(s string) (stdasn1.ObjectIdentifier, bool) {
	s = strings.TrimSpace(s)
	if len(s) > 4 && strings.EqualFold(s[:4], "OID.") {
		s = s[4:]
	}

	if dotted, ok := typeByName(s); ok {
		s = dotted
	}
	return parseDotted(s)
}

// typeByName finds the dotted identifier of a name.
func typeByName(s string) (string, bool) {
	// RFC 4514, 3: UID is userId, in any case, though OpenSSL has another type that it calls uid.
	if s == "uid" || strings.EqualFold(s, "UID") {
		return OIDUserID.String(), true
	}
	for dotted, name := range shortNames {
		if strings.EqualFold(name, s) {
			return dotted, true
		}
	}

	dotted, ok := otherNames[strings.ToLower(s)]
	return dotted, ok
}

// parseDotted reads a dotted object identifier of at most 32 arcs.
func parseDotted(s string) (stdasn1.ObjectIdentifier, bool) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 32 {
		return nil, false
	}
	oid := make(stdasn1.ObjectIdentifier, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		// A zero in front would give one identifier two texts.
		if err != nil || (len(p) > 1 && p[0] == '0') {
			return nil, false
		}
		oid[i] = int(n)
	}
	// Below the roots 0 and 1 there are no arcs from 40 on (X.690, 8.19.4).
	return oid, oid[0] <= 2 && (oid[0] == 2 || oid[1] < 40)
}

// ParseOID reads a dotted object identifier such as "1.3.6.1.5.5.7.3.2".
func ParseOID(s string) (stdasn1.ObjectIdentifier, error) {
	oid, ok := parseDotted(s)
	if !ok {
		return nil, fmt.Errorf("%q is not an object identifier", clip(s))
	}
	return oid, nil
}
