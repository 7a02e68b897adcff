package mapper

import (
	"context"
	"errors"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// errAmbiguous is returned when a certificate fits two users.
var errAmbiguous = errors.New("more than one user fits")

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// nullMapper says the same to every certificate: no, or default_user.
type nullMapper struct {
	always bool
	user   string
}

func newNull(s mappers.Null) mapper {
	return &nullMapper{always: s.Always, user: s.User}
}

func (m *nullMapper) binds() bool { return false }

func (m *nullMapper) find(context.Context, *certinfo.Certificate) ([]answer, error) {
	if !m.always || m.user == "" {
		return nil, nil
	}
	return []answer{{user: m.user, value: "any certificate", origin: OriginFixed}}, nil
}

func (m *nullMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	found, err := m.find(ctx, cert)
	a := pick(found, user, false)
	return a, a.user != "" && err == nil, err
}
