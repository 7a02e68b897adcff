package mapper

import (
	"os"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
)

// newMail sets up mail. With ignoredomain the user part of an address is the login, whatever the
// domain; without, only where the domain is this host's.
func newMail(s mappers.Mail, o Options) (mapping.Mapper, error) {
	return newMailFor(s, o, os.Hostname)
}

// newMailFor is newMail with the reader of the host's name, which tests replace.
func newMailFor(s mappers.Mail, o Options, hostname func() (string, error)) (mapping.Mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).Emails)
	if err != nil {
		return nil, err
	}

	m.logins = func(text string) []string {
		user, domain, ok := splitAt(text)
		if !ok {
			return nil
		}

		if !s.IgnoreDomain {
			// A host whose name is not known lies in no domain.
			host, err := hostname()
			if err != nil || !isOfDomain(host, domain) {
				return nil
			}
		}

		return []string{user}
	}

	return m, nil
}

// isOfDomain reports whether a host is the domain itself or lies in it. A host name without domain
// lies in none.
func isOfDomain(host, domain string) bool {
	host = certtext.Lower(strings.TrimSuffix(host, "."))
	domain = certtext.Lower(domain)
	return domain != "" && (host == domain || strings.HasSuffix(host, "."+domain))
}
