package pkcs11

import (
	"strings"

	"pam_pkcs11/token"
)

// text cuts the padding of a fixed field, blanks by the specification and NUL by habit, and makes
// the rest printable.
func text(field string) string { return token.Printable(strings.TrimRight(field, " \x00")) }
