package mapper

import (
	"context"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// nullMapper says the same to every certificate: no, or default_user.
type nullMapper struct {
	always bool
	user   string
}

func newNull(s mappers.Null) mapping.Mapper {
	return &nullMapper{always: s.Always, user: s.User}
}

// Binds implements mapping.Mapper.
func (m *nullMapper) Binds() bool { return false }

// Find implements mapping.Mapper.
func (m *nullMapper) Find(context.Context, *certinfo.Certificate) ([]mapping.Answer, error) {
	if !m.always || m.user == "" {
		return nil, nil
	}
	return []mapping.Answer{{User: m.user, Value: "any certificate", Origin: OriginFixed}}, nil
}

// Match implements mapping.Mapper.
func (m *nullMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	found, err := m.Find(ctx, cert)
	a := mapping.Pick(found, user, false)
	return a, a.User != "" && err == nil, err
}
