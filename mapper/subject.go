package mapper

import (
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
)

func newSubject(s mappers.Subject, o Options) (mapping.Mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, certtext.SubjectTexts)
	m.dn = true
	return m, err
}
