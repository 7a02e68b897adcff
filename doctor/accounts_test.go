package doctor

import (
	"fmt"
	"testing"
	"time"

	"pam_pkcs11/internal/diagnosis"
)

// accounts writes passwd, shadow and group.
func (tr *tree) accounts(rootPassword, alicePassword, groups string) {
	tr.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000:Alice:/home/alice:/bin/bash\nbad line\n+::::::\n")
	tr.put("/etc/shadow", "root:"+rootPassword+":19000:0:99999:7:::\nalice:"+alicePassword+"\n")
	tr.put("/etc/group", "root:x:0:\nalice:x:1000:\n"+groups)
}

const (
	set    = "$y$j9T$abc$def"
	locked = "!$y$j9T$abc$def"
	aging  = ":19000:0:99999:7:::"
)

// TestRoot: a password, a key for ssh, somebody with sudo, and nothing.
func TestRoot(t *testing.T) {
	tr := newTree(t)
	tr.accounts(set, locked+aging, "sudo:x:27:alice\n")
	want{"root-way-in", diagnosis.OK, "root has a password", ""}.in(t, run(t, tr.machine(), "root-way-in"))

	tr.accounts("*", set+aging, "sudo:x:27:alice\n")
	want{"root-way-in", diagnosis.OK, "needs no card for it: alice", ""}.in(t, run(t, tr.machine(), "root-way-in"))

	tr.accounts("!", locked+aging, "sudo:x:27:alice\n")
	w := want{"root-no-way-in", diagnosis.Refusal, "without a card nobody becomes root", "passwd root"}
	w.in(t, run(t, tr.machine(), "root-way-in"))

	tr.put("/root/.ssh/authorized_keys", "# a key\nssh-ed25519 AAAA root@elsewhere\n")
	w.in(t, run(t, tr.machine(), "root-way-in")) // no sshd
	tr.put("/usr/sbin/sshd", "")
	want{"root-way-in", diagnosis.OK, "a key for ssh", ""}.in(t, run(t, tr.machine(), "root-way-in"))
	tr.put("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\n")
	tr.put("/etc/ssh/sshd_config.d/x.conf", "permitrootlogin no\n")
	w.in(t, run(t, tr.machine(), "root-way-in"))
}

// TestRootWhereCardsAreDemanded: a password is a way in only for those who need no card; sudo that asks nothing is one with
// a key for ssh.
func TestRootWhereCardsAreDemanded(t *testing.T) {
	check := func(tr *tree, mode Mode) diagnosis.Findings {
		m := tr.machine()
		m.Mode = mode
		return run(t, m, "root-way-in")
	}
	none := want{"root-no-way-in", diagnosis.Refusal, "without a card nobody becomes root", "break-glass group"}
	tr := newTree(t)
	tr.accounts(set, set+aging, "sudo:x:27:alice\n")
	want{"root-way-in", diagnosis.OK, "root has a password", ""}.in(t, check(tr, ModePassword))
	none.in(t, check(tr, ModeOnly))

	tr.accounts(set, set+aging, "sudo:x:27:alice\nbreakglass:x:900:root\n")
	want{"root-way-in", diagnosis.OK, "root has a password", ""}.in(t, check(tr, ModeOnly))
	tr.accounts("*", set+aging, "sudo:x:27:alice\nbreakglass:x:900:alice\n")
	want{"root-way-in", diagnosis.OK, "alice", ""}.in(t, check(tr, ModeOnly))
	tr.accounts("*", set+aging, "sudo:x:27:alice\nsmartcard:x:901:alice\n")
	none.in(t, check(tr, ModeGroup))
	want{"root-way-in", diagnosis.OK, "alice", ""}.in(t, check(tr, ModePassword))

	tr.accounts("*", locked+aging, "")
	tr.put("/etc/sudoers.d/90-cloud-init-users", "# of cloud-init\nalice ALL=(ALL) NOPASSWD:ALL\n")
	none.in(t, check(tr, ModeOnly))
	tr.put("/usr/sbin/sshd", "")
	tr.put("/home/alice/.ssh/authorized_keys", "ssh-ed25519 AAAA\n")
	want{"root-way-in", diagnosis.OK, "alice", ""}.in(t, check(tr, ModeOnly))
	tr.put("/etc/sudoers.d/90-cloud-init-users", "alice ALL=(ALL) /bin/ls\n")
	none.in(t, check(tr, ModeOnly))
}

// TestBreakGlass: the group that a stack names is missing, empty, without password, or good.
func TestBreakGlass(t *testing.T) {
	tr := newTree(t)
	tr.accounts(set, set+aging, "")
	want{"break-glass", diagnosis.Note, "no stack demands", ""}.in(t, run(t, tr.machine(), "break-glass"))

	tr.put("/etc/pam.d/common-auth", "auth [success=ignore default=1] pam_succeed_if.so quiet service notin sshd user notingroup glass\n"+
		"auth [success=end ignore=ignore default=die] pam_pkcs11.so card_only\n")
	want{"break-glass-missing", diagnosis.Refusal, "the group is not there", "groupadd --system glass"}.in(t, run(t, tr.machine(), "break-glass"))

	tr.accounts(set, set+aging, "glass:x:900:bob\n")
	want{"break-glass-empty", diagnosis.Refusal, "no member", "usermod"}.in(t, run(t, tr.machine(), "break-glass"))

	tr.accounts(set, locked+aging, "glass:x:900:alice\n")
	want{"break-glass-no-password", diagnosis.Refusal, "alice", "passwd alice"}.in(t, run(t, tr.machine(), "break-glass"))

	tr.accounts(set, set+":19000:0:99999:7::19001:", "glass:x:900:alice\n") // the account has ended
	want{"break-glass-no-password", diagnosis.Refusal, "has ended", "passwd alice"}.in(t, run(t, tr.machine(), "break-glass"))

	tr.accounts(set, set+aging, "glass:x:900:alice\n")
	want{"break-glass", diagnosis.OK, "alice", ""}.in(t, run(t, tr.machine(), "break-glass"))
}

// TestHasPassword: which lines of shadow(5) let somebody in.
func TestHasPassword(t *testing.T) {
	now := time.Unix(20000*24*60*60, 0)
	for line, want := range map[string]bool{
		set + ":19000:0:99999:7:::":   true,
		set + "::::::::":              true,
		set + ":0:0:99999:7:::":       true, // has to be changed at the login
		set + ":19000:0:90:7:30::":    false,
		set + ":19990:0:90:7:30::":    true,
		set + ":19000:0:90:7:::":      true, // is changed at the login
		set + ":19000:0:::::20000:":   true,
		set + ":19000:0::::20000:":    false,
		set + ":19000:0::::20001:":    true,
		":19000::::::":                false,
		"!:19000::::::":               false,
		"*:19000::::::":               false,
		locked + ":19000:0:99999::::": false,
	} {
		entry := readShadow(fmt.Sprintf("u:%s\n", line))["u"]
		if got := (localUser{shadow: entry, hasShadow: true}).hasPassword(now); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// FuzzShadow: no line of shadow(5) is more than it says.
func FuzzShadow(f *testing.F) {
	f.Add("u:" + set + aging)
	f.Add("u:!\nv")
	f.Fuzz(func(t *testing.T, text string) {
		for _, entry := range readShadow(text) {
			u := localUser{shadow: entry, hasShadow: true}
			if u.hasPassword(time.Unix(0, 0)) && (len(entry.password) < 2 || entry.password[0] == '!' || entry.password[0] == '*') {
				t.Errorf("%q", entry.password)
			}
		}
	})
}

// TestAccounts: accounts of the machine's own, and of a directory.
func TestAccounts(t *testing.T) {
	tr := newTree(t)
	tr.accounts(set, set+aging, "")
	want{"directory-accounts", diagnosis.OK, "own files", ""}.in(t, run(t, tr.machine(), "directory-accounts"))
	tr.put("/etc/nsswitch.conf", "passwd: files sss [NOTFOUND=return] systemd\n")
	want{"directory-accounts", diagnosis.Note, "come from sss too", ""}.in(t, run(t, tr.machine(), "directory-accounts"))

	m := tr.machine()
	m.User = "carol"
	want{"account-directory", diagnosis.Warning, "unknown while the directory is down (sss)", "local account"}.in(t, run(t, m, "directory-accounts"))
	live := tr.live()
	live.User = "no-such-account"
	want{"account-unknown", diagnosis.Refusal, "no such account", "getent passwd"}.in(t, run(t, live, "directory-accounts"))
}

// TestSSH: what sshd asks.
func TestSSH(t *testing.T) {
	tr := newTree(t)
	want{"ssh", diagnosis.OK, "not installed", ""}.in(t, run(t, tr.machine(), "ssh"))
	tr.put("/usr/sbin/sshd", "")
	tr.put("/etc/ssh/sshd_config", "UsePAM no\n")
	want{"ssh", diagnosis.OK, "does not ask PAM", ""}.in(t, run(t, tr.machine(), "ssh"))
	tr.put("/etc/ssh/sshd_config", "#UsePAM no\nUsePAM yes\nMatch User x\n UsePAM no\n")
	want{"ssh", diagnosis.Note, "sshd asks PAM", ""}.in(t, run(t, tr.machine(), "ssh"))

	caller := want{"ssh-caller", diagnosis.Warning, "you have come by ssh", "keep this session open"}
	for _, name := range sshVariables {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "192.0.2.1 1 192.0.2.2 22")
			caller.in(t, run(t, tr.live(), "ssh"))
		})
	}
	told := tr.live()
	told.Remote = true
	caller.in(t, run(t, told, "ssh"))
}

// TestChildOfSSH: sshd among the parents, or its variables in their environments, which sudo does not pass on.
func TestChildOfSSH(t *testing.T) {
	tr := newTree(t)
	process := func(pid, parent int, name, environment string) {
		dir := fmt.Sprintf("/proc/%d", pid)
		tr.put(dir+"/comm", name+"\n")
		tr.put(dir+"/stat", fmt.Sprintf("%d (%s) S %d 1 1\n", pid, name, parent))
		tr.put(dir+"/environ", environment)
	}
	process(10, 1, "login", "")
	process(11, 10, "bash", "SSH_TTY=\x00NO_SSH_CONNECTION=1\x00SSH_AUTH_SOCK=/run/x\x00")
	process(20, 1, "sshd-session", "")
	process(21, 20, "od (d) S 1", "")
	process(30, 1, "tmux: server", "")
	process(31, 30, "sudo", "TERM=tmux\x00SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22\x00")
	process(32, 31, "sudo", "")
	process(40, 41, "a", "")
	process(41, 40, "b", "")
	for pid, want := range map[int]bool{1: false, 11: false, 20: true, 21: true, 30: false, 32: true, 40: false, 99: false} {
		if got := tr.machine().isChildOfSSH(pid); got != want {
			t.Errorf("process %d: %v, want %v", pid, got, want)
		}
	}
}

// TestSudoerIsRemote: what logind knows of who called sudo.
func TestSudoerIsRemote(t *testing.T) {
	tr := newTree(t)
	tr.put("/run/systemd/sessions/1", "UID=1000\nUSER=alice\nREMOTE=1\n")
	tr.put("/run/systemd/sessions/2", "UID=1001\nUSER=bob\nREMOTE=1\n")
	tr.put("/run/systemd/sessions/3", "UID=1001\nUSER=bob\nREMOTE=0\n")
	tr.put("/run/systemd/sessions/4.ref", "UID=1002\nREMOTE=1\n")
	for uid, want := range map[string]bool{"1000": true, "1001": false, "1002": false, "": false, "x": false} {
		if got := tr.machine().sudoerIsRemote(uid); got != want {
			t.Errorf("SUDO_UID=%s: %v, want %v", uid, got, want)
		}
	}
}

// TestSudoOverSSH: who is here from elsewhere where a card is demanded.
func TestSudoOverSSH(t *testing.T) {
	tr := newTree(t)
	want{"sudo-over-ssh", diagnosis.OK, "no stack demands", ""}.in(t, run(t, tr.machine(), "sudo-over-ssh"))
	tr.put("/etc/pam.d/common-auth", "auth [success=end ignore=ignore default=die] pam_pkcs11.so card_only\n")
	want{"sudo-over-ssh", diagnosis.Note, "cannot use sudo", ""}.in(t, run(t, tr.machine(), "sudo-over-ssh"))
	tr.put("/run/systemd/sessions/3", "UID=1000\nUSER=alice\nACTIVE=1\nREMOTE=1\n")
	f := want{"sudo-over-ssh-users", diagnosis.Warning, "cannot use sudo", "break-glass"}.in(t, run(t, tr.machine(), "sudo-over-ssh"))
	if f.Subject != "alice" {
		t.Error(f.Subject)
	}
}
