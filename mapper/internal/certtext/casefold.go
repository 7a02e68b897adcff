// Package certtext writes what a certificate says as text, in all forms in which a mapfile may have
// it, and compares texts. Names, numbers and letters that differ never have the same text.
package certtext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Case is folded so that no letter outside ASCII becomes one inside: Unicode folds the Kelvin sign
// to "k", the long "s" to "s" and the dotted capital "I" to "i", and a certificate could name
// somebody whom it does not spell.

// Lower returns a text in lower case.
func Lower(s string) string {
	return strings.Map(func(r rune) rune {
		// A letter that would become one of ASCII stays as it is.
		if l := unicode.ToLower(r); r < utf8.RuneSelf || l >= utf8.RuneSelf {
			return l
		}
		return r
	}, s)
}

// Equal compares texts, without regard to case where ignoreCase says so. A text that is not UTF-8
// equals only itself.
func Equal(a, b string, ignoreCase bool) bool {
	if a == b || !ignoreCase {
		return a == b
	}
	return utf8.ValidString(a) && utf8.ValidString(b) && Lower(a) == Lower(b)
}

// FoldsIntoASCII reports whether text holds a letter that the engine of regular expressions would
// take for one of ASCII where case does not count.
func FoldsIntoASCII(s string) bool { return strings.ContainsAny(s, "\u212a\u017f") }
