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
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
)

// pwentMapper compares the common names with the logins and GECOS fields of accounts.
type pwentMapper struct{ people }

func newPwent(s mappers.Pwent, o Options) mapping.Mapper {
	return &pwentMapper{people{o.Accounts, s.IgnoreCase}}
}

// Binds implements mapping.Mapper.
func (m *pwentMapper) Binds() bool { return false }

// Match implements mapping.Mapper.
func (m *pwentMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	names, err := readTexts(ctx, cert.CommonNames())
	if err != nil {
		return mapping.Answer{}, false, err
	}
	return m.people.Match(ctx, names, user)
}

// Find implements mapping.Mapper.
func (m *pwentMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	names, err := readTexts(ctx, cert.CommonNames())
	if err != nil {
		return nil, err
	}
	return m.people.Find(ctx, names)
}

// people looks for accounts by their logins and GECOS fields.
type people struct {
	accounts   accounts.Source
	ignoreCase bool
}

// Match reports whether one of the names is the account's login, its whole GECOS field or a part of
// it.
func (p people) Match(ctx context.Context, names []string, user *mapping.Person) (mapping.Answer, bool, error) {
	mapping.TellAsked(ctx, "account "+user.Typed)
	account, err := p.accounts.Lookup(user.Typed)
	if err != nil {
		return mapping.Answer{}, false, err
	}

	mapping.TellHeard(ctx, account.Name+":"+account.GECOS)
	for _, n := range names {
		if certtext.Equal(n, account.Name, p.ignoreCase) || p.isCalled(*account, n) {
			return mapping.Answer{User: user.Typed, Value: n, Origin: OriginAccounts}, true, nil
		}
	}

	// Last, because it asks the name service for each name: the account's other names count too.
	for _, n := range names {
		if user.Is(n) {
			return mapping.Answer{User: user.Typed, Value: n, Origin: OriginAccounts}, true, nil
		}
	}

	return mapping.Answer{}, false, nil
}

// isCalled compares a name with the GECOS field: as a whole, its first part (the full name) and its
// fifth and later ones (what only root writes there). The office and the telephone numbers between
// them are left out, because the user may write them himself (chfn(1)) and could take the name of
// somebody else.
func (p people) isCalled(a accounts.Account, name string) bool {
	if a.GECOS == "" || name == "" {
		return false
	}
	if certtext.Equal(name, a.GECOS, p.ignoreCase) {
		return true
	}

	// Fields are the full name, office, two telephone numbers, and what root adds (chfn(1)).
	for i, part := range strings.Split(a.GECOS, ",") {
		ownersField := i >= 1 && i <= 3
		if !ownersField && part != "" && certtext.Equal(name, part, p.ignoreCase) {
			return true
		}
	}
	return false
}

// Find looks for the accounts whose logins are among the names, and else for the one whose GECOS
// field has one of them. Where two accounts have it, it returns ErrAmbiguous.
func (p people) Find(ctx context.Context, names []string) ([]mapping.Answer, error) {
	var logins []mapping.Answer
	for _, n := range names {
		mapping.TellAsked(ctx, "account "+n)
		switch account, err := p.accounts.Lookup(n); {
		case err == nil:
			logins = append(logins, mapping.Answer{User: account.Name, Value: n, Origin: OriginAccounts})
		case !errors.Is(err, accounts.ErrNoAccount):
			return nil, err
		}
	}

	if len(logins) > 0 {
		return logins, nil
	}

	// Going through all accounts can be slow where a name service holds them: only where no login
	// fits.
	byLogin, called, err := p.enumerate(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(byLogin) == 0 {
		byLogin = called
	}

	mapping.TellHeard(ctx, mapping.Users(byLogin)...)
	if len(byLogin) > 1 {
		return nil, mapping.ErrAmbiguous
	}
	return byLogin, nil
}

// enumerate goes through all accounts and returns those whose login is one of the names but for its
// case, and those whose GECOS field has one. An account may be listed by two name services: the
// entry that Lookup returns is the one that counts.
func (p people) enumerate(ctx context.Context, names []string) (byLogin, called []mapping.Answer, err error) {
	mapping.TellAsked(ctx, "the GECOS fields of all accounts")

	hits := map[string]bool{}
	err = p.accounts.All(func(a accounts.Account) bool {
		for _, n := range names {
			if certtext.Equal(n, a.Name, p.ignoreCase) || p.isCalled(a, n) {
				hits[a.Name] = true
			}
		}
		return ctx.Err() == nil
	})
	if err := mapping.FirstError(err, ctx.Err()); err != nil {
		return nil, nil, err
	}

	for _, login := range slices.Sorted(maps.Keys(hits)) {
		account, err := p.accounts.Lookup(login)
		if err != nil {
			return nil, nil, err
		}

		isLogin := func(n string) bool { return certtext.Equal(n, login, p.ignoreCase) }
		isName := func(n string) bool { return p.isCalled(*account, n) }
		if i := slices.IndexFunc(names, isLogin); i >= 0 {
			byLogin = append(byLogin, mapping.Answer{User: login, Value: names[i], Origin: OriginAccounts})
		} else if i := slices.IndexFunc(names, isName); i >= 0 {
			called = append(called, mapping.Answer{User: login, Value: names[i], Origin: OriginAccounts})
		}
	}

	return byLogin, called, nil
}
