package mapper

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
)

// pwentMapper compares the common names with the logins and GECOS fields of accounts.
type pwentMapper struct{ people }

func newPwent(s mappers.Pwent, o Options) mapper {
	return &pwentMapper{people{o.Accounts, s.IgnoreCase}}
}

func (m *pwentMapper) binds() bool { return false }

func (m *pwentMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	names, err := readTexts(ctx, cert.CommonNames())
	if err != nil {
		return answer{}, false, err
	}
	return m.people.match(ctx, names, user)
}

func (m *pwentMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	names, err := readTexts(ctx, cert.CommonNames())
	if err != nil {
		return nil, err
	}
	return m.people.find(ctx, names)
}

// people looks for accounts by what they are called.
type people struct {
	accounts   accounts.Source
	ignoreCase bool
}

// match tells whether one of the names is the account's login, its whole GECOS field or a part of it.
func (p people) match(ctx context.Context, names []string, user *person) (answer, bool, error) {
	tellAsked(ctx, "account "+user.typed)
	account, err := p.accounts.Lookup(user.typed)
	if err != nil {
		return answer{}, false, err
	}
	tellHeard(ctx, account.Name+":"+account.GECOS)
	for _, n := range names {
		if same(n, account.Name, p.ignoreCase) || p.isCalled(*account, n) {
			return answer{user: user.typed, value: n, origin: OriginAccounts}, true, nil
		}
	}
	for _, n := range names {
		if user.is(n) {
			return answer{user: user.typed, value: n, origin: OriginAccounts}, true, nil
		}
	}
	return answer{}, false, nil
}

// isCalled compares a name with the GECOS field: as a whole, its first part (the full name) and its fifth and later
// ones (what only root writes there). The office and the telephone numbers between them are left out, because the
// user may write them himself (chfn(1)) and could take the name of somebody else.
func (p people) isCalled(a accounts.Account, name string) bool {
	if a.GECOS == "" || name == "" {
		return false
	}
	if same(name, a.GECOS, p.ignoreCase) {
		return true
	}
	for i, part := range strings.Split(a.GECOS, ",") {
		if (i == 0 || i > 3) && part != "" && same(name, part, p.ignoreCase) {
			return true
		}
	}
	return false
}

// find looks for the accounts whose logins are among the names, and else for the one that is called so. Two accounts
// with the same GECOS field are nobody's proof: then none is found.
func (p people) find(ctx context.Context, names []string) ([]answer, error) {
	var logins []answer
	for _, n := range names {
		tellAsked(ctx, "account "+n)
		switch account, err := p.accounts.Lookup(n); {
		case err == nil:
			logins = append(logins, answer{user: account.Name, value: n, origin: OriginAccounts})
		case !errors.Is(err, accounts.ErrNoAccount):
			return nil, err
		}
	}
	if len(logins) > 0 {
		return logins, nil
	}
	byLogin, called, err := p.enumerate(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(byLogin) == 0 {
		byLogin = called
	}
	tellHeard(ctx, users(byLogin)...)
	if len(byLogin) > 1 {
		return nil, errAmbiguous
	}
	return byLogin, nil
}

// enumerate goes through all accounts and returns those whose login is one of the names but for its case, and those
// that are called so. An account may be listed by two name services; what Lookup gives is what counts of it.
func (p people) enumerate(ctx context.Context, names []string) (byLogin, called []answer, err error) {
	tellAsked(ctx, "the GECOS fields of all accounts")
	hits := map[string]bool{}
	err = p.accounts.All(func(a accounts.Account) bool {
		for _, n := range names {
			if same(n, a.Name, p.ignoreCase) || p.isCalled(a, n) {
				hits[a.Name] = true
			}
		}
		return ctx.Err() == nil
	})
	if err := firstError(err, ctx.Err()); err != nil {
		return nil, nil, err
	}
	for _, login := range slices.Sorted(maps.Keys(hits)) {
		account, err := p.accounts.Lookup(login)
		if err != nil {
			return nil, nil, err
		}
		isLogin := func(n string) bool { return same(n, login, p.ignoreCase) }
		isName := func(n string) bool { return p.isCalled(*account, n) }
		if i := slices.IndexFunc(names, isLogin); i >= 0 {
			byLogin = append(byLogin, answer{user: login, value: names[i], origin: OriginAccounts})
		} else if i := slices.IndexFunc(names, isName); i >= 0 {
			called = append(called, answer{user: login, value: names[i], origin: OriginAccounts})
		}
	}
	return byLogin, called, nil
}

func users(found []answer) []string {
	var list []string
	for _, a := range found {
		list = append(list, a.user)
	}
	return list
}
