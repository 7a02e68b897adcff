package doctor

import (
	"context"
	"maps"
	"slices"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// sortedKeys are the keys of a map in their order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// passwordModules ask for a password.
var passwordModules = []string{
	"pam_unix.so", "pam_unix2.so", "pam_sss.so", "pam_krb5.so", "pam_krb5_migrate.so", "pam_winbind.so", "pam_ldap.so", "pam_ldapd.so",
	"pam_systemd_home.so", "pam_pwdfile.so", "pam_userdb.so", "pam_radius_auth.so", "pam_tacplus.so",
}

// cardAnswers are the answers of our module that refuse, those for which the password must do where it may.
var cardAnswers = []pamstack.Result{
	pamstack.AuthinfoUnavail, pamstack.CredInsufficient, pamstack.AuthErr, pamstack.ModuleUnknown, pamstack.Ignore,
	pamstack.PermDenied, pamstack.ConvErr, pamstack.Abort,
}

// fixedAnswers are those of modules that stand in everybody's way or in nobody's. What keeps out whoever
// is named in a file (nologin, faillock, access) is taken as open here: checkBefore is about that.
var fixedAnswers = pamstack.Answers{
	"pam_deny.so":              {pamstack.AuthErr},
	"pam_permit.so":            {pamstack.Success},
	"pam_rootok.so":            {pamstack.AuthErr}, // nobody is root yet
	"pam_faillock.so authfail": {pamstack.AuthErr},
	"pam_faillock.so":          {pamstack.Success},
	"pam_faildelay.so":         {pamstack.Ignore},
	"pam_nologin.so":           {pamstack.Success},
	"pam_securetty.so":         {pamstack.Success},
	"pam_shells.so":            {pamstack.Success},
	"pam_access.so":            {pamstack.Success},
	"pam_time.so":              {pamstack.Success},
	"pam_env.so":               {pamstack.Success},
	"pam_group.so":             {pamstack.Ignore},
	"pam_cap.so":               {pamstack.Ignore},
	"pam_keyinit.so":           {pamstack.Success},
	"pam_selinux.so":           {pamstack.Success},
	"pam_sepermit.so":          {pamstack.Success},
	"pam_warn.so":              {pamstack.Ignore},
	"pam_echo.so":              {pamstack.Ignore},
	"pam_issue.so":             {pamstack.Ignore},
	"pam_motd.so":              {pamstack.Ignore},
	"pam_umask.so":             {pamstack.Success},
	"pam_gnome_keyring.so":     {pamstack.Success},
	"pam_kwallet5.so":          {pamstack.Success},
	"pam_kwallet.so":           {pamstack.Success},
	"pam_fprintd.so":           {pamstack.AuthinfoUnavail}, // a finger is no password
	"pam_u2f.so":               {pamstack.AuthErr},
	"pam_mount.so":             {pamstack.Success},
}

// conditions say who is meant: some are, and some are not.
var conditions = isModule("pam_succeed_if.so", "pam_listfile.so", "pam_localuser.so", "pam_usertype.so", "pam_wheel.so")

// person is what is known of who logs in: by which of its modules a password is right.
type person struct {
	local     bool // pam_unix knows the password; else all others do
	unknown   map[int]pamstack.Result
	condition map[int]pamstack.Result
}

// answers is what the modules say to a person whose password is right or wrong.
func (p person) answers(card pamstack.Result, right bool) func(pamstack.Line) pamstack.Result {
	return func(line pamstack.Line) pamstack.Result {
		if line.IsOurs() {
			return card
		}
		if slices.Contains(passwordModules, line.Name()) {
			if right && p.local == strings.HasPrefix(line.Name(), "pam_unix") {
				return pamstack.Success
			}
			return pamstack.AuthErr
		}
		if r, found := p.unknown[line.Index()]; found {
			return r
		}
		if r, found := p.condition[line.Index()]; found {
			return r
		}
		return fixed(line)[0]
	}
}

// fixed are the answers of a module that says the same to everybody; none is for others.
func fixed(line pamstack.Line) []pamstack.Result {
	if line.Name() == "pam_faillock.so" && slices.Contains(line.Args, "authfail") {
		return fixedAnswers["pam_faillock.so authfail"]
	}
	return fixedAnswers[line.Name()]
}

// flow looks at one stack.
type flow struct {
	real    *pamstack.Stack
	without *pamstack.Stack // the same, where whatever our module says is ignored
}

func newFlow(s *pamstack.Stack) flow {
	ignored, _ := pamstack.ParseControl("[default=ignore]")
	return flow{s, s.WithControl(ours, ignored)}
}

// byPassword reports whether a right password lets the person in, when our module answers so.
func byPassword(s *pamstack.Stack, p person, card pamstack.Result) bool {
	out := s.Run(pamstack.Auth, p.answers(card, true))
	return out.Result == pamstack.Success && slices.ContainsFunc(out.Path, func(step pamstack.Step) bool {
		return step.Result == pamstack.Success && slices.Contains(passwordModules, step.Line.Name())
	})
}

// in reports whether the person gets in.
func in(s *pamstack.Stack, p person, card pamstack.Result, right bool) bool {
	return s.Run(pamstack.Auth, p.answers(card, right)).Result == pamstack.Success
}

// verdict is what became of one stack.
type verdict struct {
	nobody   map[pamstack.Result]bool // the answers at which no password lets anybody in
	some     map[pamstack.Result]bool // those at which it does not let in some, and others it does
	open     map[pamstack.Result]bool // those at which somebody gets in with nothing right
	useless  bool                     // a good card lets nobody in, not even with the password
	password bool                     // without our line, a password lets somebody in
	cut      bool                     // there were more persons than were looked at
}

// judge asks of all persons what our module's line changes for them. Modules of which nothing is known
// say yes, no and nothing, one after the other; whatever they say, a password must do for somebody.
func (f flow) judge() verdict {
	v := verdict{nobody: map[pamstack.Result]bool{}, some: map[pamstack.Result]bool{}, open: map[pamstack.Result]bool{}, useless: true}
	unknown, condition := f.questions()

	for _, local := range []bool{true, false} {
		for _, said := range combinations(unknown, pamstack.Unknown()) {
			counted := map[pamstack.Result]int{}
			persons := 0
			for _, who := range combinations(condition, []pamstack.Result{pamstack.Success, pamstack.AuthErr}) {
				p := person{local, said, who}
				f.ask(p, &v, counted, &persons)
			}
			for _, card := range cardAnswers {
				switch lost := counted[card]; {
				case lost > 0 && lost == persons:
					v.nobody[card] = true
				case lost > 0:
					v.some[card] = true
				}
			}
		}
	}
	v.cut = len(unknown) > maxUnknown || len(condition) > maxConditions
	return v
}

// ask is judge for one person. counted is how many have lost their way in.
func (f flow) ask(p person, v *verdict, counted map[pamstack.Result]int, persons *int) {
	openBefore := in(f.without, p, pamstack.Ignore, false)
	for _, card := range cardAnswers {
		if !openBefore && in(f.real, p, card, false) {
			v.open[card] = true
		}
	}
	if in(f.real, p, pamstack.Success, false) || in(f.real, p, pamstack.Success, true) {
		v.useless = false
	}

	if !byPassword(f.without, p, pamstack.Ignore) {
		return
	}
	v.password = true
	*persons++
	for _, card := range cardAnswers {
		if !byPassword(f.real, p, card) {
			counted[card]++
		}
	}
}

// passesOver reports whether somebody gets in by a password after our module was asked and gave that answer, and at
// which of its lines. Whom a condition leads past the module is not asked for a card by this stack.
func (f flow) passesOver(card pamstack.Result) (at pamstack.Line, passed bool) {
	unknown, condition := f.questions()
	for _, local := range []bool{true, false} {
		for _, said := range combinations(unknown, pamstack.Unknown()) {
			for _, who := range combinations(condition, []pamstack.Result{pamstack.Success, pamstack.AuthErr}) {
				p := person{local, said, who}
				if !byPassword(f.real, p, card) {
					continue
				}
				path := f.real.Run(pamstack.Auth, p.answers(card, true)).Path
				if i := slices.IndexFunc(path, func(step pamstack.Step) bool { return step.Line.IsOurs() }); i >= 0 {
					return path[i].Line, true
				}
			}
		}
	}
	return at, false
}

// How many lines of each sort are asked in all ways: 3 to the power of 5, and 2 to the power of 6, for each stack.
const (
	maxUnknown    = 5
	maxConditions = 6
)

// questions are the lines that say different things, by their index.
func (f flow) questions() (unknown, condition []int) {
	for _, line := range f.real.Lines(pamstack.Auth) {
		switch {
		case !line.Broken.Empty(), line.IsOurs(), slices.Contains(passwordModules, line.Name()), len(fixed(line)) > 0:
		case conditions(line):
			condition = append(condition, line.Index())
		default:
			unknown = append(unknown, line.Index())
		}
	}
	return unknown, condition
}

// combinations gives each line each of the answers. Of more lines than are looked at the last ones say no.
func combinations(lines []int, answers []pamstack.Result) []map[int]pamstack.Result {
	limit := maxConditions
	if len(answers) > 2 {
		limit = maxUnknown
	}
	all := []map[int]pamstack.Result{{}}

	for i, line := range lines {
		said := answers
		if i >= limit {
			said = []pamstack.Result{pamstack.AuthErr}
		}
		var next []map[int]pamstack.Result
		for _, before := range all {
			for _, r := range said {
				one := maps.Clone(before)
				one[line] = r
				next = append(next, one)
			}
		}
		all = next
	}
	return all
}

// checkFlow looks whether a password still lets in whom it should, whatever our module answers, and
// whether nothing but a card or a password lets anybody in.
func checkFlow(_ context.Context, m *Machine) diagnosis.Findings {
	var found byPlace
	for _, stack := range m.withCard() {
		if strings.Contains(stack.Service, "smartcard") {
			continue // gdm-smartcard, kde-smartcard: the program has another service for the password
		}
		v := newFlow(stack).judge()
		lines := slices.DeleteFunc(stack.Lines(pamstack.Auth), func(l pamstack.Line) bool { return !l.IsOurs() })
		for _, f := range m.verdictFindings(v, lines) {
			found.add(stack.Service, f)
		}
	}
	return found.all()
}

// verdictFindings says what is wrong with a stack that has our module in these lines.
func (m *Machine) verdictFindings(v verdict, lines []pamstack.Line) (found diagnosis.Findings) {
	at, control := lines[0].Place().String(), lines[0].Control.Text
	lost := v.nobody
	if m.Mode == ModePassword {
		lost = union(v.nobody, v.some)
	}

	maps.DeleteFunc(lost, func(r pamstack.Result, _ bool) bool { return v.open[r] }) // nobody is asked, and all get in
	if len(lost) > 1 && !m.hasScreenSavers() {
		delete(lost, pamstack.Ignore)
	}
	switch {
	case !v.password:
		found.Add(refuse("stack-locks-out", at, message.Textf("without a card nobody gets in: whatever our module answers, no password is asked, or a right one does not count"),
			message.Textf("run: pam-auth-update --enable pkcs11; by hand: %s", likeDebian)))
	case len(lost) > 0:
		found.Add(refuse("stack-locks-out", at,
			message.Textf("with the control %s the login ends, and no password is asked, where our module answers %s: without a card nobody gets in", control, words(lost)),
			message.Textf("run: pam-auth-update --enable pkcs11; by hand: %s", likeDebian)))
	case v.some[pamstack.Ignore] && m.hasScreenSavers():
		found.Add(warn("stack-screen-savers", at, message.Textf("screen_savers is set, and the control %s refuses the answer that stands for it (PAM_IGNORE)", control),
			message.Textf("put ignore=ignore before default=die in that line")))
	case len(v.some) > 0:
		found.Add(note("stack-card-only", at, message.Textf("with the control %s only those who are exempt get in without a card, where our module answers %s", control, words(v.some))))
	}

	if len(v.open) > 0 {
		found.Add(refuse("stack-open", at, message.Textf("where our module answers %s somebody gets in with neither a card nor a password (control %s)", words(v.open), control),
			message.Textf("correct the number of lines that the control skips; by hand: %s", likeDebian)))
	}
	if v.useless {
		found.Add(refuse("stack-card-useless", at, message.Textf("a good card lets nobody in: after it the stack ends in a refusal (control %s)", control),
			message.Textf("correct the number of lines that the control skips; by hand: %s", likeDebian)))
	}
	if v.cut {
		found.Add(note("stack-not-followed", at, message.Textf("the stack has more modules of which nothing is known than were followed in all ways")))
	}
	return found
}

// likeDebian is a form that locks nobody out.
const likeDebian = "auth sufficient pam_pkcs11.so, before the lines of the password"

// hasScreenSavers reports whether the configuration lets lockers skip our module, or is not known.
func (m *Machine) hasScreenSavers() bool {
	return m.Config != nil && len(m.Config.Global.ScreenSavers) > 0
}

// union is what is in one of two sets.
func union(a, b map[pamstack.Result]bool) map[pamstack.Result]bool {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

// words are answers in their order.
func words(set map[pamstack.Result]bool) string {
	var names []string
	for _, r := range pamstack.Results() {
		if set[r] {
			names = append(names, r.String())
		}
	}
	return strings.Join(names, ", ")
}
