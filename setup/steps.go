package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/undo"
)

// run is one setup.
type run struct {
	o     Options
	tree  *undo.Tree
	store *undo.Store

	found    *found // the certificate; nil with NoCard
	mapper   string
	settings []string // of the mapper's block
	plan     Plan
	result   Result
}

// Run is a setup from its beginning to its end. The result is never nil, and tells what was found
// also where there is an error: a *ChoiceError, *RefusedError, *RehearsalError or *ConfigError, or
// one of the system's. With any of them nothing has been changed.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{o: o, result: Result{
		User: o.User, Mode: o.Mode, DryRun: o.DryRun, Files: []FileShown{}, Logins: []LoginShown{}, Findings: diagnosis.Findings{},
	}}
	err := r.all(ctx)
	var choice *ChoiceError
	if errors.As(err, &choice) {
		r.result.Choice = choice
	}
	if err != nil {
		r.result.Error = err.Error()
	}
	return &r.result, err
}

// all is the order of a setup.
func (r *run) all(ctx context.Context) error {
	tree, err := undo.OpenTree("/")
	if err != nil {
		return err
	}
	defer tree.Close()
	r.tree, r.store = tree, &undo.Store{Tree: tree}
	if !r.o.DryRun {
		unlock, err := r.store.Lock()
		if err != nil {
			return err
		}
		defer unlock()
	}

	for _, step := range []func(context.Context) error{
		r.begin,
		r.card,
		r.trust,
		r.configure,
		r.stack,
		r.desktop,
		r.rehearseAndCommit,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// begin looks at who is set up, and at what an earlier setup has left.
func (r *run) begin(ctx context.Context) error {
	records, err := r.store.List()
	if err != nil {
		return err
	}
	for _, m := range records {
		if m.Stage == undo.Started {
			return refused("setup %d was cut short; take it back first: pam-pkcs11 undo", m.Number)
		}
		if m.Pending() {
			return refused("setup %d waits for a confirmation until %s: pam-pkcs11 setup --keep confirms it, pam-pkcs11 undo takes it back",
				m.Number, m.RevertAt.Local().Format(time.DateTime))
		}
	}

	if r.o.User == "" && r.o.Person != nil {
		if r.o.User, err = r.o.Person.Ask(message.Textf("Account that is to log in with the card: ")); err != nil {
			return err
		}
	}
	if r.o.User == "" {
		return &ChoiceError{Question: message.Textf("Which account is to log in with the card?"), Choices: []string{"--user NAME"}}
	}
	account, err := accounts.System().Lookup(r.o.User)
	switch {
	case errors.Is(err, accounts.ErrNoAccount):
		return refused("there is no account %s", r.o.User)
	case err != nil:
		return err
	case account.UID == 0:
		return refused("the account %s is root's; setup is for the accounts of people, and root keeps its password", r.o.User)
	}
	if r.o.Mode == doctor.ModeGroup {
		if err := r.checkMember(); err != nil {
			return err
		}
	}
	r.plan.User, r.plan.Mode = r.o.User, r.o.Mode
	r.plan.Remote = doctor.CallerIsRemote(ctx) // the rehearsal's process has an environment of its own
	r.result.User = r.o.User
	return nil
}

// checkMember refuses a user whom the profile would not ask for the card.
func (r *run) checkMember() error {
	name := r.o.Group
	if name == "" {
		name = profileGroup(r.o.Mode)
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return refused("there is no group %s: addgroup %s; adduser %s %s", name, name, r.o.User, name)
	}
	account, err := user.Lookup(r.o.User)
	if err != nil {
		return err
	}
	if ids, err := account.GroupIds(); err != nil {
		return err
	} else if !slices.Contains(ids, group.Gid) {
		return refused("%s is no member of the group %s, whose members need a card: adduser %s %s", r.o.User, name, r.o.User, name)
	}
	return nil
}

func (r *run) card(ctx context.Context) error {
	if r.o.NoCard {
		return nil
	}
	return r.chooseCard(ctx)
}

func (r *run) trust(context.Context) error {
	if err := r.chooseTrust(); err != nil {
		return err
	}
	if r.found != nil {
		r.plan.Card = r.found.cert.Raw
	}
	r.result.Mapper = r.mapper
	return nil
}

// configure plans the configuration file. One that is there and says something else is kept or
// replaced only where somebody has said so: the cards of others may log in by it.
func (r *run) configure(context.Context) error {
	s := settings{Mode: r.o.Mode, Mapper: r.mapper, Options: r.settings, Library: r.o.Library}
	if r.found != nil {
		s.Library = r.found.library
	}
	text, err := s.text()
	if err != nil {
		return err
	}

	there, err := r.tree.ReadFile(config.DefaultFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case string(there) == string(text) || r.o.Config == "keep":
		return nil
	case r.o.Config == "replace":
	default:
		question := message.Textf("There is a configuration, %s. What is to become of it?", config.DefaultFile)
		if r.o.Person == nil {
			return &ChoiceError{Question: question, Choices: []string{"--config keep", "--config replace"}}
		}
		answer, err := r.o.Person.Choose(question, []message.Text{
			message.Textf("It stays as it is; the card must log %s in by it.", r.o.User),
			message.Textf("A new one takes its place; undo brings it back."),
		})
		if err != nil || answer == 0 {
			return err
		}
	}
	r.plan.Config = text
	return nil
}

// stack plans the change of the PAM stack.
func (r *run) stack(ctx context.Context) error {
	p := &r.plan
	p.Group = r.o.Group
	p.Family = distro.FamilyOf("/")
	if p.Family == FamilyDebian && len(r.o.Services) > 0 {
		p.Family, p.Lines = FamilyLines, r.o.Services
	}
	r.result.Family = p.Family
	switch p.Family {
	case FamilyLines:
		if p.Mode != doctor.ModePassword {
			return refused("single services can be given the card beside the password only; another mode is for all of them")
		}
		return nil
	case FamilyDebian:
		return r.profiles()
	case FamilyAuthselect:
		return r.authselect(ctx, (distro.Authselect{Root: "/"}))
	case FamilySUSE:
		return r.pamConfig()
	}
	return refused("the tool that changes the PAM stacks of this machine is not known. In each file of /etc/pam.d whose service is to take " +
		"cards, put in front of its line of pam_unix.so: `auth sufficient pam_pkcs11.so`")
}

// profiles plans which profiles of pam-auth-update go off and on.
func (r *run) profiles() error {
	want := profileOf(r.plan.Mode)
	if _, err := os.Stat(profileDir + "/" + want); err != nil {
		return refused("there is no profile %s/%s; the package libpam-pkcs11 brings it", profileDir, want)
	}
	enabled, err := enabledProfiles(r.tree)
	if err != nil {
		return err
	}
	for _, name := range ourProfiles {
		if name != want && slices.Contains(enabled, name) {
			r.plan.Off = append(r.plan.Off, name)
		}
	}
	r.plan.On = []string{want}
	return nil
}

// rehearseAndCommit carries the plan out on copies, and where that is good on the machine.
func (r *run) rehearseAndCommit(ctx context.Context) error {
	s, err := startStage(ctx, &r.plan)
	if err != nil {
		return &RehearsalError{Why: message.Textf("the rehearsal could not be held: %s", err.Error())}
	}
	defer s.close()
	r.show(&s.Report)
	if err := r.judge(&s.Report); err != nil {
		return err
	}
	if len(s.Report.Changes) == 0 {
		r.say("All is set up already; nothing has to be changed.")
		return nil
	}
	if !r.o.NoTest {
		if err := r.tryLogins(ctx, s, servicesToTry(s.Report.Services), s.Report.BreakGlass); err != nil {
			return err
		}
	}
	if r.o.DryRun {
		return nil
	}

	if r.o.Person != nil {
		agreed, err := r.o.Person.Agree(message.Textf("Make these changes?"))
		if err != nil {
			return err
		}
		if !agreed {
			return refused("nothing has been changed")
		}
	}
	if err := ctx.Err(); err != nil {
		return err // from here on nothing ends it
	}
	return r.commit(ctx, s.Report.Changes)
}

// show tells the changes.
func (r *run) show(report *Report) {
	shown := slices.DeleteFunc(slices.Clone(report.Changes), func(c Change) bool { return !c.Shown() })
	for _, c := range shown {
		r.result.Files = append(r.result.Files, FileShown{Path: c.Path, New: c.New, Gone: c.Gone, Diff: c.Diff()})
	}
	if r.o.Person != nil && len(shown) > 0 {
		r.o.Person.Show(shown)
	}
}

// judge looks at the report, as the guard does: what stands against the change refuses it, unless it
// is forced.
func (r *run) judge(report *Report) error {
	if len(report.Config) > 0 {
		return &ConfigError{Why: message.Textf("with the new configuration every login would be refused: %s", strings.Join(report.Config, "; "))}
	}
	if why := report.Mapped.onlyUser(r.o.User); !why.Empty() {
		r.hit(11, "map", true, diagnosis.Finding{
			ID: "card-mapping", Severity: diagnosis.Refusal, Subject: r.o.User, Fact: why,
			Remedy: report.Mapped.cure(r.o.User, r.plan.Config == nil),
		})
	}
	if report.Mapped.Partial {
		r.result.Findings.Add(diagnosis.Finding{
			ID: "card-mapping-partial", Severity: diagnosis.Warning, Subject: r.o.User,
			Fact: message.Textf("not all accounts could be asked whether the card lets them in, too"),
		})
	}
	switch r.plan.Family {
	case FamilyDebian:
		r.judgeProfiles(report)
	case FamilyAuthselect:
		r.judgeAuthselect(report)
	case FamilySUSE:
		r.judgePAMConfig(report)
	}
	for _, g := range report.Guard {
		r.hit(g.Number, g.Check, g.Refuses, diagnosis.Finding{
			ID: g.ID, Severity: diagnosis.Severity(g.Severity), Subject: g.Subject,
			Fact: g.Fact.Text(), Remedy: g.Remedy.Text(),
		})
	}

	if r.result.Findings.Count(diagnosis.Refusal) > 0 {
		return refused("the change could lock somebody out, or the card would not log %s in; nothing has been changed", r.o.User)
	}
	return nil
}

// judgeProfiles looks at what pam-auth-update has really done: its exit status is 0 also where that
// is nothing.
func (r *run) judgeProfiles(report *Report) {
	want := r.plan.On[0]
	if !slices.Contains(report.Profiles, want) {
		r.hit(6, "stack-profiles", true, diagnosis.Finding{
			ID: "profile-not-enabled", Severity: diagnosis.Refusal, Subject: pamDir + "/common-auth",
			Fact:   message.Textf("pam-auth-update has not switched the profile %s on: %s", want, report.Frozen.Text()),
			Remedy: message.Textf("look for lines in the block that were changed by hand; pam-auth-update --force writes it anew"),
		})
		return
	}
	if !report.Frozen.Empty() {
		r.hit(7, "stack-frozen", true, diagnosis.Finding{
			ID: "stack-frozen", Severity: diagnosis.Refusal, Subject: pamDir + "/common-auth",
			Fact:   message.Textf("pam-auth-update does not know its own block afterwards: %s", report.Frozen.Text()),
			Remedy: message.Textf("pam-auth-update --force writes the block anew"),
		})
	}
}

// hit adds a finding of a guard. One that refuses is a refusal unless it was forced, one that does
// not is a warning at most.
func (r *run) hit(number int, check string, refuses bool, f diagnosis.Finding) {
	force := slices.Contains(r.o.Force, strconv.Itoa(number)) || slices.Contains(r.o.Force, check)
	switch {
	case refuses && !force:
		f.Severity = diagnosis.Refusal
	case f.Severity == diagnosis.Refusal:
		f.Severity = diagnosis.Warning
	}
	if refuses && force {
		r.result.Forced = append(r.result.Forced, check)
	}
	f.Subject = fmt.Sprintf("%s (check %d)", f.Subject, number)
	r.result.Findings.Add(f)
}

// note adds what is worth knowing.
func (r *run) note(id string, text message.Text) {
	r.result.Findings.Add(diagnosis.Finding{ID: id, Severity: diagnosis.Note, Subject: "card", Fact: text})
}

// say tells the person something.
func (r *run) say(format string, args ...any) {
	if r.o.Person != nil {
		r.o.Person.Say(message.Textf(format, args...))
	}
}
