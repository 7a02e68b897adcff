package mapping

import (
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/mapper/internal/certtext"
)

// Person is who is asked about: a name as somebody typed it, and the account that it names. A name
// service may know an account by several names (another case, with its domain before or behind it),
// of which a certificate or mapfile has one and the user types another. A name without account is a
// text, and only the same as itself.
type Person struct {
	Typed  string // name
	source accounts.Source

	asked   bool
	account *accounts.Account // nil: none, or it cannot be looked up
	known   map[string]bool   // names that were looked up, and whether they are this account's
}

// maxNames bounds the names that are looked up for one question: a certificate may hold a thousand.
const maxNames = 64

// NewPerson returns the person who typed a name; source knows the accounts.
func NewPerson(source accounts.Source, typed string) *Person {
	return &Person{Typed: typed, source: source, known: map[string]bool{}}
}

// own returns the account that the typed name names; nil when there is none. Where the database
// does not answer there is none either: the chain looks the account up again, and refuses the login
// then.
func (p *Person) own() *accounts.Account {
	if !p.asked {
		p.asked = true
		if account, err := p.source.Lookup(p.Typed); err == nil {
			p.account = account
		}
	}
	return p.account
}

// Is reports whether a name is the person's: as it was typed, or by the account that it names. Both
// are looked up, since a name that reads like the account's may be another account's.
func (p *Person) Is(name string) bool {
	if name == p.Typed {
		return true
	}
	if name == "" || p.own() == nil {
		return false
	}

	// Beyond the bound an unknown name is not the person's: yes is false.
	if yes, known := p.known[name]; known || len(p.known) >= maxNames {
		return yes
	}

	account, err := p.source.Lookup(name)
	yes := err == nil && account.Is(*p.account)
	p.known[name] = yes
	return yes
}

// Names returns the names under which a directory may have the person: as typed and, where that is
// another one, as the account is called.
func (p *Person) Names() []string {
	names := []string{p.Typed}
	if own := p.own(); own != nil && own.Name != p.Typed && p.Is(own.Name) {
		names = append(names, own.Name)
	}
	return names
}

// Pick returns the answer that names the person: word by word if there is one, else by the account.
func Pick(found []Answer, user *Person, ignoreCase bool) Answer {
	for _, a := range found {
		if certtext.Equal(a.User, user.Typed, ignoreCase) {
			return a
		}
	}

	// Word for word first: user.Is asks the name service about each name.
	for _, a := range found {
		if user.Is(a.User) {
			return a
		}
	}
	return Answer{}
}
