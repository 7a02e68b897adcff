package token

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxURI bounds a PKCS#11 URI in bytes.
const maxURI = 4096

// URI is a PKCS#11 URI (RFC 7512) that says which token and which certificate may be used. Texts
// are compared exactly, without the padding of PKCS#11.
type URI struct {
	text    string
	path    map[string]string // attributes of the path, decoded
	Unknown []string          // attributes that this package does not know: with one in its path a URI matches nothing
	nothing bool
}

// pathAttributes are those of RFC 7512, 2.3.
const pathAttributes = " token manufacturer serial model library-manufacturer library-description library-version " +
	"object type id slot-manufacturer slot-description slot-id "

// queryAttributes are those of RFC 7512 that are of no use to us: the library is named by the
// configuration.
const queryAttributes = " module-name module-path "

// ParseURI reads a PKCS#11 URI of at most 4096 bytes, strictly. pin-value and pin-source are
// refused: a PIN is asked for, not configured. As RFC 7512 (2.3 and 2.4) wants it, other attributes
// that are not known make the URI match nothing in the path, and are ignored in the query.
func ParseURI(s string) (*URI, error) {
	if len(s) > maxURI {
		return nil, fmt.Errorf("PKCS#11 URI of more than %d bytes", maxURI)
	}

	const scheme = "pkcs11:"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return nil, errors.New(`a PKCS#11 URI begins with "pkcs11:"`)
	}

	u := &URI{text: s, path: map[string]string{}}
	path, query, hasQuery := strings.Cut(s[len(scheme):], "?")
	if path != "" {
		for a := range strings.SplitSeq(path, ";") {
			if err := u.addPath(a); err != nil {
				return nil, err
			}
		}
	}

	if hasQuery && query != "" {
		for a := range strings.SplitSeq(query, "&") {
			if err := u.addQuery(a); err != nil {
				return nil, err
			}
		}
	}

	return u, nil
}

// String returns the URI as it was given.
func (u *URI) String() string { return u.text }

func (u *URI) addPath(a string) error {
	name, value, err := splitAttribute(a, "&")
	if err != nil {
		return err
	}
	// An attribute of the path may be there only once (RFC 7512, 2.3).
	if _, twice := u.path[name]; twice {
		return fmt.Errorf("PKCS#11 URI: %s is given twice", name)
	}

	switch name {
	case "pin-value", "pin-source":
		return fmt.Errorf("PKCS#11 URI: %s is refused", name)
	case "slot-id":
		if _, err := strconv.ParseUint(value, 10, strconv.IntSize); err != nil {
			return errors.New("PKCS#11 URI: slot-id is not a number")
		}
	case "library-version":
		if _, _, err := parseVersion(value); err != nil {
			return err
		}
	case "type":
		// The word is looked for between blanks: a part of one does not count.
		if !strings.Contains(" public private cert secret-key data ", " "+value+" ") || value == "" {
			return fmt.Errorf("PKCS#11 URI: type %q is not known", value)
		}
	}

	// An id is octets; all other values are text.
	if name != "id" && !utf8.ValidString(value) {
		return fmt.Errorf("PKCS#11 URI: %s is not UTF-8", name)
	}
	if !strings.Contains(pathAttributes, " "+name+" ") {
		// What is not known may be what tells the token from others: it matches nothing.
		u.Unknown = append(u.Unknown, name)
		u.nothing = true
	}
	u.path[name] = value
	return nil
}

func (u *URI) addQuery(a string) error {
	name, _, err := splitAttribute(a, "/?|")
	if err != nil {
		return err
	}

	switch {
	case name == "pin-value" || name == "pin-source":
		return fmt.Errorf("PKCS#11 URI: %s is refused: a PIN is asked for, not configured", name)
	case !strings.Contains(queryAttributes, " "+name+" "):
		u.Unknown = append(u.Unknown, name)
	}
	return nil
}

// splitAttribute takes "name=value" apart and decodes the value.
func splitAttribute(a, extra string) (name, value string, err error) {
	name, encoded, ok := strings.Cut(a, "=")
	if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return "", "", errors.New("PKCS#11 URI: an attribute is not name=value")
	}

	value, err = percentDecode(encoded, extra)
	if err != nil {
		return "", "", fmt.Errorf("PKCS#11 URI: %s: %w", name, err)
	}
	return name, value, nil
}

// allowed are the characters that stand for themselves (RFC 7512, 2.3: unreserved and
// pk11-res-avail).
const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:[]@!$'()*+,="

func percentDecode(s, extra string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", errors.New("% without two digits")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New("% without two hexadecimal digits")
			}
			b.WriteByte(byte(n))
			i += 2
		// Beyond ASCII no character stands for itself.
		case c < utf8.RuneSelf && strings.IndexByte(allowed+extra, c) >= 0:
			b.WriteByte(c)
		default:
			return "", fmt.Errorf("character %q must be written as %%%02X", rune(c), c)
		}
	}

	return b.String(), nil
}

// parseVersion reads "major" or "major.minor".
func parseVersion(s string) (major, minor byte, err error) {
	a, b, two := strings.Cut(s, ".")
	high, err1 := strconv.ParseUint(a, 10, 8)
	low := uint64(0)
	var err2 error
	// Without a dot the minor number is 0.
	if two {
		low, err2 = strconv.ParseUint(b, 10, 8)
	}

	if errors.Join(err1, err2) != nil {
		return 0, 0, fmt.Errorf("PKCS#11 URI: library-version %q is not a version", Printable(s))
	}
	return byte(high), byte(low), nil
}

// MatchToken reports whether the token in a slot, the slot and the library are those of the URI.
func (u *URI) MatchToken(s Slot) bool {
	if u.nothing || s.Token == nil {
		return false
	}
	for name, value := range map[string]string{
		"token":        s.Token.Label,
		"manufacturer": s.Token.Manufacturer,
		"serial":       s.Token.Serial,
		"model":        s.Token.Model,
		"slot-id":      strconv.FormatUint(uint64(s.ID), 10),
	} {
		if !u.is(name, value) {
			return false
		}
	}

	// The library is asked for the description only where the URI names it: that is one call more.
	if u.has("slot-description") || u.has("slot-manufacturer") {
		if s.Describe() != nil || !u.is("slot-description", s.Description) || !u.is("slot-manufacturer", s.Manufacturer) {
			return false
		}
	}

	return u.matchLibrary(s.Details)
}

func (u *URI) matchLibrary(d Details) bool {
	version, hasVersion := u.path["library-version"]
	// The library is not asked who made it, unless the URI names it.
	if !hasVersion && !u.has("library-manufacturer") && !u.has("library-description") {
		return true
	}

	// A module that does not tell who made it cannot be the one that is asked for.
	if d == nil {
		return false
	}

	info, err := d.Library()
	if err != nil || !u.is("library-manufacturer", info.Manufacturer) || !u.is("library-description", info.Description) {
		return false
	}

	if !hasVersion {
		return true
	}
	major, minor, err := parseVersion(version)
	return err == nil && major == info.Major && minor == info.Minor
}

// MatchObject reports whether a certificate, or the key that belongs to it, is one of the URI's: by
// object, id and type.
func (u *URI) MatchObject(label string, id []byte) bool {
	if u.nothing || !u.is("object", label) {
		return false
	}
	if want, ok := u.path["id"]; ok && !bytes.Equal(id, []byte(want)) {
		return false
	}

	// A certificate stands for its private key, too.
	kind, ok := u.path["type"]
	return !ok || kind == "cert" || kind == "private"
}

func (u *URI) has(name string) bool { _, ok := u.path[name]; return ok }

// is reports whether an attribute is absent or has this value. A slot-id may have zeros before it.
func (u *URI) is(name, value string) bool {
	want, ok := u.path[name]
	if ok && name == "slot-id" {
		return strings.TrimLeft(want, "0") == strings.TrimLeft(value, "0")
	}
	return !ok || strings.TrimRight(want, " ") == value
}
