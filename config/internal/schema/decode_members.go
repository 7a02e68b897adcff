package schema

import (
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// maxMember bounds the name of a user or group (LOGIN_NAME_MAX).
const maxMember = 256

// checkMembers reads names of users, or of groups. @group, %group and +group, as other programs
// write them, are refused, and so are their words for everybody.
func checkMembers(key string, words []scconf.Word) *Fault {
	for _, w := range words {
		name := w.Text
		otherForm := strings.HasPrefix(name, "@") || strings.HasPrefix(name, "%") ||
			strings.HasPrefix(name, "+")

		// A name that can match nobody would leave somebody out of a rule without a word.
		switch {
		case name == "*" || name == "ALL":
			return &Fault{w, key + " has names, and " + finding.Quote(name) +
				" stands for everybody", "card_others says what holds for those in no list"}
		case otherForm:
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

// breaksNames reports whether r cannot be in a name: control characters, the colon that ends a
// field of passwd(5) and group(5), and the comma that separates the members of a group.
func breaksNames(r rune) bool { return r < ' ' || r == 0x7f || r == ':' || r == ',' }
