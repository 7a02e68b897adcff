package mapper

import (
	"errors"
	"fmt"
	"strconv"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/ldapconn"
)

// loginReader tells which login an entry has. It has one: the value in its relative name, which only who may rename it can
// change. Where the login is not part of the name, whoever may write the attribute could be anybody; there it counts once
// the directory has confirmed that no other entry has it (confirmation), and the entry's uidNumber is the account's.
type loginReader struct {
	filter       *userFilter
	uidAttribute string
	accounts     accounts.Source
}

// numberAttribute holds the number of the account (RFC 2307, 2.2).
const numberAttribute = "uidNumber"

// attribute is the one that names the login.
func (r *loginReader) attribute() string {
	if r.uidAttribute != "" {
		return r.uidAttribute
	}
	return r.filter.attribute
}

// attributes are those that must be fetched.
func (r *loginReader) attributes() []string {
	if r.uidAttribute == "" {
		return []string{r.filter.attribute}
	}
	return []string{r.uidAttribute, numberAttribute}
}

var errNoLogin = errors.New("the entry does not say its login")

// of returns the login of an entry. inName tells that it stands in the entry's relative name; where it does not, it is to
// be confirmed.
func (r *loginReader) of(e ldapconn.Entry) (login string, inName bool, err error) {
	if value, ok := e.Named(r.attribute()); ok {
		login, err = r.read(e, []byte(value))
		return login, true, err
	}
	if r.uidAttribute == "" {
		return "", false, cure(
			fmt.Errorf("%w: %s is not named by %s, which the filter compares; whoever may write that could be anybody", errNoLogin, e.DN, r.filter.attribute),
			"uid_attribute = ATTRIBUTE, the one that names the login",
		)
	}
	values := e.Get(r.uidAttribute)
	switch {
	case len(values) == 0:
		return "", false, fmt.Errorf("%w: %s has no %s that can be read", errNoLogin, e.DN, r.uidAttribute)
	case len(values) > 1:
		return "", false, fmt.Errorf("%w: %s has %d values of %s", errAmbiguous, e.DN, len(values), r.uidAttribute)
	}
	login, err = r.read(e, values[0])
	return login, false, err
}

// read takes the login out of the value that names it.
func (r *loginReader) read(e ldapconn.Entry, value []byte) (string, error) {
	login, ok := string(value), isLogin(string(value))
	if r.uidAttribute == "" {
		login, ok = r.filter.login(value)
	}
	if !ok {
		return "", fmt.Errorf("%w: %s %q of %s cannot be one", errNoLogin, r.attribute(), value, e.DN)
	}
	return login, nil
}

// confirmation is the searches of which each must find exactly the entry whose login is not in its name: the one for the
// login as a user would be asked for, and, where that does not compare the attribute, the one for the attribute's value.
func (r *loginReader) confirmation(login string) []string {
	var filters []string
	if !r.filter.constant {
		filters = append(filters, r.filter.of(login))
	}
	if plain := r.filter.prefix == "" && r.filter.suffix == ""; !plain || !ldapconn.SameAttribute(r.filter.attribute, r.uidAttribute) {
		filters = append(filters, "(&"+r.filter.ofAll()+"("+r.uidAttribute+"="+ldapconn.EscapeFilter([]byte(login))+"))")
	}
	return filters
}

// checkNumber compares the uidNumber of an entry, where it has one, with the account's.
func (r *loginReader) checkNumber(e ldapconn.Entry, login string) error {
	values := e.Get(numberAttribute)
	if len(values) == 0 {
		return nil
	}
	account, err := r.accounts.Lookup(login)
	if errors.Is(err, accounts.ErrNoAccount) {
		return nil // whether it may be named all the same is the chain's to say
	}
	if err != nil {
		return fmt.Errorf("account %q: %w", login, err)
	}
	for _, v := range values {
		if string(v) != strconv.FormatUint(uint64(account.UID), 10) {
			return fmt.Errorf("%w: %s %q of %s is not that of the account %q, %d", errNoLogin, numberAttribute, v, e.DN, login, account.UID)
		}
	}
	return nil
}

// anybodyWarning is said wherever a login is not part of an entry's name.
func anybodyWarning(attribute string) string {
	return "whoever may write " + attribute + " may log in as anybody"
}
