package confcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/login/policy"
)

// nameServiceTime bounds all lookups of one check.
const nameServiceTime = 30 * time.Second

// maxMembers bounds how many members of a group are looked at.
const maxMembers = 1000

// pamDirectories have a file for each PAM service (pam.d(5)).
var pamDirectories = []string{"/etc/pam.d", "/usr/lib/pam.d"}

// systemNames are the users and groups of this machine and of its directories.
func systemNames() nameService {
	return nameService{
		users:        accounts.System(),
		groups:       accounts.SystemGroups(),
		isLocal:      accounts.IsLocal,
		isLocalGroup: accounts.IsLocalGroup,
	}
}

// nameService is where users and groups are looked up.
type nameService struct {
	users                 accounts.Source
	groups                accounts.Groups
	isLocal, isLocalGroup func(name string) bool
}

// checkPersons checks who must, may and must not use a card, in the file and in each service's
// block, and for whom that closes every way in.
func (i *inspection) checkPersons(n nameService) {
	p := &personCheck{nameService: n, conf: i.conf}

	// In a goroutine of its own: the name service cannot be interrupted. One that hangs is left
	// behind.
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.everything()
	}()

	select {
	case <-done:
	case <-time.After(nameServiceTime):
		i.add(RefusesSome, KindNotLooked, i.File+
			": the users and groups of the lists: the name service takes too long; until it answers, a card is needed")
		return
	}

	for _, f := range p.found {
		i.add(f.Weight, f.Kind, f.Text)
	}
}

// checkServices names the services that have a block and no file.
func (i *inspection) checkServices(directories []string) {
	for _, s := range i.conf.Services() {
		is := func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, strings.ToLower(s.Name)))
			return err == nil
		}

		if !slices.ContainsFunc(directories, is) {
			e := &config.Error{
				File: i.File,
				Line: s.Line,
				Col:  s.Col,
				Text: "there is no PAM service " + s.Name +
					" in " + strings.Join(directories, " or "),
				Hint: "its block is read by nobody",
			}
			i.add(Minor, config.NoteNoEffect.String(), e.Error())
		}
	}
}

// personCheck is one look at the lists.
type personCheck struct {
	nameService
	conf    *config.Config // as it is for the service that is looked at
	service *config.Service
	found   []Finding
}

// everything goes through the file, and through the services that say more about persons than it
// does.
func (p *personCheck) everything() {
	file := p.conf
	p.lists()
	for _, s := range file.Services() {
		with, err := file.ForService(s.Name)
		if err != nil || samePersons(with.Global.Persons, file.Global.Persons) {
			continue
		}

		p.conf = with
		p.service = &s
		p.lists()
	}
}

func samePersons(a, b config.Persons) bool {
	// A service can only add names (config's rule "more"), so that equal numbers are equal lists.
	return len(a.Required.Users) == len(b.Required.Users) &&
		len(a.Required.Groups) == len(b.Required.Groups) && a.Others == b.Others
}

// lists checks the lists that hold in one place: for the file, or for a service.
func (p *personCheck) lists() {
	persons := p.conf.Global.Persons
	if persons.Empty() {
		return
	}

	exempt := 0

	for _, l := range []struct {
		key    string
		people config.People
	}{
		{"card_required", persons.Required},
		{"card_optional", persons.Optional},
		{"card_forbidden", persons.Forbidden},
	} {
		for _, user := range p.named(l.key, l.people) {
			if p.decide(persons, user).Use != policy.Required {
				exempt++
			}
			p.contradictions(user)
		}
	}

	p.everybody(exempt)
}

// named looks the names of a list up, and returns the users of it: those that are named and those
// that groups list.
func (p *personCheck) named(key string, people config.People) (users []string) {
	for _, name := range people.Users {
		account, err := p.users.Lookup(name)
		switch {
		case errors.Is(err, accounts.ErrNoAccount):
			p.add(Risk, KindWarning, key+"_users", fmt.Errorf("there is no user %s", name))
			continue
		case err != nil:
			p.add(Risk, KindWarning, key+"_users", fmt.Errorf("%s: %w", name, err))
			continue
		// The name service may know an account by several names (Dave, dave@example.org).
		case account.Name != name:
			p.add(Minor, "spelling", key+"_users",
				fmt.Errorf("%s is the user %s: that name needs no directory to be found", name,
					account.Name))
		}

		if key == "card_forbidden" && !p.isLocal(account.Name) {
			p.add(Risk, KindLockOut, key+"_users",
				fmt.Errorf("%s is not in /etc/passwd: where the directory does not answer, nobody gets in by that account", name))
		}

		users = append(users, account.Name)
	}

	for _, name := range people.Groups {
		users = append(users, p.members(key+"_groups", name)...)
	}

	return users
}

// members looks a group up, and returns the users that it lists.
func (p *personCheck) members(key, name string) []string {
	g, err := p.groups.Group(name)
	switch {
	case errors.Is(err, accounts.ErrNoGroup):
		p.add(RefusesSome, KindLockOut, key,
			fmt.Errorf("there is no group %s: whom it may be about needs a card, root too", name))
		return nil
	case err != nil:
		p.add(RefusesSome, KindLockOut, key,
			fmt.Errorf("%w: whom it may be about needs a card, root too", err))
		return nil
	case !p.isLocalGroup(name):
		p.add(Risk, KindLockOut, key,
			fmt.Errorf("%s is not in /etc/group: where its directory does not answer, whom it may be about needs a card, root too", name))
	case len(g.Members) == 0 && key == "card_forbidden_groups":
		p.add(Risk, KindLockOut, key, fmt.Errorf("the group %s lists no member", name))
	}

	if len(g.Members) > maxMembers {
		return g.Members[:maxMembers]
	}
	return g.Members
}

// contradictions reports a user who must use a card and must not.
func (p *personCheck) contradictions(user string) {
	persons := p.conf.Global.Persons
	must := config.Persons{Required: persons.Required}
	not := config.Persons{Forbidden: persons.Forbidden}

	// Asked apart, since together the safest decides.
	first := p.decide(must, user)
	second := p.decide(not, user)
	mustUse := first.Use == policy.Required && first.Err == nil
	if mustUse && second.Use == policy.Forbidden {
		p.add(Risk, KindLockOut, "card_forbidden_users",
			fmt.Errorf("%s must use a card and must not: that he must counts", user))
	}
}

// everybody checks whether there is a way in where no card works; exempt is how many users are
// known not to need one.
func (p *personCheck) everybody(exempt int) {
	persons := p.conf.Global.Persons
	root := p.decide(persons, "root").Use == policy.Required

	switch {
	case root && persons.Others == "required" && exempt == 0:
		p.add(RefusesSome, KindLockOut, "card_others",
			errors.New("everybody needs a card, root too: where no card works, nobody gets in. "+
				"Name a group of /etc/group in card_forbidden_groups, whose members have passwords"))
	case root:
		p.add(Risk, KindLockOut, "card_others", errors.New("root needs a card"))
	}

	if p.conf.Global.RemoteLogin == "refuse" && persons.Requires() {
		p.add(Minor, "remote", "remote_login",
			errors.New("remote_login = refuse: who must use a card has none at another host, "+
				"and cannot log in from there where the stack ends at PAM_CRED_INSUFFICIENT"))
	}
}

// decide returns what a card is for a user by some lists.
func (p *personCheck) decide(persons config.Persons, user string) policy.Decision {
	r := policy.Rules{
		Persons:  persons,
		Accounts: p.users,
		Groups:   p.groups,
		IsLocal:  p.isLocal,
	}
	return r.For(context.Background(), user)
}

// add adds a finding, with the place of the key or of the service's block. What was found of the
// file is not reported of a service once more.
func (p *personCheck) add(w Weight, kind, key string, err error) {
	e := p.conf.Fault(key, err)
	if p.service != nil {
		e.Line = p.service.Line
		e.Col = p.service.Col
		e.Text = "service " + p.service.Name + ": " + e.Text
	}

	f := Finding{Weight: w, Kind: kind, Text: e.Error()}
	same := func(o Finding) bool {
		return strings.HasSuffix(f.Text, afterPlace(o.Text)) && o.Kind == kind
	}
	if !slices.ContainsFunc(p.found, same) {
		p.found = append(p.found, f)
	}
}

// afterPlace is a finding without file, line and column.
func afterPlace(text string) string {
	if _, rest, found := strings.Cut(text, ": "); found {
		return rest
	}
	return text
}
