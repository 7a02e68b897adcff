package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// stackChecks are those about PAM stacks. They read the files as libpam does, and run nothing.
func stackChecks() []Check {
	return []Check{
		{ID: "stack-read", Title: message.Textf("The files of PAM"), Run: checkRead},
		{ID: "stack-reach", Title: message.Textf("Which services ask for a card"), Run: checkReach},
		{ID: "stack-control-flow", Title: message.Textf("The password beside the card"), Run: checkFlow},
		{ID: "stack-card-required", Title: message.Textf("Whether who must use a card can do without"), Run: checkRequired},
		{ID: "stack-jumps", Title: message.Textf("Where jumps in PAM stacks lead"), Run: checkJumps},
		{ID: "stack-shifted-jumps", Title: message.Textf("Jumps over lines that pam-auth-update writes"), Run: checkShifted},
		{ID: "stack-profiles", Title: message.Textf("The profiles of pam-auth-update"), Run: checkProfiles},
		{ID: "stack-frozen", Title: message.Textf("The block that pam-auth-update writes"), Run: checkFrozen},
		{ID: "stack-modules", Title: message.Textf("The modules of PAM stacks"), Run: checkModules},
		{ID: "stack-arguments", Title: message.Textf("The arguments of our module"), Run: checkArguments},
		{ID: "stack-before", Title: message.Textf("What may refuse a login before the card is asked for"), Run: checkBefore},
		{ID: "stack-password-users", Title: message.Textf("Modules that need the password"), Run: checkPasswordUsers},
		{ID: "stack-edits", Title: message.Textf("Unfinished changes of PAM's files"), Run: checkEdits},
	}
}

// ours reports whether a line names our module.
func ours(l pamstack.Line) bool { return l.IsOurs() }

// isModule reports whether a line names one of some modules.
func isModule(names ...string) func(pamstack.Line) bool {
	return func(l pamstack.Line) bool { return slices.Contains(names, l.Name()) }
}

// stacks are those of the services that are looked at, in their order. Those that cannot be loaded are
// what checkRead is about.
func (m *Machine) stacks() (stacks []*pamstack.Stack, failed map[string]error) {
	names := []string{m.Service}
	if m.Service == "" {
		var err error
		if names, err = pamstack.Services(m.Root); err != nil {
			return nil, map[string]error{"/etc/pam.d": err}
		}
	}

	failed = map[string]error{}
	for _, name := range names {
		stack, err := pamstack.Load(m.Root, name)
		if err != nil {
			failed[name] = err
			continue
		}
		stacks = append(stacks, stack)
	}
	return stacks, failed
}

// withCard are the stacks that ask our module for an authentication.
func (m *Machine) withCard() []*pamstack.Stack {
	stacks, _ := m.stacks()
	return slices.DeleteFunc(stacks, func(s *pamstack.Stack) bool { return !slices.ContainsFunc(s.Lines(pamstack.Auth), ours) })
}

// checkRead tells what PAM reads otherwise than it looks, and the services that it does not read at all.
func checkRead(_ context.Context, m *Machine) diagnosis.Findings {
	stacks, failed := m.stacks()
	var found diagnosis.Findings

	for _, service := range sortedKeys(failed) {
		var refused *pamstack.Refused
		if !errors.As(failed[service], &refused) {
			found.Add(notLooked(service, message.Textf("the stack cannot be read: %v", failed[service])))
			continue
		}
		found.Add(refuse("stack-unread", refused.Place.String(), message.Textf("PAM refuses every login of the service %s: %s", service, refused.What),
			message.Textf("correct that line")))
	}
	for _, stack := range stacks {
		for _, problem := range stack.Problems {
			f := refuse(problem.ID, problem.Place.String(), problem.What, message.Textf("correct that line"))
			if !slices.ContainsFunc(found, func(other diagnosis.Finding) bool { return other.ID == f.ID && other.Subject == f.Subject }) {
				found.Add(f)
			}
		}
	}
	return found
}

// byPlace gathers what is the same in several services.
type byPlace struct {
	findings diagnosis.Findings
	services map[string][]string // by the ID, subject and fact of a finding
}

// add adds a finding of a service.
func (b *byPlace) add(service string, f diagnosis.Finding) {
	key := f.ID + "\x00" + f.Subject + "\x00" + f.Fact.String()
	if b.services == nil {
		b.services = map[string][]string{}
	}
	if len(b.services[key]) == 0 {
		b.findings.Add(f)
	}
	b.services[key] = append(b.services[key], service)
}

// all are the findings, each with its services.
func (b *byPlace) all() diagnosis.Findings {
	for i, f := range b.findings {
		services := b.services[f.ID+"\x00"+f.Subject+"\x00"+f.Fact.String()]
		b.findings[i].Subject += " (" + strings.Join(services, ", ") + ")"
	}
	return b.findings
}

// checkReach tells which services have our module, and which do not.
func checkReach(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "stack-reach"
	stacks, _ := m.stacks()
	var with, without []string
	for _, stack := range stacks {
		switch lines := stack.Lines(pamstack.Auth); {
		case slices.ContainsFunc(lines, ours):
			with = append(with, stack.Service)
		case stack.Service != "other" && !stack.IsDefault(pamstack.Auth) && slices.ContainsFunc(lines, isModule(passwordModules...)):
			without = append(without, stack.Service)
		}
	}

	subject := "/etc/pam.d"
	enable := message.Textf("run: pam-pkcs11 setup")
	switch {
	case m.Service != "" && len(with) == 0:
		var files []string
		if len(stacks) > 0 {
			files = stacks[0].Files
		}
		return list(warn("stack-not-reached", m.Service, message.Textf("the service does not ask for a card: none of %s names our module",
			strings.Join(files, ", ")), enable))
	case len(with) == 0:
		return list(warn("stack-none", subject, message.Textf("no service asks for a card"), enable))
	case len(without) > 0:
		return list(good(id, subject, message.Textf("these services ask for a card: %s", strings.Join(with, ", "))),
			note("stack-not-reached", subject, message.Textf("these services take the password only: %s", strings.Join(without, ", "))))
	}
	return list(good(id, subject, message.Textf("these services ask for a card: %s", strings.Join(with, ", "))))
}

// checkArguments tells which lines give our module an argument that it does not know: it then refuses.
func checkArguments(_ context.Context, m *Machine) diagnosis.Findings {
	stacks, _ := m.stacks()
	var found byPlace
	for _, stack := range stacks {
		for _, line := range stack.Ours() {
			if _, _, err := config.ParseArguments(line.Args); err != nil {
				found.add(stack.Service, refuse("stack-argument", line.Place().String(), message.Textf("our module refuses this line: %v", err),
					message.Textf("take the argument out of that line; pam_pkcs11(8) lists those that there are")))
			}
		}
	}
	return found.all()
}

// passwordUsers are modules that do something with the password that was typed.
var passwordUsers = map[string]message.Text{
	"pam_mount.so":         message.Textf("it asks for a password of its own after a login by card, or takes a forwarded PIN for the volume's"),
	"pam_ecryptfs.so":      message.Textf("it has no password to open the home directory with after a login by card"),
	"pam_fscrypt.so":       message.Textf("it has no password to open the home directory with after a login by card"),
	"pam_systemd_home.so":  message.Textf("a home directory of systemd-homed is not opened by a login by card"),
	"pam_encfs.so":         message.Textf("it has no password to open the directory with after a login by card"),
	"pam_gnome_keyring.so": message.Textf("it has no password to open the keyring with after a login by card: the session asks for it once"),
	"pam_kwallet5.so":      message.Textf("it has no password to open the wallet with after a login by card: the session asks for it once"),
	"pam_kwallet.so":       message.Textf("it has no password to open the wallet with after a login by card: the session asks for it once"),
}

// keyrings only ask once more.
var keyrings = isModule("pam_gnome_keyring.so", "pam_kwallet5.so", "pam_kwallet.so")

// checkPasswordUsers tells which modules will miss the password.
func checkPasswordUsers(_ context.Context, m *Machine) diagnosis.Findings {
	var found byPlace
	for _, stack := range m.withCard() {
		for _, line := range slices.Concat(stack.Lines(pamstack.Auth), stack.Lines(pamstack.Session)) {
			fact := passwordUsers[line.Name()]
			switch {
			case fact.Empty():
			case keyrings(line):
				found.add(stack.Service, note("stack-keyring", line.Place().String(), fact))
			default:
				found.add(stack.Service, warn("stack-needs-password", line.Place().String(), fact,
					message.Textf("give the volume a key that is not the login's password, or take the module out of the stack")))
			}
		}
	}
	return found.all()
}

// unfinished are files that editors of /etc/pam.d leave: something is still to be done.
var unfinished = []string{"*.dpkg-new", "*.dpkg-tmp", "*.pam-new", "*.rpmnew", "*.rpmsave", "*.pacnew", "*.ucf-new", "*.ucf-dist", ".*.sw?"}

// checkEdits looks for changes of PAM's files that are not finished.
func checkEdits(_ context.Context, m *Machine) diagnosis.Findings {
	var found diagnosis.Findings
	for _, pattern := range unfinished {
		for _, path := range m.glob("/etc/pam.d/" + pattern) {
			found.Add(warn("stack-edit", path, message.Textf("a change of this file is not finished"),
				message.Textf("compare it with the file that is used, then move it there or remove it")))
		}
	}
	if updates := m.glob("/var/lib/dpkg/updates/[0-9]*"); len(updates) > 0 {
		found.Add(warn("stack-edit-dpkg", "/var/lib/dpkg/updates", message.Textf("dpkg was interrupted: packages may be configured in part"),
			message.Textf("run: dpkg --configure -a")))
	}
	return found
}

// checkRequired looks whether stacks hold whom the configuration has use a card: a control may pass over the refusal.
func checkRequired(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "stack-card-required"
	if m.Config == nil {
		return list(noConfiguration(id))
	}

	var found byPlace
	for _, stack := range m.withCard() {
		key := m.requiring(stack.Service)
		if key == "" {
			continue
		}
		line, passed := newFlow(stack).passesOver(pamstack.CredInsufficient)
		if !passed {
			continue
		}
		found.add(stack.Service, refuse("stack-card-not-required", line.Place().String(),
			message.Textf("%s says who must use a card, and a password lets them in all the same: the control %s passes over the refusal",
				key, line.Control.Text),
			message.Textf("run: pam-pkcs11 setup --mode only (all but a group) or --mode group (a group's members); "+
				"by hand: default=die in the control, and card_only behind the module")))
	}
	return found.all()
}

// requiring is the key by which somebody must use a card at a service; "" is none.
func (m *Machine) requiring(service string) string {
	conf, err := m.Config.ForService(service)
	if err != nil {
		return "" // told by the checks of the configuration
	}
	switch p := conf.Global.Persons; {
	case len(p.Required.Users) > 0:
		return "card_required_users"
	case len(p.Required.Groups) > 0:
		return "card_required_groups"
	case p.Requires():
		return "card_others"
	}
	return ""
}
