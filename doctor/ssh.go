package doctor

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// maxIncludes bounds how many files sshd_config(5) may include here.
const maxIncludes = 64

// sshd is the value of a keyword of sshd_config(5), outside of Match blocks: the first that is written. "" is sshd's own.
func (m *Machine) sshd(keyword string) string {
	left := maxIncludes
	value, _ := m.sshdIn("/etc/ssh/sshd_config", strings.ToLower(keyword), &left)
	return value
}

// sshdIn reads one file, and those that it includes where they stand.
func (m *Machine) sshdIn(file, keyword string, left *int) (value string, found bool) {
	if *left--; *left < 0 {
		return "", false
	}

	text, err := m.text(file)
	if err != nil {
		return "", false
	}

	for line := range strings.Lines(text) {
		words := strings.Fields(strings.Replace(strings.TrimSpace(line), "=", " ", 1))
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch strings.ToLower(words[0]) {
		case "match":
			return "", false
		case keyword:
			return strings.Trim(words[1], `"`), true
		case "include":
			for _, pattern := range words[1:] {
				if !path.IsAbs(pattern) {
					pattern = path.Join("/etc/ssh", pattern)
				}
				for _, included := range m.glob(pattern) {
					if value, found := m.sshdIn(included, keyword, left); found {
						return value, true
					}
				}
			}
		}
	}

	return "", false
}

// checkSSH tells what a change of the stacks means for logins over ssh, and whether the caller is on one.
func checkSSH(ctx context.Context, m *Machine) diagnosis.Findings {
	const id = "ssh"
	var found diagnosis.Findings
	if m.Live() && m.callerIsRemote(ctx) {
		found.Add(warn("ssh-caller", "this session", message.Textf("you have come by ssh: where the stacks of ssh or sudo are wrong you cannot come back"),
			message.Textf("keep this session open until a new login has worked")))
	}
	if !m.exists("/usr/sbin/sshd") {
		found.Add(good(id, "sshd", message.Textf("sshd is not installed")))
		return found
	}

	if strings.EqualFold(m.sshd("UsePAM"), "yes") {
		found.Add(note(id, "sshd_config", message.Textf("sshd asks PAM: a login from elsewhere has no card here, and gets what the stack says behind our line")))
	} else {
		found.Add(good(id, "sshd_config", message.Textf("sshd does not ask PAM (UsePAM no): its logins do not change")))
	}
	return found
}

// mostParents bounds how far the parents of a process are followed.
const mostParents = 32

// sshVariables are those that sshd(8) sets in its sessions. sudo takes them away from what it runs, and keeps them itself.
var sshVariables = []string{"SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"}

// CallerIsRemote reports whether who runs this program has come from another machine: as its environment, its parents
// and logind know it. Where none of them knows, it is false. A child with an environment of its own is told by its
// parent (Machine.Remote).
func CallerIsRemote(ctx context.Context) bool {
	return NewMachine("", "").callerIsRemote(ctx)
}

// callerIsRemote is CallerIsRemote for checks.
func (m *Machine) callerIsRemote(ctx context.Context) bool {
	if m.Remote || slices.ContainsFunc(sshVariables, func(name string) bool { return os.Getenv(name) != "" }) {
		return true
	}
	if m.isChildOfSSH(os.Getppid()) || m.sudoerIsRemote(os.Getenv("SUDO_UID")) {
		return true
	}
	remote, err := accounts.SessionIsRemote(ctx, os.Getpid())
	return err == nil && remote
}

// isChildOfSSH reports whether a process or one of its parents is sshd, or has the variables of its sessions: a terminal
// multiplexer outlives the session in which it was started, and has another parent then.
func (m *Machine) isChildOfSSH(pid int) bool {
	for range mostParents {
		if pid <= 1 {
			return false
		}
		dir := "/proc/" + strconv.Itoa(pid)
		if strings.HasPrefix(m.line(dir+"/comm"), "sshd") || m.hasSSHVariable(dir+"/environ") {
			return true
		}

		stat := m.line(dir + "/stat")
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			return false
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return false
		}
		pid = parent
	}

	return false
}

// hasSSHVariable reports whether an environment (proc_pid_environ(5)) has a variable of sshd's.
func (m *Machine) hasSSHVariable(file string) bool {
	text, err := m.text(file)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(text, "\x00"), func(entry string) bool {
		name, value, _ := strings.Cut(entry, "=")
		return value != "" && slices.Contains(sshVariables, name)
	})
}

// sudoerIsRemote reports whether all sessions of who called sudo or run0 come from elsewhere: run0 starts programs
// that are nobody's children, and in no session. uid is the value of SUDO_UID.
func (m *Machine) sudoerIsRemote(uid string) (remote bool) {
	if uid == "" {
		return false
	}
	for _, file := range m.glob("/run/systemd/sessions/*") {
		text, err := m.text(file)
		if err != nil || strings.HasSuffix(file, ".ref") {
			continue
		}
		session := sessionFields(text)
		switch {
		case session["UID"] != uid:
		case session["REMOTE"] != "1":
			return false
		default:
			remote = true
		}
	}
	return remote
}

// sessionFields are the lines of a file of /run/systemd/sessions.
func sessionFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			fields[key] = value
		}
	}
	return fields
}

// demandsCard reports whether stacks demand a card from some or all, rather than take one: card_only behind our module.
func (m *Machine) demandsCard() bool {
	if m.Mode != ModeUnknown {
		return m.Mode != ModePassword
	}
	for _, file := range m.glob("/etc/pam.d/*") {
		text, err := m.text(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			at := slices.IndexFunc(words, func(w string) bool { return path.Base(w) == ModuleName })
			if at > 0 && !strings.HasPrefix(words[0], "#") && slices.Contains(words[at:], "card_only") {
				return true
			}
		}
	}
	return false
}

// checkSudoOverSSH names the users who work here from elsewhere now: where a card is demanded they cannot use sudo, whose
// service is not sshd's.
func checkSudoOverSSH(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "sudo-over-ssh"
	if !m.demandsCard() {
		return list(good(id, "sudo", message.Textf("no stack demands a card: sudo in sessions from elsewhere takes the password")))
	}

	var users []string
	for _, file := range m.glob("/run/systemd/sessions/*") {
		text, err := m.text(file)
		if err != nil || strings.HasSuffix(file, ".ref") {
			continue
		}
		session := sessionFields(text)
		user := printable(session["USER"])
		if session["REMOTE"] == "1" && user != "" && !slices.Contains(users, user) {
			users = append(users, user)
		}
	}

	if len(users) == 0 {
		return list(note(id, "sudo", message.Textf("a card is demanded: who comes by ssh has none here, and cannot use sudo")))
	}

	return list(warn("sudo-over-ssh-users", strings.Join(users, ", "),
		message.Textf("they work here from elsewhere, where a card is demanded: they have none here, and cannot use sudo"),
		message.Textf("put them into the break-glass group, or give sudo a stack of its own without card_only")))
}
