package certinfo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a piece of text from a certificate. OK is false when it does not decode or holds NUL or
// control characters: then Value is empty or partial, Why says what is wrong in English, and the
// text must never match anything.
type Text struct {
	Value string
	OK    bool
	Why   string
}

// Universal tags of the string types (X.680, 8.6).
const (
	tagBitString       = 3
	tagOctetString     = 4
	tagUTF8String      = 12
	tagNumericString   = 18
	tagPrintableString = 19
	tagT61String       = 20
	tagIA5String       = 22
	tagVisibleString   = 26
	tagGeneralString   = 27
	tagUniversalString = 28
	tagBMPString       = 30
)

// decodeString turns the content octets of an ASN.1 string into UTF-8. TeletexString is read as ISO
// 8859-1, as every CA writes it; GeneralString as UTF-8, as Kerberos uses it (RFC 4120, 5.2.1).
func decodeString(tag int, b []byte) (string, error) {
	switch tag {
	case tagUTF8String, tagGeneralString:
		if !utf8.Valid(b) {
			return "", errors.New("not valid UTF-8")
		}
		return string(b), nil
	// The narrower alphabets of some of these are not enforced: CAs break them.
	case tagPrintableString, tagIA5String, tagNumericString, tagVisibleString:
		for _, c := range b {
			if c >= 0x80 {
				return "", errors.New("non-ASCII octet in an ASCII string")
			}
		}
		return string(b), nil
	case tagT61String:
		// Real T.61 has shifts and combining marks, which no CA uses.
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return string(runes), nil
	case tagBMPString:
		return decodeBMP(b)
	case tagUniversalString:
		return decodeUniversal(b)
	case tagBitString: // x500UniqueIdentifier
		if len(b) == 0 || b[0] != 0 || !utf8.Valid(b[1:]) {
			return "", errors.New("bit string that is not text")
		}
		return string(b[1:]), nil
	}
	return "", fmt.Errorf("type %d is not a string", tag)
}

// decodeBMP decodes UTF-16 in big-endian order.
func decodeBMP(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("odd number of octets in a BMPString")
	}

	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(b[2*i:])
	}

	// Surrogates are not of UCS-2, but Windows writes pairs of them; a lone one is an error.
	runes := utf16.Decode(units)
	n := 0
	// n is the unit at which r begins: there the replacement character itself is no lone surrogate.
	for _, r := range runes {
		if r == utf8.RuneError && (n >= len(units) || units[n] != utf8.RuneError) {
			return "", errors.New("lone surrogate in a BMPString")
		}
		n += max(1, utf16.RuneLen(r))
	}
	return string(runes), nil
}

// decodeUniversal decodes UTF-32 in big-endian order.
func decodeUniversal(b []byte) (string, error) {
	if len(b)%4 != 0 {
		return "", errors.New("UniversalString is not a multiple of four octets")
	}

	runes := make([]rune, 0, len(b)/4)
	for ; len(b) > 0; b = b[4:] {
		v := binary.BigEndian.Uint32(b)
		if v > unicode.MaxRune || !utf8.ValidRune(rune(v)) {
			return "", errors.New("no such character in a UniversalString")
		}
		runes = append(runes, rune(v))
	}
	return string(runes), nil
}

// checkText refuses what must never be compared: nothing at all, NUL, control characters, line
// ends.
func checkText(s string) error {
	if s == "" {
		return errors.New("empty")
	}
	for _, r := range s {
		switch {
		case r == 0:
			return errors.New("holds a NUL character")
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return fmt.Errorf("holds the control character U+%04X", r)
		}
	}
	return nil
}

// newText decodes and checks a string.
func newText(tag int, b []byte) Text {
	s, err := decodeString(tag, b)
	if err == nil {
		err = checkText(s)
	}
	// A text that does not decode, or must not be compared, is kept to be shown.
	if err != nil {
		return Text{Value: s, Why: err.Error()}
	}
	return Text{Value: s, OK: true}
}

// clip shortens a text for an error.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
