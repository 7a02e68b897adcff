package mapper

import (
	"context"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
)

// pwentMapper compares the common names with the login and with the whole GECOS field of accounts.
type pwentMapper struct {
	accounts   accounts.Source
	ignoreCase bool
}

func newPwent(b config.Mapper, o Options) (mapper, error) {
	return &pwentMapper{accounts: o.Accounts, ignoreCase: b.Values.Bool("ignorecase")}, nil
}

func (m *pwentMapper) binds() bool { return false }

func (m *pwentMapper) same(a, b string) bool {
	return a == b || m.ignoreCase && strings.EqualFold(a, b)
}

func (m *pwentMapper) match(_ context.Context, cert *certinfo.Certificate, user string) (answer, bool, error) {
	names := usable(cert.CommonNames())
	if len(names) == 0 {
		return answer{}, false, errNothing
	}
	account, err := m.accounts.Lookup(user)
	if err != nil {
		return answer{}, false, err
	}
	for _, n := range names {
		if m.same(n, account.Name) || account.GECOS != "" && m.same(n, account.GECOS) {
			return answer{user, n, OriginAccounts}, true, nil
		}
	}
	return answer{}, false, nil
}

// find looks for an account whose login or GECOS field is a common name. Two accounts with the same
// GECOS field are nobody's proof: then none is found.
func (m *pwentMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	names := usable(cert.CommonNames())
	if len(names) == 0 {
		return nil, errNothing
	}
	var byLogin, byGECOS []answer
	err := m.accounts.All(func(a accounts.Account) bool {
		for _, n := range names {
			switch {
			case m.same(n, a.Name):
				byLogin = append(byLogin, answer{a.Name, n, OriginAccounts})
			case a.GECOS != "" && m.same(n, a.GECOS):
				byGECOS = append(byGECOS, answer{a.Name, n, OriginAccounts})
			}
		}
		return ctx.Err() == nil
	})
	if err != nil || ctx.Err() != nil {
		return nil, firstError(err, ctx.Err())
	}
	if len(byLogin) > 0 {
		return byLogin, nil
	}
	if len(byGECOS) > 1 {
		return nil, errAmbiguous
	}
	return byGECOS, nil
}
