package mapper

import (
	"os"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// Texts of the form "user@domain": mail addresses, user principal names and Kerberos principals. A mapfile lists
// them whole, and its login is taken as it stands.

// splitAt cuts a text at its "@"; one without, or with several, has no parts.
func splitAt(text string) (user, domain string, ok bool) {
	user, domain, ok = strings.Cut(text, "@")
	return user, domain, ok && user != "" && domain != "" && !strings.Contains(domain, "@")
}

// newMail: with ignoredomain the user part of an address is the login, whatever the domain; without, only where
// the domain is this host's.
func newMail(s mappers.Mail, o Options) (mapper, error) {
	return newMailFor(s, o, os.Hostname)
}

func newMailFor(s mappers.Mail, o Options, hostname func() (string, error)) (mapper, error) {
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
			host, err := hostname()
			if err != nil || !isOfDomain(host, domain) {
				return nil
			}
		}
		return []string{user}
	}
	return m, nil
}

// isOfDomain tells whether a host is the domain itself or lies in it. A host name without domain lies in none.
func isOfDomain(host, domain string) bool {
	host, domain = lower(strings.TrimSuffix(host, ".")), lower(domain)
	return domain != "" && (host == domain || strings.HasSuffix(host, "."+domain))
}

// newUPN sets up ms and upn, which are the same; upn has a mapfile too.
func newUPN(s mappers.UPN, o Options) (mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).UPNs)
	if err != nil {
		return nil, err
	}
	m.logins = func(text string) []string {
		user, domain, ok := splitAt(text)
		switch {
		case !ok:
			return nil
		case s.IgnoreDomain:
			return []string{user}
		case s.DomainName == "" && s.DomainNickname == "":
			return []string{text} // where logins are written with their domain
		case !same(domain, s.DomainName, m.ignoreCase):
			return nil
		case s.DomainNickname != "":
			return []string{s.DomainNickname + `\` + user}
		}
		return []string{user}
	}
	return m, nil
}

// newKrb: a principal counts as a whole, "alice@EXAMPLE.COM"; one of the block's realm counts by its name alone,
// when that is of one part. A bare string without "@", which some authorities write, is a login as it stands.
func newKrb(s mappers.Krb, o Options) (mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).KerberosPrincipals)
	if err != nil {
		return nil, err
	}
	m.logins = func(text string) []string {
		user, of, ok := splitAt(text)
		if ok && s.Realm != "" && of == s.Realm && !strings.ContainsAny(user, `/\`) {
			return []string{user, text}
		}
		return []string{text}
	}
	return m, nil
}
