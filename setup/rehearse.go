package setup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
	"pam_pkcs11/login"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/undo"
	"pam_pkcs11/token"
)

// Report is what the rehearsal found.
type Report struct {
	Failed     string          // why there is no more to tell; "" where it went through
	Changes    []Change        // of the files below /etc
	Profiles   []string        // that are really in the stack now
	Frozen     message.Encoded // what pam-auth-update said on a second run; empty is good
	Config     []string        // what refuses every login, by config check
	Mapped     Mapped
	Guard      []GuardFinding
	BreakGlass BreakGlass
	Services   []string // whose login reaches the module
}

// Mapped says whose certificate the card's is with the new configuration.
type Mapped struct {
	Asked   bool
	Refused string   // why the certificate is not good
	Users   []string // all local users who could log in with it, and whom it names without a name
	Why     []string // for each mapper, why it does not name the plan's user
	Partial bool     // not all users could be asked
}

// GuardFinding is one hit of the lock-out guard.
type GuardFinding struct {
	Number  int
	Check   string
	Refuses bool

	ID, Severity, Subject string

	Fact, Remedy message.Encoded
}

// rehearse carries the plan out on this process's copies, and looks.
func rehearse(ctx context.Context, plan *Plan, r *Report) error {
	tree, err := undo.OpenTree("/")
	if err != nil {
		return err
	}
	defer tree.Close()
	before, err := snapshot(tree, plan.watched()...)
	if err != nil {
		return err
	}
	if err := plan.CarryOut(ctx, tree); err != nil {
		return err
	}
	after, err := snapshot(tree, plan.watched()...)
	if err != nil {
		return err
	}
	r.Changes = changes(before, after)

	if err := lookAtProfiles(ctx, plan, tree, r); err != nil {
		return err
	}
	r.Services = reaching()
	if err := checkConfiguration(r); err != nil {
		return err
	}
	if len(plan.Card) > 0 && len(r.Config) == 0 {
		if r.Mapped, err = whose(ctx, plan); err != nil {
			return err
		}
	}
	m := machineOf(plan)
	r.Guard = guard(ctx, plan, m)
	r.BreakGlass.Group, r.BreakGlass.Members = m.BreakGlassMembers()
	return nil
}

// lookAtProfiles reads what the distribution's tool has really done.
func lookAtProfiles(ctx context.Context, plan *Plan, tree *undo.Tree, r *Report) (err error) {
	switch plan.Family {
	case FamilyDebian:
		return settle(ctx, tree, r)
	case FamilyAuthselect:
		r.Profiles, r.Frozen, err = (distro.Authselect{Root: "/"}).Look(ctx)
	case FamilySUSE:
		r.Profiles, err = (distro.PAMConfig{}).Enabled(tree)
	}
	return err
}

// settle runs pam-auth-update once more, as the next package will: a block that it does not know as
// its own is frozen from then on.
func settle(ctx context.Context, tree *undo.Tree, r *Report) error {
	once, err := snapshot(tree, pamDir)
	if err != nil {
		return err
	}
	said, err := (distro.PAMAuthUpdate{}).Settle(ctx)
	if err != nil {
		return err
	}
	twice, err := snapshot(tree, pamDir)
	if err != nil {
		return err
	}
	switch again := changes(once, twice); {
	case said != "":
		r.Frozen = message.Encoded(message.Textf("%s", said))
	case len(again) > 0:
		r.Frozen = message.Encoded(message.Textf("a second run changes %s again", again[0].Path))
	}
	r.Profiles, err = enabledProfiles(tree)
	return err
}

// checkConfiguration runs config check on the new file.
func checkConfiguration(r *Report) error {
	result, err := confcheck.Look(confcheck.Options{File: config.DefaultFile})
	if err != nil {
		r.Config = append(r.Config, err.Error())
		return nil
	}
	for _, f := range result.Findings {
		if f.Weight == confcheck.RefusesEvery || f.Weight == confcheck.RefusesYet {
			r.Config = append(r.Config, f.Text)
		}
	}
	return nil
}

// reaching are the services whose login asks the module.
func reaching() []string {
	names, err := pamstack.Services("/")
	if err != nil {
		return nil
	}
	var all []string
	for _, name := range names {
		stack, err := pamstack.Load("/", name)
		if err != nil || stack.IsDefault(pamstack.Auth) && name != "other" {
			continue
		}
		if slices.ContainsFunc(stack.Lines(pamstack.Auth), pamstack.Line.IsOurs) {
			all = append(all, name)
		}
	}
	return all
}

const (
	// mapTime bounds the questions whose certificate it is.
	mapTime = time.Minute
	// maxAsked bounds the local users who are asked about.
	maxAsked = 10000
)

// whose asks the new configuration for each local user whether the card is his.
func whose(ctx context.Context, plan *Plan) (Mapped, error) {
	ctx, cancel := context.WithTimeout(ctx, mapTime)
	defer cancel()
	m := Mapped{Asked: true}
	cert, err := certinfo.ParsePadded(plan.Card)
	if err != nil {
		return m, err
	}
	conf, err := config.Load(&config.Arguments{ConfigFile: config.DefaultFile})
	if err != nil {
		return m, err
	}
	checker, err := (&login.Authenticator{Accounts: accounts.System()}).NewChecker(conf)
	if err != nil {
		return m, err
	}

	checked, err := checker.Check(ctx, cert, nil)
	if err != nil {
		m.Refused = err.Error()
	}
	of := login.Checked(cert, checked)
	ask := func(user string) error {
		explained, err := checker.Explain(ctx, of, user)
		if err != nil {
			return err
		}
		for _, e := range explained {
			if user == plan.User && e.User == "" && e.Verdict != "" {
				m.Why = append(m.Why, "mapper "+e.Mapper+": "+e.Verdict)
			}
			for _, name := range append(slices.Concat(e.Others, e.ByName), e.User) {
				if name != "" && !slices.Contains(m.Users, name) {
					m.Users = append(m.Users, name)
				}
			}
		}
		return nil
	}
	if err := errors.Join(ask(""), ask(plan.User)); err != nil {
		return m, err
	}

	asked := 0
	err = accounts.System().All(func(a accounts.Account) bool {
		if a.Name == plan.User {
			return true // asked already
		}
		if asked++; asked > maxAsked || ctx.Err() != nil || ask(a.Name) != nil {
			m.Partial = true
			return false
		}
		return true
	})
	slices.Sort(m.Users)
	return m, err
}

// machineOf is this machine, seen from the process in the namespace.
func machineOf(plan *Plan) *doctor.Machine {
	m := doctor.NewMachine("/", "")
	m.User, m.Mode, m.Remote = plan.User, plan.Mode, plan.Remote
	if account, err := accounts.System().Lookup(plan.User); err == nil {
		m.UID = int(account.UID)
	}
	return m
}

// guard runs the checks against a lock-out on what is there now.
func guard(ctx context.Context, plan *Plan, m *doctor.Machine) []GuardFinding {
	var all []GuardFinding
	for _, g := range doctor.Guard(plan.Mode) {
		for _, f := range g.Hits(g.Findings(ctx, m)) {
			all = append(all, GuardFinding{
				Number:   g.Number,
				Check:    g.ID,
				Refuses:  g.Refuses,
				ID:       f.ID,
				Severity: string(f.Severity),
				Subject:  f.Subject,
				Fact:     message.Encoded(f.Fact),
				Remedy:   message.Encoded(f.Remedy),
			})
		}
	}
	return all
}

// onlyUser is why the mapping is not good; empty where the card names that user and nobody else.
func (m *Mapped) onlyUser(user string) message.Text {
	others := slices.DeleteFunc(slices.Clone(m.Users), func(name string) bool { return name == user })
	switch {
	case !m.Asked:
		return message.Text{}
	case m.Refused != "":
		return message.Textf("the certificate is refused: %s", token.Printable(m.Refused))
	case !slices.Contains(m.Users, user) && len(m.Why) > 0:
		return message.Textf("the card is not mapped to %s: %s", user, token.Printable(strings.Join(m.Why, "; ")))
	case !slices.Contains(m.Users, user):
		return message.Textf("the card is not mapped to %s", user)
	case len(others) > 0:
		return message.Textf("the card lets other users in, too: %s", strings.Join(others[:min(len(others), 10)], ", "))
	}
	return message.Text{}
}

// cure is what helps where onlyUser has something to say. written tells whether the configuration is there that was
// asked: `map` reads none that is only planned.
func (m *Mapped) cure(user string, written bool) message.Text {
	switch {
	case written:
		return message.Textf("run: pam-pkcs11 map --user %s", user)
	case m.Refused != "":
		return message.Textf("name the authority that issued the certificate (--ca FILE), or pair the card's key with the account: "+
			"pam-pkcs11 setup --user %s --pin-key", user)
	}
	return message.Textf("correct --mapper and what is set with it, or pair the card's key with the account: "+
		"pam-pkcs11 setup --user %s --pin-key", user)
}
