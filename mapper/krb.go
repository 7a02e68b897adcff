package mapper

import (
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// newKrb sets up krb. A principal counts as a whole, "alice@EXAMPLE.COM"; one of the block's realm
// counts by its name alone, when that has one part. A bare string without "@", which some
// authorities write, is a login as it stands.
func newKrb(s mappers.Krb, o Options) (mapping.Mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).KerberosPrincipals)
	if err != nil {
		return nil, err
	}

	m.logins = func(text string) []string {
		user, realm, ok := splitAt(text)
		ours := ok && s.Realm != "" && realm == s.Realm

		// "alice/admin" is another principal than "alice" and must not log in as her.
		if ours && !strings.ContainsAny(user, `/\`) {
			return []string{user, text}
		}
		return []string{text}
	}

	return m, nil
}
