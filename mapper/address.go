package mapper

import (
	"strings"
)

// Texts of the form "user@domain": mail addresses, user principal names and Kerberos principals. A
// mapfile lists them whole, and its login is taken as it stands.

// splitAt cuts a text at its "@"; one without, or with several, has no parts.
func splitAt(text string) (user, domain string, ok bool) {
	user, domain, ok = strings.Cut(text, "@")
	return user, domain, ok && user != "" && domain != "" && !strings.Contains(domain, "@")
}
