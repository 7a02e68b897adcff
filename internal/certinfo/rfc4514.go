package certinfo

import (
	stdasn1 "encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ParseRFC4514 reads the string form of RFC 4514, most specific part first, with the looser things
// of RFC 2253 that people type: blanks around separators, ";" between parts, quoted values. "" is
// the empty name.
func ParseRFC4514(s string) (Name, error) {
	if len(s) > maxTypedName || !utf8.ValidString(s) {
		return nil, errors.New("name is too long or not UTF-8")
	}

	name := Name{}
	if strings.TrimSpace(s) == "" {
		return name, nil
	}

	r := dnReader{rest: s}
	for {
		rdn, more, err := r.rdn()
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", clip(s), err)
		}
		name = append(name, rdn)
		// The text begins with the most specific part, a Name with the most general one.
		if !more {
			slices.Reverse(name)
			return name, nil
		}
	}
}

// dnReader walks through a typed name.
type dnReader struct{ rest string }

// rdn reads one relative name and its separator; more reports whether another must follow.
func (r *dnReader) rdn() (rdn RDN, more bool, err error) {
	for {
		a, err := r.attribute()
		if err != nil {
			return nil, false, err
		}

		if len(rdn) == maxAttributes {
			return nil, false, fmt.Errorf("more than %d attributes in one relative name", maxAttributes)
		}

		rdn = append(rdn, a)
		if r.rest == "" {
			return rdn, false, nil
		}

		separator := r.rest[0]
		r.rest = r.rest[1:]
		if separator != '+' {
			return rdn, true, nil
		}
	}
}

// attribute reads "TYPE=" and the value, up to its separator.
func (r *dnReader) attribute() (Attribute, error) {
	equals := strings.IndexByte(r.rest, '=')
	if equals < 0 {
		return Attribute{}, fmt.Errorf("no \"=\" in %q", clip(r.rest))
	}

	oid, ok := attributeType(r.rest[:equals])
	if !ok {
		return Attribute{}, fmt.Errorf("unknown attribute type %q", clip(strings.TrimSpace(r.rest[:equals])))
	}

	// "#" begins the DER of a value, unless it is escaped (RFC 4514, 2.4).
	r.rest = strings.TrimLeft(r.rest[equals+1:], " ")
	if strings.HasPrefix(r.rest, "#") {
		return r.hexValue(oid)
	}

	text, err := r.value()
	if err != nil {
		return Attribute{}, err
	}
	return newAttribute(oid, tagUTF8String, []byte(text)), nil
}

// hexValue reads "#" and the DER of a value.
func (r *dnReader) hexValue(oid stdasn1.ObjectIdentifier) (Attribute, error) {
	// What is no hexadecimal digit fails below; the separator alone decides where the value ends.
	end := strings.IndexAny(r.rest, "+,;")
	if end < 0 {
		end = len(r.rest)
	}

	digits := strings.TrimRight(r.rest[1:end], " ")
	r.rest = r.rest[end:]
	der, err := hex.DecodeString(digits)
	if err != nil {
		return Attribute{}, fmt.Errorf("value #%s is not hexadecimal", clip(digits))
	}

	s := cryptobyte.String(der)
	var content cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&content, &tag) || !s.Empty() {
		return Attribute{}, fmt.Errorf("value #%s is not DER", clip(digits))
	}
	return newAttribute(oid, int(tag), content), nil
}

// value reads a string or a quoted string up to its separator, which stays in rest.
func (r *dnReader) value() (string, error) {
	s := r.rest
	var b []byte

	quoted := strings.HasPrefix(s, `"`)
	i := 0
	if quoted {
		i = 1
	}
	keep := 0 // length of b up to the last octet that is not a trailing blank
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		// An escaped octet stays, even when it is a blank at the end.
		case c == '\\':
			v, n, err := unescape(s[i+1:])
			if err != nil {
				return "", err
			}
			b = append(b, v)
			keep = len(b)
			i += n
			continue
		case quoted && c == '"':
			r.rest = strings.TrimLeft(s[i+1:], " ")
			if r.rest != "" && !strings.ContainsRune("+,;", rune(r.rest[0])) {
				return "", errors.New("text after a quoted value")
			}
			return string(b), nil
		// Within quotes the separators are text.
		case quoted:
		case c == ',' || c == '+' || c == ';':
			r.rest = s[i:]
			return string(b[:keep]), nil
		case c == '"' || c == '<' || c == '>':
			return "", fmt.Errorf("%q must be escaped", c)
		}

		b = append(b, c)
		if c != ' ' || quoted {
			keep = len(b)
		}
	}

	if quoted {
		return "", errors.New("quoted value without end")
	}
	r.rest = ""
	return string(b[:keep]), nil
}

// unescape reads what follows a backslash: a special character, or two hexadecimal digits. n is the
// length of either.
func unescape(s string) (v byte, n int, err error) {
	// None of the special characters is a digit, so the order does not matter.
	if len(s) >= 2 {
		if d, err := hex.DecodeString(s[:2]); err == nil {
			return d[0], 2, nil
		}
	}
	if s != "" && strings.IndexByte(` "#+,;<=>\`, s[0]) >= 0 {
		return s[0], 1, nil
	}
	return 0, 0, errors.New(`stray "\"`)
}
