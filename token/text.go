package token

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable replaces what a terminal or a log must not get from a card, each with U+FFFD: control
// characters, escapes, marks that change the direction of writing, and what is not UTF-8.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		// What is not UTF-8 is decoded as U+FFFD, one octet at a time.
		r, size := utf8.DecodeRuneInString(s[i:])
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		i += size
	}
	return b.String()
}
