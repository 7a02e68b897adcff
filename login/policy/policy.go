// Package policy finds out of a user whether he must, may or must not use a card, by the lists of
// the configuration and by the system's users and groups.
//
// Who is in several lists is treated as the safest of them says: must before must not, must not
// before may. What cannot be found out is taken to mean must: a group that nobody knows or whose
// directory does not answer, an account that cannot be looked up, a listed name that may be another
// of the user's, a name service that takes too long. So a fault of a directory opens no way in.
// Users who are named in card_required_users are found without any question.
package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
)

// Use is what a card is for a user.
type Use int

// The uses.
const (
	Configured Use = iota // as foreign_card and card_only say
	Required              // he must use it
	Optional              // he may use it
	Forbidden             // he must not use it
)

// words are those of card_others.
var words = map[string]Use{"configured": Configured, "required": Required, "optional": Optional, "forbidden": Forbidden}

// String is the word of card_others.
func (u Use) String() string {
	for word, use := range words {
		if use == u {
			return word
		}
	}
	return "unknown"
}

// Decision is what holds for one user.
type Decision struct {
	Use Use
	Why string // the key that says so, and which of its names; "" for Configured
	Err error  // why it could not be found out; Use is Required then
}

// Rules are the lists of a configuration, and where their names are looked up.
type Rules struct {
	Persons  config.Persons
	Accounts accounts.Source
	Groups   accounts.Groups
	IsLocal  func(user string) bool // whether an account is one of this machine (passwd(5)); nil: none is
	Timeout  time.Duration          // of all lookups of one decision; 0: none
}

// For decides about a user by his name, in any spelling that the name service knows.
func (r *Rules) For(ctx context.Context, user string) Decision {
	switch {
	case r.Persons.Empty():
		return Decision{}
	case slices.Contains(r.Persons.Required.Users, user):
		return Decision{Use: Required, Why: because("card_required_users", user)}
	case r.nobodyNamed():
		return r.others()
	}
	return r.timed(ctx, func() Decision { return r.find(user) })
}

// ForNobody decides where no name is known yet: the card may name anybody. Somebody may come who
// must use a card, and the module is asked once: so he must, if anybody must.
func (r *Rules) ForNobody(ctx context.Context) Decision {
	otherwise := Decision{}
	if words[r.Persons.Others] == Optional {
		otherwise = r.others()
	}

	switch p := r.Persons; {
	case p.Requires():
		return Decision{Use: Required, Why: "no user name was given, and some users must use their card"}
	case len(p.Forbidden.Groups)+len(p.Optional.Groups) == 0:
		return otherwise
	}

	// A group that cannot be looked up means must, though nobody's membership is asked for.
	return r.timed(ctx, func() Decision {
		for _, list := range r.lists() {
			for _, name := range list.Groups {
				if _, err := r.Groups.Group(name); err != nil {
					return unknown(list.key+"_groups", err)
				}
			}
		}
		return otherwise
	})
}

// list is one of the lists, in the order in which they count.
type list struct {
	config.People
	key string
	use Use
}

func (r *Rules) lists() []list {
	return []list{
		{r.Persons.Required, "card_required", Required},
		{r.Persons.Forbidden, "card_forbidden", Forbidden},
		{r.Persons.Optional, "card_optional", Optional},
	}
}

// nobodyNamed reports whether card_others says it all.
func (r *Rules) nobodyNamed() bool {
	return r.Persons.Required.Empty() && r.Persons.Forbidden.Empty() && r.Persons.Optional.Empty()
}

func (r *Rules) others() Decision {
	d := Decision{Use: words[r.Persons.Others]}
	if d.Use != Configured {
		d.Why = because("card_others", r.Persons.Others)
	}
	return d
}

func because(key, name string) string { return fmt.Sprintf("%s has %q", key, name) }

// unknown is the decision where something cannot be found out.
func unknown(key string, err error) Decision {
	return Decision{Use: Required, Why: key + " cannot be looked up, so a card is needed", Err: err}
}

// find goes through the lists, the safest first.
func (r *Rules) find(user string) Decision {
	account, err := r.Accounts.Lookup(user)
	if err != nil {
		return unknown("the account", err)
	}

	p := person{rules: r, typed: user, account: account}
	for _, l := range r.lists() {
		name, err := p.named(l.Users)
		switch {
		case err != nil:
			return unknown(l.key+"_users", err)
		case name != "":
			return Decision{Use: l.use, Why: because(l.key+"_users", name)}
		}

		name, err = p.memberOf(l.Groups)
		switch {
		case err != nil:
			return unknown(l.key+"_groups", err)
		case name != "":
			return Decision{Use: l.use, Why: because(l.key+"_groups", name)}
		}
	}
	return r.others()
}

// person is the user of one decision.
type person struct {
	rules   *Rules
	typed   string
	account *accounts.Account
	asked   bool     // of is known
	of      []uint32 // the numbers of his groups
}

// named returns which of the names is the user's: as it was typed, as his account is called, or of
// the same account; "" is none, which all of the names must be known to say. An account of this
// machine has one name, so that no directory is asked about it.
func (p *person) named(names []string) (string, error) {
	// A name that is written as it was typed needs no lookup, which could fail.
	for _, name := range names {
		if name == p.typed || name == p.account.Name {
			return name, nil
		}
	}
	if len(names) == 0 || p.rules.IsLocal != nil && p.rules.IsLocal(p.account.Name) {
		return "", nil
	}

	// A name that cannot be looked up may be another one of the user's: it counts unless the user
	// is found by a name behind it.
	var unknown error
	for _, name := range names {
		account, err := p.rules.Accounts.Lookup(name)
		switch {
		case err == nil && account.Is(*p.account):
			return name, nil
		case err != nil && !errors.Is(err, accounts.ErrNoAccount) && unknown == nil:
			unknown = err
		}
	}
	return "", unknown
}

// memberOf returns the first of the groups of which the user is known to be a member; "" is none,
// which all of the groups must be known to say. Groups that list him are found without asking for
// all of his groups: those of this machine must be, where a directory does not answer.
func (p *person) memberOf(groups []string) (string, error) {
	if len(groups) == 0 {
		return "", nil
	}
	// An error here is not the answer yet: the user's own groups may be known all the same.
	if name, _ := p.among(groups); name != "" {
		return name, nil
	}
	if err := p.askGroups(); err != nil {
		return "", err
	}

	// The groups once more: the question for the user's groups shows no error where a directory
	// does not answer.
	return p.among(groups)
}

// among is memberOf by what is known of the user's groups.
func (p *person) among(groups []string) (string, error) {
	var unknown error
	for _, name := range groups {
		g, err := p.rules.Groups.Group(name)
		switch {
		case err != nil && unknown == nil:
			unknown = err
		case err == nil && g.Has(p.account, p.of):
			return name, nil
		}
	}
	return "", unknown
}

func (p *person) askGroups() (err error) {
	if !p.asked {
		p.of, err = p.rules.Groups.Of(p.account)
		p.asked = err == nil
	}
	return err
}

// errSlow is why a decision was not waited for.
var errSlow = errors.New("the name service takes too long")

// timed makes a decision within the time. A lookup that hangs in the C library is left behind.
func (r *Rules) timed(ctx context.Context, decide func() Decision) Decision {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.Timeout, errSlow)
		defer cancel()
	}

	// With room for one: a decision that comes too late ends its goroutine all the same.
	made := make(chan Decision, 1)
	go func() {
		// A panic decides as every other fault does: a card is needed.
		defer func() {
			if v := recover(); v != nil {
				made <- unknown("the user", fmt.Errorf("internal fault: %v\n%s", v, debug.Stack()))
			}
		}()
		made <- decide()
	}()

	select {
	case d := <-made:
		return d
	case <-ctx.Done():
		return unknown("the user", context.Cause(ctx))
	}
}
