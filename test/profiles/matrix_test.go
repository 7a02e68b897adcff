//go:build linux

package profiles

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/pamstack"
)

// profile is one of the packages', and what it promises.
type profile struct {
	name   string
	mode   doctor.Mode
	strict bool
}

var profileList = []profile{
	{"pkcs11", doctor.ModePassword, false},
	{"pkcs11-group", doctor.ModeGroup, true},
	{"pkcs11-only", doctor.ModeOnly, true},
}

// want is what a login must come to: what is asked for by the modules, in their order, and whether it ends well.
type want struct {
	asked string // "card", "password"
	in    bool
}

// situation is a state of the card and the machine, as our module answers to it.
type situation struct {
	name     string
	answer   pamstack.Result
	password want // where the password does as well
	strict   want // where a card is demanded
}

var (
	byCard     = want{"card", true}
	thenIn     = want{"card password", true}
	refused    = want{"card", false}
	byPassword = want{"password", true}
)

// situations are alice's, who is in the group smartcard and not in breakglass. What a module answers where is in
// pam_pkcs11(8); the answers with foreign_card = skip are others that the first two profiles take the same.
var situations = []situation{
	{"the right card", pamstack.Success, byCard, byCard},
	{"no card", pamstack.AuthinfoUnavail, thenIn, refused},
	{"bob's card, of the same CA", pamstack.CredInsufficient, thenIn, refused},
	{"a card of an unknown CA", pamstack.CredInsufficient, thenIn, refused},
	{"a blank token", pamstack.CredInsufficient, thenIn, refused},
	{"the PIN is locked", pamstack.AuthErr, thenIn, refused},
	{"the certificate has expired", pamstack.CredInsufficient, thenIn, refused},
	{"a wrong PIN", pamstack.AuthErr, thenIn, refused},
	{"Return at the PIN prompt", pamstack.AuthErr, thenIn, refused},
	{"the password at the PIN prompt", pamstack.AuthErr, thenIn, refused},
	{"no PC/SC daemon", pamstack.AuthinfoUnavail, thenIn, refused},
	{"no PKCS#11 library", pamstack.AuthinfoUnavail, thenIn, refused},
	{"a broken configuration", pamstack.AuthinfoUnavail, thenIn, refused},
	{"no module", pamstack.ModuleUnknown, thenIn, refused},
	{"no worker", pamstack.AuthinfoUnavail, thenIn, refused},
}

// login is one person at one host.
type login struct {
	service string
	groups  []string
	root    bool            // who asks is root (pam_rootok)
	card    pamstack.Result // what our module answers
	wrong   bool            // the password
}

// run says what a login comes to on this machine.
func (l login) run(t *testing.T) want {
	t.Helper()
	stack, err := pamstack.Load("", l.service)
	if err != nil {
		t.Fatal(err)
	}
	out := stack.Run(pamstack.Auth, func(line pamstack.Line) pamstack.Result { return l.answer(t, line) })

	var asked []string
	for _, step := range out.Path {
		switch step.Line.Name() {
		case "pam_pkcs11.so":
			asked = append(asked, "card")
		case "pam_unix.so", "pam_krb5.so", "pam_sss.so":
			if !slices.Contains(asked, "password") { // use_first_pass
				asked = append(asked, "password")
			}
		}
	}
	return want{strings.Join(asked, " "), out.Result == pamstack.Success}
}

// answer is what a module says. One that the test does not know fails it.
func (l login) answer(t *testing.T, line pamstack.Line) pamstack.Result {
	t.Helper()
	yes := map[bool]pamstack.Result{true: pamstack.Success, false: pamstack.AuthErr}
	switch line.Name() {
	case "pam_pkcs11.so":
		if l.service == "sshd" && l.card != pamstack.ModuleUnknown {
			return pamstack.AuthinfoUnavail // from another machine
		}
		return l.card
	case "pam_unix.so":
		return yes[!l.wrong]
	case "pam_krb5.so", "pam_sss.so", "pam_deny.so":
		return pamstack.AuthErr
	case "pam_rootok.so":
		return yes[l.root]
	case "pam_succeed_if.so":
		return yes[l.meets(t, line.Args)]
	case "pam_permit.so", "pam_nologin.so", "pam_env.so":
		return pamstack.Success
	case "pam_cap.so", "pam_faildelay.so", "pam_group.so", "pam_mount.so":
		return pamstack.Ignore
	}
	t.Fatalf("%s: an unknown module: %s", line.Place(), line)
	return pamstack.Abort
}

// meets evaluates the conditions of pam_succeed_if(8) that the profiles use.
func (l login) meets(t *testing.T, args []string) bool {
	t.Helper()
	if args[0] != "quiet" || len(args)%3 != 1 {
		t.Fatalf("pam_succeed_if.so %q", args)
	}
	all := true
	for condition := range slices.Chunk(args[1:], 3) {
		switch condition[0] + " " + condition[1] {
		case "service notin":
			all = all && !slices.Contains(strings.Split(condition[2], ":"), l.service)
		case "user ingroup":
			all = all && slices.Contains(l.groups, condition[2])
		case "user notingroup":
			all = all && !slices.Contains(l.groups, condition[2])
		default:
			t.Fatalf("pam_succeed_if.so %q", args)
		}
	}
	return all
}

// enable lets pam-auth-update write a profile, and holds it to what it promises.
func enable(t *testing.T, p profile) {
	t.Helper()
	debian(t)
	if said := update(t, "--enable", p.name); said != "" {
		t.Errorf("pam-auth-update says %q", said)
	}
	if said := update(t, "--package"); said != "" {
		t.Errorf("the second run says %q", said)
	}
	m := &doctor.Machine{UID: -1, Mode: p.mode}
	for _, check := range []string{"stack-read", "stack-control-flow", "stack-jumps", "stack-shifted-jumps", "stack-profiles", "stack-frozen"} {
		for _, f := range doctor.Run(t.Context(), m, []string{check}) {
			if !f.Remedy.Empty() {
				t.Errorf("%s: %s: %s", f.ID, f.Subject, f.Fact)
			}
		}
	}
}

// TestMatrix: what becomes of alice's login, in each situation, at each host, with each profile.
func TestMatrix(t *testing.T) {
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			enable(t, p)
			for _, s := range situations {
				for _, service := range []string{"login", "su", "sudo", "locker", "sshd"} {
					got := login{service: service, groups: []string{"alice", "smartcard"}, card: s.answer}.run(t)
					want := s.password
					switch {
					case service == "sshd" && p.strict:
						want = byPassword
					case service == "sshd":
						want = thenIn
					case p.strict:
						want = s.strict
					}
					if got != want {
						t.Errorf("%s, %s: %v, want %v", s.name, service, got, want)
					}
					if p.mode == doctor.ModePassword && !got.in {
						t.Errorf("%s, %s: locked out", s.name, service)
					}
				}
			}
		})
	}
}

// person is a login while alice's card is in the reader.
type person struct {
	name                string
	login               login
	either, group, only want
}

var persons = []person{
	{"su bob, by alice", login{service: "su", groups: []string{"bob"}, card: pamstack.CredInsufficient}, thenIn, byPassword, refused},
	{"login bob", login{service: "login", groups: []string{"bob"}, card: pamstack.CredInsufficient}, thenIn, byPassword, refused},
	{"su root", login{service: "su", groups: []string{"root", "breakglass"}, card: pamstack.CredInsufficient}, thenIn, byPassword, byPassword},
	{"login root", login{service: "login", groups: []string{"root", "breakglass"}, card: pamstack.CredInsufficient}, thenIn, byPassword, byPassword},
	{"su glass", login{service: "su", groups: []string{"glass", "breakglass"}, card: pamstack.CredInsufficient}, thenIn, byPassword, byPassword},
	{"su glass, without the module", login{service: "su", groups: []string{"glass", "breakglass"}, card: pamstack.ModuleUnknown}, thenIn, byPassword, byPassword},
	{"su - alice, by bob", login{service: "su-l", groups: []string{"smartcard"}, card: pamstack.Success}, byCard, byCard, byCard},
	{"su alice, by root", login{service: "su", groups: []string{"smartcard"}, card: pamstack.Success, root: true}, want{"", true}, want{"", true}, want{"", true}},
	{"login, Return at the name", login{service: "login", card: pamstack.Success, wrong: true}, byCard, want{"password", false}, byCard},
	{"the conversation fails", login{service: "su", groups: []string{"smartcard"}, card: pamstack.CredInsufficient, wrong: true}, want{"card password", false}, refused, refused},
	{"login with an unknown name", login{service: "login", card: pamstack.CredInsufficient, wrong: true}, want{"card password", false}, want{"password", false}, refused},
	{"ssh bob", login{service: "sshd", groups: []string{"bob"}, card: pamstack.AuthinfoUnavail}, thenIn, byPassword, byPassword},
	{"a locker whose session had no card", login{service: "locker", groups: []string{"smartcard"}, card: pamstack.Ignore}, thenIn, thenIn, thenIn},
}

// TestPersons: who else may want to log in.
func TestPersons(t *testing.T) {
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			enable(t, p)
			for _, who := range persons {
				want := map[string]want{"pkcs11": who.either, "pkcs11-group": who.group, "pkcs11-only": who.only}[p.name]
				if got := who.login.run(t); got != want {
					t.Errorf("%s: %v, want %v", who.name, got, want)
				}
			}
		})
	}
}

// TestJobs: cron and at call pam_setcred without an authentication; what our module says to that, or that it is missing,
// stops none of them.
func TestJobs(t *testing.T) {
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			enable(t, p)
			put(t, pamDir+"/cron", "@include common-auth\n@include common-account\n@include common-session-noninteractive\n")
			stack, err := pamstack.Load("", "cron")
			if err != nil {
				t.Fatal(err)
			}
			for _, ours := range []pamstack.Result{pamstack.Success, pamstack.ModuleUnknown} {
				out := stack.RunAgain(pamstack.Auth, pamstack.Outcome{}, func(line pamstack.Line) pamstack.Result {
					switch line.Name() {
					case "pam_pkcs11.so":
						return ours
					case "pam_succeed_if.so", "pam_cap.so":
						return pamstack.Ignore // its pam_sm_setcred
					case "pam_deny.so":
						return pamstack.CredErr
					}
					return pamstack.Success
				})
				if out.Result != pamstack.Success {
					t.Errorf("our module says %s: %s", ours, out.Result)
				}
			}
		})
	}
}
