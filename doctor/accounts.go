package doctor

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// accountChecks are those of who can get in when the card cannot.
func accountChecks() []Check {
	return []Check{
		{ID: "root-way-in", Title: message.Textf("Another way in for root"), Run: checkRoot},
		{ID: "break-glass", Title: message.Textf("The break-glass group"), Run: checkBreakGlass},
		{ID: "directory-accounts", Title: message.Textf("Where accounts are known"),
			Run: checkAccounts},
		{ID: "ssh", Title: message.Textf("Logins over ssh"), Run: checkSSH},
		{ID: "sudo-over-ssh", Title: message.Textf("sudo in sessions from elsewhere"),
			Run: checkSudoOverSSH},
	}
}

// DefaultBreakGlass is the break-glass group of the profiles.
const DefaultBreakGlass = "breakglass"

// breakGlassLine is the condition of a stack that lets the members of a group pass by the card.
var breakGlassLine = regexp.MustCompile(
	`(?m)^[^#\n]*pam_succeed_if\.so[^#\n]*\snotingroup\s+([A-Za-z0-9._-]+)`)

// breakGlass is the group whose members need no card.
func (m *Machine) breakGlass() string {
	if m.BreakGlass != "" {
		return m.BreakGlass
	}
	if group := m.stackGroup(); group != "" {
		return group
	}
	return DefaultBreakGlass
}

// stackGroup is the break-glass group of the stacks that have our module; "" where none demands a
// card from everybody.
func (m *Machine) stackGroup() string { return m.stackName(breakGlassLine) }

// stackName is the name that a line of a stack with our module has; "" where there is none.
func (m *Machine) stackName(line *regexp.Regexp) string {
	for _, file := range m.glob("/etc/pam.d/*") {
		text, err := m.text(file)
		if err != nil || !strings.Contains(text, ModuleName) {
			continue
		}
		if found := line.FindStringSubmatch(text); found != nil {
			return found[1]
		}
	}
	return ""
}

// checkBreakGlass looks whether somebody of the break-glass group can log in by a password of this
// machine's own files.
func checkBreakGlass(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "break-glass"
	group := m.breakGlass()
	subject := "group " + group
	// It is needed in the mode that is rehearsed, or by a stack that is there.
	if m.Mode != ModeOnly && m.stackGroup() == "" {
		return list(note(id, subject,
			message.Textf(
				"no stack demands a card from everybody, so that nobody needs this group")))
	}

	// Members of a directory do not count: they may be unknown just when the card is needed.
	users, readable := m.localUsers()
	members, there := m.members(group, users)
	switch {
	case !there:
		return list(refuse("break-glass-missing", subject,
			message.Textf("the group is not there: nobody gets in without a card"),
			message.Textf(
				"run: groupadd --system %s && usermod -aG %s root, and give root a password", group,
				group)))
	case len(members) == 0:
		return list(refuse("break-glass-empty", subject,
			message.Textf(
				"the group has no member in this machine's own files: nobody gets in without a card"),
			message.Textf("run: usermod -aG %s root, and give root a password", group)))
	case !readable:
		return list(asRoot(subject))
	}

	now := m.now()
	usable := slices.DeleteFunc(slices.Clone(members), func(u localUser) bool {
		return !u.hasPassword(now) || !u.hasShell()
	})
	if len(usable) == 0 {
		return list(refuse("break-glass-no-password", subject,
			message.Textf(
				"no member has a password that works (%s): it is not set, locked or has ended",
				joinNames(members)),
			message.Textf("run: passwd %s", members[0].name)))
	}

	return list(good(id, subject,
		message.Textf("members with a password that works: %s", joinNames(usable))))
}

// checkAccounts looks whether the account that is meant is known without a directory.
func checkAccounts(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "directory-accounts"
	users, _ := m.localUsers()
	sources := m.nameSources()
	if m.User == "" {
		if len(sources) > 0 {
			return list(note(id, "nsswitch.conf",
				message.Textf(
					"accounts come from %s too: a login waits for it, and those accounts are unknown while it is down",
					strings.Join(sources, ", "))))
		}
		return list(good(id, "nsswitch.conf",
			message.Textf("all accounts are in this machine's own files")))
	}

	if slices.ContainsFunc(users, func(u localUser) bool { return u.name == m.User }) {
		return list(good(id, m.User, message.Textf("the account is in this machine's own files")))
	}
	// The accounts of a machine that does not run are unknown here, but for its own files.
	if m.Live() {
		if _, err := accounts.System().Lookup(m.User); errors.Is(err, accounts.ErrNoAccount) {
			return list(refuse("account-unknown", m.User, message.Textf("there is no such account"),
				message.Textf("run: getent passwd %s; adduser makes a local one", m.User)))
		}
	}
	return list(warn("account-directory", m.User,
		message.Textf(
			"the account is not in this machine's own files, and is unknown while the directory is down (%s)", strings.Join(sources, ", ")),
		message.Textf("keep a local account that can log in and become root")))
}

// nameSources are those of accounts that are no files of this machine (nsswitch.conf(5)).
func (m *Machine) nameSources() []string {
	text, err := m.text("/etc/nsswitch.conf")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		name, rest, found := strings.Cut(line, ":")
		if !found || strings.TrimSpace(name) != "passwd" {
			continue
		}
		// Words in brackets are actions, such as [NOTFOUND=return].
		return slices.DeleteFunc(strings.Fields(rest), func(word string) bool {
			return slices.Contains([]string{"files", "compat", "systemd", "altfiles", "db"},
				word) || strings.ContainsAny(word, "[]=")
		})
	}
	return nil
}
