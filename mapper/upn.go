package mapper

import (
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
)

// newUPN sets up ms and upn, which differ in that upn has a mapfile too.
func newUPN(s mappers.UPN, o Options) (mapping.Mapper, error) {
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
		case !certtext.Equal(domain, s.DomainName, m.ignoreCase):
			return nil
		case s.DomainNickname != "":
			return []string{s.DomainNickname + `\` + user}
		}
		return []string{user}
	}

	return m, nil
}
