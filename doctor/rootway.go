package doctor

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// adminGroups may become root by sudo, by the distributions' rules.
var adminGroups = []string{"sudo", "wheel", "admin"}

// checkRoot looks for a way to root that needs no card: a password, a key for ssh, or somebody who
// gets in without a card and may use sudo.
func checkRoot(_ context.Context, m *Machine) diagnosis.Findings {
	const subject, id = "root", "root-way-in"
	users, readable := m.localUsers()
	if !readable {
		return list(asRoot(subject))
	}

	now := m.now()
	needsNoCard := m.cardless(users)
	at := slices.IndexFunc(users, func(u localUser) bool { return u.name == "root" })
	if at >= 0 {
		switch root := users[at]; {
		case root.hasPassword(now) && needsNoCard(root):
			return list(good(id, subject, message.Textf("root has a password, and needs no card")))
		case m.rootKey(root.home):
			return list(good(id, subject, message.Textf("root has a key for ssh")))
		}
	}

	rules := m.sudoers()
	var admins []localUser
	for _, u := range users {
		may, asked := m.maySudo(u, users, rules)
		// By the password, or by a key for ssh where sudo asks for nothing.
		switch {
		case !may || u.uid == 0 || !u.hasShell():
		case u.hasPassword(now) && needsNoCard(u), !asked && m.sshKey(u.home):
			admins = append(admins, u)
		}
	}

	if len(admins) > 0 {
		return list(good(id, subject,
			message.Textf("who may use sudo and needs no card for it: %s", joinNames(admins))))
	}
	return list(refuse("root-no-way-in", subject,
		message.Textf(
			"root has no password and no key for ssh that would do, and nobody who may use sudo gets in by a password: without a card nobody becomes root"),
		message.Textf(
			"run: passwd root, and keep that password in a safe place; where everybody needs a card, put root into the break-glass group")))
}

// cardGroupLine is the condition of a stack that demands a card of the members of a group.
var cardGroupLine = regexp.MustCompile(
	`(?m)^[^#\n]*pam_succeed_if\.so[^#\n]*\singroup\s+([A-Za-z0-9._-]+)`)

// DefaultCardGroup is the group of the profile that demands a card of its members.
const DefaultCardGroup = "smartcard"

// cardless returns a function that reports which local accounts get in by their passwords, as the
// mode or the stacks have it.
func (m *Machine) cardless(users []localUser) func(localUser) bool {
	in := func(group string) func(localUser) bool {
		members, _ := m.members(group, users)
		return func(u localUser) bool {
			return slices.ContainsFunc(members, func(of localUser) bool {
				return of.name == u.name
			})
		}
	}

	// The mode of a setup to come counts before what the stacks say now.
	cardGroup := m.stackName(cardGroupLine)
	switch {
	case m.Mode == ModeOnly, m.Mode == ModeUnknown && m.stackGroup() != "":
		return in(m.breakGlass())
	case m.Mode == ModeGroup, m.Mode == ModeUnknown && cardGroup != "":
		// The mode is of a setup to come, whose group no stack names yet.
		if cardGroup == "" {
			cardGroup = DefaultCardGroup
		}
		needs := in(cardGroup)
		return func(u localUser) bool { return !needs(u) }
	}
	return func(localUser) bool { return true }
}

// rootKey reports whether sshd lets root in by a key.
func (m *Machine) rootKey(home string) bool {
	return !strings.EqualFold(m.sshd("PermitRootLogin"), "no") && m.sshKey(home)
}

// sshKey reports whether sshd lets the owner of a home in by a key.
func (m *Machine) sshKey(home string) bool {
	if !m.exists("/usr/sbin/sshd") || strings.EqualFold(m.sshd("PubkeyAuthentication"), "no") {
		return false
	}

	for _, name := range []string{"authorized_keys", "authorized_keys2"} {
		text, err := m.text(path.Join(home, ".ssh", name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				return true
			}
		}
	}
	return false
}

// sudoRule is a line of sudoers(5) that lets somebody become root.
type sudoRule struct {
	who        string // a name, or % and a group's
	noPassword bool
}

// sudoLine is such a line: a user or a group, hosts, and ALL commands as root or anybody.
var sudoLine = regexp.MustCompile(
	`^(%?[A-Za-z0-9._-]+)\s+ALL\s*=\s*(?:\(\s*(?:ALL|root)\s*(?::[^)]*)?\)\s*)?((?:[A-Z]+:\s*)*)ALL\s*$`)

// sudoers reads /etc/sudoers and its directory. Where they cannot be read, the groups of
// administrators count.
func (m *Machine) sudoers() []sudoRule {
	var rules []sudoRule
	files := []string{"/etc/sudoers"}
	for _, file := range m.glob("/etc/sudoers.d/*") {
		// sudo leaves out names with a dot and those that end in ~ (sudoers(5), "Including other
		// files").
		name := path.Base(file)
		if !strings.Contains(name, ".") && !strings.HasSuffix(name, "~") {
			files = append(files, file)
		}
	}

	for _, file := range files {
		text, err := m.text(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			found := sudoLine.FindStringSubmatch(strings.TrimSpace(line))
			if found != nil && found[1] != "root" {
				rules = append(rules, sudoRule{
					who:        found[1],
					noPassword: strings.Contains(found[2], "NOPASSWD:"),
				})
			}
		}
	}

	if len(rules) == 0 {
		for _, group := range adminGroups {
			rules = append(rules, sudoRule{who: "%" + group})
		}
	}

	return rules
}

// maySudo reports whether a user may become root by sudo, and whether it asks. The last rule that
// fits counts.
func (m *Machine) maySudo(u localUser, users []localUser, rules []sudoRule) (may, asked bool) {
	for _, r := range rules {
		group, isGroup := strings.CutPrefix(r.who, "%")
		fits := r.who == u.name
		if isGroup {
			members, _ := m.members(group, users)
			fits = slices.ContainsFunc(members, func(of localUser) bool {
				return of.name == u.name
			})
		}
		if fits {
			may = true
			asked = !r.noPassword
		}
	}
	return may, asked
}
