package schema

import (
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// maxMember bounds the name of a user or group (LOGIN_NAME_MAX).
const maxMember = 256

// checkMembers reads names of users, or of groups. What other programs write for a group or for
// everybody is no name.
func checkMembers(key string, words []scconf.Word) *Fault {
	for _, w := range words {
		name := w.Text
		switch {
		case name == "*" || name == "ALL":
			return &Fault{w, key + " has names, and " + finding.Quote(name) +
				" stands for everybody", "card_others says what holds for those in no list"}
		case strings.HasPrefix(name, "@") || strings.HasPrefix(name, "%") ||
			strings.HasPrefix(name, "+"):
			return &Fault{w, finding.Quote(name) + " is no name",
				"names of groups stand alone, in the keys that end with _groups"}
		case name == "" || strings.TrimSpace(name) != name:
			return &Fault{w, finding.Quote(name) + " is no name of a user or group", ""}
		case len(name) > maxMember || strings.ContainsFunc(name, breaksNames):
			return &Fault{w, finding.Quote(name) + " cannot be the name of a user or group", ""}
		}
	}
	return nil
}

// breaksNames: control characters, and the colon that ends a field of passwd(5) and group(5).
func breaksNames(r rune) bool { return r < ' ' || r == 0x7f || r == ':' || r == ',' }
