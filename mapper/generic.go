package mapper

import (
	"context"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
)

// genericMapper takes one item of the certificate, maps it by a mapfile where there is one, and with use_getpwent
// replaces it by the login whose name or GECOS field it is.
type genericMapper struct {
	textMapper
	accounts accounts.Source // nil without use_getpwent
}

var items = map[string]func(*certinfo.Certificate) []certinfo.Text{
	"cn": (*certinfo.Certificate).CommonNames, "subject": subjectTexts, "kpn": (*certinfo.Certificate).KerberosPrincipals,
	"email": (*certinfo.Certificate).Emails, "upn": (*certinfo.Certificate).UPNs, "uid": (*certinfo.Certificate).UserIDs,
	"serial": serialItem,
}

func newGeneric(s mappers.Generic, o Options) (mapper, error) {
	texts, err := newText(s.Mapfile, s.IgnoreCase, o, items[s.Item])
	m := &genericMapper{textMapper: *texts}
	m.dn = s.Item == "subject"
	if s.UseAccounts {
		m.accounts = o.Accounts
	}
	return m, err
}

func (m *genericMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	if m.accounts == nil {
		return m.textMapper.find(ctx, cert)
	}
	names, err := m.names(ctx, cert)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return people{m.accounts, m.ignoreCase}.find(ctx, names)
}

// names returns what is looked for among the accounts.
func (m *genericMapper) names(ctx context.Context, cert *certinfo.Certificate) ([]string, error) {
	values, err := readTexts(ctx, m.texts(cert))
	if err != nil || m.mapfile == nil {
		return values, err
	}
	mapped, err := m.mapfile.lookup(ctx, append(values, m.written(values)...))
	values = nil
	for _, a := range mapped {
		values = append(values, a.user)
	}
	return values, err
}

func (m *genericMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	if m.accounts == nil {
		return m.textMapper.match(ctx, cert, user)
	}
	names, err := m.names(ctx, cert)
	if err != nil || len(names) == 0 {
		return answer{}, false, err
	}
	return people{m.accounts, m.ignoreCase}.match(ctx, names, user)
}
