package directory

import (
	"errors"
	"fmt"
	"strconv"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// NewLoginReader sets up how entries and logins belong together.
func NewLoginReader(s mappers.Directory, o mapping.Options) (*LoginReader, error) {
	f, err := newUserFilter(s.Filter, s.IgnoreCase)
	if err != nil {
		return nil, &mappers.Fault{Key: "filter", Err: err}
	}

	r := &LoginReader{
		Filter:       f,
		UIDAttribute: s.UIDAttribute,
		assumed:      s.UIDAssumed,
		accounts:     o.Accounts,
	}

	// Without uid_attribute the filter must show in which attribute, and how, the login stands.
	switch {
	case r.UIDAttribute != "":
		return r, nil
	case f.Constant:
		err = errors.New("filter has no %s for the login, and uid_attribute does not say where the login stands")
	case f.several:
		err = errors.New("filter compares %s in more than one way, and uid_attribute does not say where the login stands")
	case f.attribute == "":
		err = errors.New("filter does not plainly compare an attribute with %s, and uid_attribute does not say where the login stands")
	}
	if err != nil {
		return nil, &mappers.Fault{Key: "filter", Err: err}
	}
	return r, nil
}

// LoginReader reads which login an entry has. The value in the entry's relative name counts at
// once: only who may rename the entry can change it. Elsewhere whoever may write the attribute
// could be anybody; the value counts once the directory has confirmed that no other entry has it
// (confirmation), and that the entry's uidNumber is the account's.
type LoginReader struct {
	Filter       *UserFilter
	UIDAttribute string
	assumed      bool // UIDAttribute is not written in the configuration
	accounts     accounts.Source
}

// numberAttribute holds the number of the account (RFC 2307, 2.2).
const numberAttribute = "uidNumber"

// attribute returns the attribute that names the login.
func (r *LoginReader) attribute() string {
	if r.UIDAttribute != "" {
		return r.UIDAttribute
	}
	return r.Filter.attribute
}

// attributes returns the attributes that must be fetched.
func (r *LoginReader) attributes() []string {
	if r.UIDAttribute == "" {
		return []string{r.Filter.attribute}
	}
	return []string{r.UIDAttribute, numberAttribute}
}

// cureLogin is what to write where it is not known which attribute names the login.
const cureLogin = "uid_attribute = ATTRIBUTE, the one that names the login"

var errNoLogin = errors.New("the entry does not say its login")

// of returns the login of an entry. inName reports whether it is the value of the entry's relative
// name; where it is not, it needs confirmation.
func (r *LoginReader) of(e ldapconn.Entry) (login string, inName bool, err error) {
	if value, ok := e.Named(r.attribute()); ok {
		login, err = r.read(e, []byte(value))
		return login, true, err
	}

	// With the filter alone nothing but the name of the entry is safe: the filter's attribute may
	// be one that users write themselves.
	if r.UIDAttribute == "" {
		return "", false, mapping.Cure(
			fmt.Errorf("%w: %s is not named by %s, which the filter compares; whoever may write that could be anybody",
				errNoLogin, e.DN, r.Filter.attribute),
			cureLogin,
		)
	}

	values := e.Get(r.UIDAttribute)
	switch {
	case len(values) == 0:
		err := fmt.Errorf("%w: %s has no %s that can be read", errNoLogin, e.DN, r.UIDAttribute)
		if r.assumed {
			err = mapping.Cure(err, cureLogin)
		}
		return "", false, err
	case len(values) > 1:
		return "", false, fmt.Errorf("%w: %s has %d values of %s", mapping.ErrAmbiguous, e.DN, len(values), r.UIDAttribute)
	}

	login, err = r.read(e, values[0])
	return login, false, err
}

// read takes the login out of the value that names it.
func (r *LoginReader) read(e ldapconn.Entry, value []byte) (string, error) {
	login := string(value)
	ok := IsLogin(login)
	if r.UIDAttribute == "" {
		login, ok = r.Filter.login(value)
	}
	if !ok {
		return "", fmt.Errorf("%w: %s %q of %s cannot be one", errNoLogin, r.attribute(), value, e.DN)
	}
	return login, nil
}

// confirmation returns the searches of which each must find exactly the entry whose login is not in
// its name: the one for the login as a user would be asked for, and, where that does not compare
// the attribute, the one for the attribute's value.
func (r *LoginReader) confirmation(login string) []string {
	var filters []string
	if !r.Filter.Constant {
		filters = append(filters, r.Filter.of(login))
	}
	isPlain := r.Filter.prefix == "" && r.Filter.suffix == ""
	if !isPlain || !ldapconn.SameAttribute(r.Filter.attribute, r.UIDAttribute) {
		value := ldapconn.EscapeFilter([]byte(login))
		filters = append(filters, "(&"+r.Filter.ofAll()+"("+r.UIDAttribute+"="+value+"))")
	}
	return filters
}

// checkNumber compares the uidNumber of an entry, where it has one, with the account's.
func (r *LoginReader) checkNumber(e ldapconn.Entry, login string) error {
	values := e.Get(numberAttribute)
	if len(values) == 0 {
		return nil
	}

	account, err := r.accounts.Lookup(login)
	if errors.Is(err, accounts.ErrNoAccount) {
		return nil // whether a login needs an account is for the chain to decide
	}
	if err != nil {
		return fmt.Errorf("account %q: %w", login, err)
	}

	for _, v := range values {
		if string(v) != strconv.FormatUint(uint64(account.UID), 10) {
			return fmt.Errorf("%w: %s %q of %s is not that of the account %q, %d",
				errNoLogin, numberAttribute, v, e.DN, login, account.UID)
		}
	}
	return nil
}

// anybodyWarning is logged wherever a login is not part of an entry's name.
func anybodyWarning(attribute string) string {
	return "whoever may write " + attribute + " may log in as anybody"
}
