// Package certtext writes what a certificate says as text, in all forms in which a mapfile may have
// it, and compares texts. No two names, numbers or letters share a text here that are not the same.
package certtext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Case is folded so that no letter outside ASCII becomes one inside: Unicode would have the Kelvin
// sign be a "k", the long "s" an "s" and the dotted capital "I" an "i", and a certificate could
// name somebody whom it does not spell.

// Lower is text in lower case.
func Lower(s string) string {
	return strings.Map(func(r rune) rune {
		if l := unicode.ToLower(r); r < utf8.RuneSelf || l >= utf8.RuneSelf {
			return l
		}
		return r
	}, s)
}

// Equal compares texts, without regard to case where that is asked for. Octets that are not UTF-8
// are only the same as themselves.
func Equal(a, b string, ignoreCase bool) bool {
	return a == b || ignoreCase && utf8.ValidString(a) && utf8.ValidString(b) && Lower(a) == Lower(b)
}

// FoldsIntoASCII reports whether text holds a letter that the engine of regular expressions would
// take for one of ASCII where case does not count.
func FoldsIntoASCII(s string) bool { return strings.ContainsAny(s, "\u212a\u017f") }
