package mapper

import (
	"context"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
)

// genericMapper takes one item of the certificate, maps it by a mapfile where there is one, and
// with use_getpwent replaces it by the login whose name or GECOS field it is.
type genericMapper struct {
	textMapper
	accounts accounts.Source // nil without use_getpwent
}

// items are the readers of the values that cert_item can have.
var items = map[string]func(*certinfo.Certificate) []certinfo.Text{
	"cn":      (*certinfo.Certificate).CommonNames,
	"subject": certtext.SubjectTexts,
	"kpn":     (*certinfo.Certificate).KerberosPrincipals,
	"email":   (*certinfo.Certificate).Emails,
	"upn":     (*certinfo.Certificate).UPNs,
	"uid":     (*certinfo.Certificate).UserIDs,
	"serial":  serialItem,
}

func newGeneric(s mappers.Generic, o Options) (mapping.Mapper, error) {
	texts, err := newText(s.Mapfile, s.IgnoreCase, o, items[s.Item])
	m := &genericMapper{textMapper: *texts}
	m.dn = s.Item == "subject"
	if s.UseAccounts {
		m.accounts = o.Accounts
	}
	return m, err
}

// Find implements mapping.Mapper.
func (m *genericMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	if m.accounts == nil {
		return m.textMapper.Find(ctx, cert)
	}
	names, err := m.names(ctx, cert)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return people{m.accounts, m.ignoreCase}.Find(ctx, names)
}

// names returns the names to look for among the accounts.
func (m *genericMapper) names(ctx context.Context, cert *certinfo.Certificate) ([]string, error) {
	values, err := readTexts(ctx, m.texts(cert))
	if err != nil || m.mapfile == nil {
		return values, err
	}

	// With both, the mapfile gives the name that is looked for, and not the login.
	mapped, err := m.mapfile.Lookup(ctx, append(values, m.written(values)...))
	values = nil
	for _, a := range mapped {
		values = append(values, a.User)
	}
	return values, err
}

// Match implements mapping.Mapper.
func (m *genericMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	if m.accounts == nil {
		return m.textMapper.Match(ctx, cert, user)
	}
	names, err := m.names(ctx, cert)
	if err != nil || len(names) == 0 {
		return mapping.Answer{}, false, err
	}
	return people{m.accounts, m.ignoreCase}.Match(ctx, names, user)
}
