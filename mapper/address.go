package mapper

import (
	"strings"
)

// Texts of the form "user@domain": mail addresses, user principal names and Kerberos principals. A
// mapfile lists them whole, and its login is taken as it stands.

// splitAt cuts a text at its only "@". ok is false where there is none or several, or where a part
// is empty.
func splitAt(text string) (user, domain string, ok bool) {
	user, domain, ok = strings.Cut(text, "@")
	return user, domain, ok && user != "" && domain != "" && !strings.Contains(domain, "@")
}
