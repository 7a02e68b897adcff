//go:build linux && cgo

package setup

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// guard is one check of the guard against a lock-out, and a machine on which it is hit.
type guard struct {
	number int
	name   string // the situation
	made   func(t *testing.T)

	card  func() *testca.Cert // in the reader; nil is one that signs itself
	spent int                 // PINs that the card has got wrong
	pin   string              // for the rehearsal; "" is none
	args  []string            // of setup, beside --user alice --yes --json --dry-run
	ssh   bool                // the caller has come by ssh

	code int    // with which setup ends
	said string // the reason that it gives

	check string // of doctor; "" where only a change that is meant can be looked at
	id    string // of doctor's finding
}

// refusing are the checks that refuse a change; the others warn. 2 does where nobody has a password
// way.
var refusing = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12}

// Stacks and lines of configurations of the guards.
const (
	include   = "@include common-auth\n@include common-account\n"
	lockedOut = "auth [success=done authinfo_unavail=1 default=die] pam_pkcs11.so\n" + include

	confFile = "/etc/pam_pkcs11/pam_pkcs11.conf"

	caDir   = "ca_dir = /etc/pam_pkcs11/cacerts; cert_policy = ca;"
	pattern = `pin_pattern = "[0-9]+";`
)

var guards = []guard{
	{
		number: 1,
		name:   "root has no password, and nobody has sudo",
		made:   rootLocked,
		code:   1,
		said:   "without a card nobody becomes root",
		check:  "root-way-in",
		id:     "root-no-way-in",
	}, {
		number: 2,
		name:   "cards only, and no break-glass group",
		made:   func(t *testing.T) { enabled(t, "pkcs11-only") },
		args:   []string{"--mode", "only"},
		code:   1,
		said:   "the group is not there: nobody gets in without a card",
		check:  "break-glass",
		id:     "break-glass-missing",
	}, {
		number: 3,
		name:   "a service whose stack ends without a card",
		made:   file("/etc/pam.d/sudo", lockedOut),
		code:   1,
		said:   "without a card nobody gets in",
		check:  "stack-control-flow",
		id:     "stack-locks-out",
	}, {
		number: 3,
		name:   "who must use a card gets in by a password",
		made:   configured(caDir, pattern+" card_required_users = alice;"),
		args:   []string{"--config", "keep"},
		code:   1,
		said:   "card_required_users says who must use a card, and a password lets them in all the same",
		// Nothing for doctor: only the planned stack lets them in.
	}, {
		number: 4,
		name:   "a jump beyond the end",
		made:   file("/etc/pam.d/sudo", include+"auth [success=5 default=ignore] pam_unix.so\n"),
		code:   1,
		said:   "skips 5 lines, and fewer follow",
		check:  "stack-jumps",
		id:     "stack-jump-beyond",
	}, {
		number: 5,
		name:   "a number over the block of pam-auth-update",
		made:   file("/etc/pam.d/sudo", "auth [success=3 default=ignore] pam_rootok.so\n"+include),
		code:   1,
		said:   "skips lines that pam-auth-update writes",
		check:  "stack-shifted-jumps",
		id:     "stack-jump-shifted",
	}, {
		number: 6,
		name:   "a profile that is switched on, and not in its frozen block",
		made:   func(t *testing.T) { enabled(t, "pkcs11"); withoutLine(t) },
		code:   1,
		said:   "the profile pkcs11 is enabled, and its line",
		check:  "stack-profiles",
		id:     "profile-not-written",
	}, {
		number: 7,
		name:   "a control that was edited in the block",
		made:   func(t *testing.T) { enabled(t, "pkcs11"); frozen(t) },
		code:   1,
		said:   "does not know its own block",
		check:  "stack-frozen",
		id:     "stack-frozen",
	}, {
		number: 8,
		name:   "a module that is not there",
		made:   file("/etc/pam.d/sudo", "auth required pam_missing.so\n"+include),
		code:   1,
		said:   "pam_missing.so",
		check:  "stack-modules",
		id:     "stack-module-missing",
	}, {
		number: 9,
		name:   "a worker that everybody may write",
		made:   workerWritable,
		code:   1,
		said:   "others than root can change it",
		check:  "worker",
		id:     "worker-unsafe",
	}, {
		number: 10,
		name:   "a configuration is kept whose CA directory is missing",
		made:   configured("ca_dir = /nonexistent; cert_policy = ca;", pattern),
		args:   []string{"--config", "keep"},
		code:   78,
		said:   "every login would be refused: " + confFile + ":6:14: ca_dir = /nonexistent",
		check:  "ca-files",
		id:     "ca-dir",
	}, {
		number: 11,
		name:   "the card names somebody else",
		made:   func(t *testing.T) { caFile(t) },
		card:   func() *testca.Cert { return stage.ca.Leaf("bob") },
		args:   []string{"--mapper", "cn"},
		code:   1,
		said:   "the card is not mapped to alice: mapper cn: ",
	}, {
		number: 12,
		name:   "the login by card fails",
		made:   func(*testing.T) {},
		pin:    "letters",
		code:   4,
		said:   "2366",
	}, {
		number: 13,
		name:   "the account is not let in, whatever the password",
		made:   expired,
		code:   4,
		said:   "account",
	}, {
		number: 14,
		name:   "one try is left",
		made:   configured(caDir, pattern),
		args:   []string{"--config", "keep"},
		spent:  2,
		said:   "one try",
		check:  "card-pin",
		id:     "pin-last-try",
	}, {
		number: 15,
		name:   "the certificate ends soon",
		made:   configured(caDir, pattern),
		args:   []string{"--config", "keep", "--pin-key"},
		card:   endsSoon,
		said:   "ends",
		check:  "card-certificates",
		id:     "certificate-ends-soon",
	}, {
		number: 16,
		name:   "the daemon serves root only",
		made:   func(*testing.T) {},
		said:   "daemon",
		check:  "daemon-access",
		id:     "daemon-refuses-user",
	}, {
		number: 17,
		name:   "the caller has come by ssh",
		made:   func(*testing.T) {},
		ssh:    true,
		said:   "you have come by ssh",
		check:  "ssh",
		id:     "ssh-caller",
	}, {
		number: 18,
		name:   "an account that the machine does not know",
		made:   nobodyHere,
		code:   1,
		said:   "there is no account alice",
		check:  "directory-accounts",
		id:     "account-unknown",
	}, {
		number: 19,
		name:   "the clock is behind",
		made:   later("/var/lib/dpkg/status"),
		said:   "clock",
		check:  "clock",
		id:     "clock-behind",
	}, {
		number: 20,
		name:   "GDM offers no password",
		made: func(t *testing.T) {
			file("/etc/pam.d/gdm-password", include)(t)
			file("/etc/dconf/db/gdm.d/10-login",
				"[org/gnome/login-screen]\nenable-password-authentication=false\n")(t)
		},
		said:  "offers no password",
		check: "gdm",
		id:    "gdm-password-off",
	}, {
		number: 21,
		name:   "a locker with one field, and a configuration is kept without a pattern",
		made: func(t *testing.T) {
			configured(caDir, "")(t)
			locker(t)
		},
		args:  []string{"--config", "keep"},
		said:  "i3lock",
		check: "one-field-lockers",
		id:    "pin-pattern-missing",
	}, {
		number: 22,
		name:   "a module that needs the password",
		made: func(t *testing.T) {
			enabled(t, "pkcs11")
			file("/etc/pam.d/sudo", include+"auth optional pam_mount.so\n")(t)
		},
		said:  "it asks for a password of its own",
		check: "stack-password-users",
		id:    "stack-needs-password",
	}, {
		number: 23,
		name:   "/etc is read-only",
		made:   readOnly,
		said:   "mounted read-only",
		check:  "etc-writable",
		id:     "etc-read-only",
	}, {
		number: 24,
		name:   "an update of a file is in progress",
		made:   file("/etc/pam.d/sudo.dpkg-new", include),
		said:   "sudo.dpkg-new",
		check:  "stack-edits",
		id:     "stack-edit",
	}, {
		number: 25,
		name:   "cards only, and somebody works here from elsewhere",
		made: func(t *testing.T) {
			edit(t, "/etc/group", func(text string) string {
				return text + "breakglass:x:64011:root\n"
			})
			enabled(t, "pkcs11-only")
			file("/run/systemd/sessions/3", "UID=64002\nUSER=bob\nACTIVE=1\nREMOTE=1\n")(t)
		},
		args:  []string{"--mode", "only"},
		said:  "cannot use sudo",
		check: "sudo-over-ssh",
		id:    "sudo-over-ssh-users",
	},
}

// TestGuards: each of the 25 checks, by setup, which refuses or warns with its reason, and by
// doctor.
func TestGuards(t *testing.T) {
	last := 0
	for _, g := range guards {
		if g.number != last && g.number != last+1 {
			t.Errorf("a row of check %d follows one of %d", g.number, last)
		}
		last = g.number
		t.Run(fmt.Sprint(g.number), func(t *testing.T) { g.try(t) })
	}
	if last != doctor.GuardNumbers {
		t.Errorf("the last row is of check %d, not %d", last, doctor.GuardNumbers)
	}
}

// shown is what setup and doctor say of a finding.
type shown struct{ ID, Severity, Subject, Fact, Remedy string }

// try makes the situation, and asks both.
func (g guard) try(t *testing.T) {
	card := func() *testca.Cert { return testca.SelfSigned("alice") }
	if g.card != nil {
		card = g.card
	}
	withCard(t, card())
	if g.spent > 0 {
		if err := scene.WrongPINs("/run/pcscd/pcscd.comm", "999999", g.spent); err != nil {
			t.Fatal(err)
		}
	}
	g.made(t)
	if g.ssh {
		fromSSH(t)
	}

	before := tree(t)
	g.askSetup(t)
	unchanged(t, before)
	if g.check != "" {
		g.askDoctor(t)
	}
}

// askSetup: the exit code, and one finding of that number with the reason. What fails in the
// rehearsal is no finding, but the end.
func (g guard) askSetup(t *testing.T) {
	args := []string{"setup", "--user", "alice", "--yes", "--json", "--dry-run"}
	if g.pin != "" {
		args = append(args, "--pin-fd", "3")
	}
	r := runTool(t, g.pin, append(args, g.args...)...)
	if r.code != g.code {
		t.Errorf("setup ends with %d, want %d:\n%s%s", r.code, g.code, r.out, r.err)
	}
	var said struct {
		Error    string
		Findings []shown
	}
	if err := json.Unmarshal([]byte(r.out), &said); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}

	severity := "warning"
	if slices.Contains(refusing, g.number) || g.number == 11 {
		severity = "refusal"
	}
	number := fmt.Sprintf("(check %d)", g.number)
	for _, f := range said.Findings {
		if strings.HasSuffix(f.Subject, number) && f.Severity == severity && f.Remedy != "" &&
			strings.Contains(f.Subject+": "+f.Fact, g.said) {
			return
		}
	}
	ended := slices.Contains([]int{10, 12, 13, 18}, g.number)
	if !ended || !strings.Contains(r.out, g.said) || said.Error == "" {
		t.Errorf("setup does not say %q:\n%s%s", g.said, r.out, r.err)
	}
}

// askDoctor: the ID, in one line with its cure.
func (g guard) askDoctor(t *testing.T) {
	r := runTool(t, "", "doctor", "--json", "--user", "alice", g.check)
	var said struct{ Findings []shown }
	if err := json.Unmarshal([]byte(r.out), &said); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	for _, f := range said.Findings {
		if f.ID == g.id && f.Remedy != "" && f.Fact != "" && !strings.Contains(f.Fact, "\n") {
			return
		}
	}
	t.Errorf("doctor does not say %s:\n%s%s", g.id, r.out, r.err)
}

// edit changes a file until the test ends.
func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		t.Fatalf("nothing of %s is changed:\n%s", path, text)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Error(err)
		}
	})
}

// file writes a file until the test ends.
func file(path, text string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if _, err := os.Stat(path); err == nil {
			edit(t, path, func(string) string { return text })
			return
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(path) })
	}
}

func rootLocked(t *testing.T) {
	edit(t, "/etc/shadow", func(text string) string {
		return strings.Replace(text, "root:$", "root:!$", 1)
	})
	edit(t, "/etc/sudoers", func(text string) string {
		return strings.Replace(text, "alice ALL=(ALL:ALL) ALL", "alice ALL=(ALL:ALL) /bin/true", 1)
	})
}

// enabled lets pam-auth-update switch a profile on until the test ends.
func enabled(t *testing.T, profile string) {
	t.Helper()
	switchProfile(t, "--enable", profile)
	t.Cleanup(func() { switchProfile(t, "--disable", profile) })
}

func switchProfile(t *testing.T, how, profile string) {
	t.Helper()
	cmd := exec.Command("pam-auth-update", how, profile)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("pam-auth-update %s %s: %v: %s", how, profile, err, said)
	}
}

const commonAuth = "/etc/pam.d/common-auth"

// withoutLine takes our line away, and adds another, which freezes the block.
func withoutLine(t *testing.T) {
	edit(t, commonAuth, func(text string) string {
		lines := strings.SplitAfter(text, "\n")
		at := slices.IndexFunc(lines, func(line string) bool {
			return strings.Contains(line, "pam_pkcs11.so")
		})
		lines[at] = "auth\toptional\tpam_echo.so file=/dev/null\n"
		return strings.Join(lines, "")
	})
}

// frozen writes a second number into our line.
func frozen(t *testing.T) {
	edit(t, commonAuth, func(text string) string {
		const ours = "default=ignore]\tpam_pkcs11.so"
		return strings.Replace(text, ours, "perm_denied=1 "+ours, 1)
	})
}

// workerWritable lays a copy of the worker over it that everybody may write.
func workerWritable(t *testing.T) {
	worker, err := filepath.Abs(filepath.Join(build, "pam_pkcs11_worker"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(worker)
	if err != nil {
		t.Fatal(err)
	}
	loose := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(loose, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	lay(t, loose, worker)
}

// lay binds a file over another until the test ends.
func lay(t *testing.T, from, over string) {
	t.Helper()
	if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(over, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fromSSH starts the tool under a shell that is called sshd, as that of a login by ssh is.
func fromSSH(t *testing.T) {
	t.Helper()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(t.TempDir(), "sshd")
	if err := os.WriteFile(place, shell, 0o755); err != nil {
		t.Fatal(err)
	}
	stage.under = place
	t.Cleanup(func() { stage.under = "" })
}

// endsSoon is a certificate of three more days.
func endsSoon() *testca.Cert {
	now := time.Now()
	return stage.ca.Leaf("alice", testca.Validity(now.Add(-time.Hour), now.Add(72*time.Hour)))
}

// caFile puts the certificate of the test's CA into ca_dir.
func caFile(t *testing.T) {
	t.Helper()
	file("/etc/pam_pkcs11/cacerts/ca.pem", string(stage.ca.PEM()))(t)
}

// configured writes a configuration of an administrator's own.
func configured(module, global string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		caFile(t)
		file(confFile, fmt.Sprintf("pam_pkcs11 {\n"+
			"  use_pkcs11_module = builtin;\n"+
			"  use_mappers = enrolled;\n"+
			"  %s\n"+
			"  pkcs11_module builtin {\n"+
			"    %s\n"+
			"  }\n}\n", global, module))(t)
	}
}

// expired ends alice's account.
func expired(t *testing.T) {
	edit(t, "/etc/shadow", func(text string) string {
		lines := strings.SplitAfter(text, "\n")
		at := slices.IndexFunc(lines, func(line string) bool {
			return strings.HasPrefix(line, "alice:")
		})
		lines[at] = strings.Replace(lines[at], ":99999:7:::", ":99999:7::100:", 1)
		return strings.Join(lines, "")
	})
}

// nobodyHere takes alice's account away.
func nobodyHere(t *testing.T) {
	edit(t, "/etc/passwd", func(text string) string {
		return strings.Replace(text, "\nalice:", "\nalicia:", 1)
	})
}

// later gives a file a time to come, which the clock has not reached.
func later(path string) func(t *testing.T) {
	return func(t *testing.T) {
		file(path, "")(t)
		ahead := time.Now().Add(72 * time.Hour)
		if err := os.Chtimes(path, ahead, ahead); err != nil {
			t.Fatal(err)
		}
	}
}

// locker has i3lock be installed: links to all of /usr/bin, and one file more, lie over it.
func locker(t *testing.T) {
	t.Helper()
	const place = "/usr/bin"
	if _, err := os.Stat(place + "/i3lock"); err == nil {
		return
	}
	real, links := filepath.Join(stage.dir, "bin-real"), filepath.Join(stage.dir, "bin-links")
	for _, dir := range []string{real, links} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
	lay(t, place, real)

	programs, err := os.ReadDir(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		err := os.Symlink(filepath.Join(real, p.Name()), filepath.Join(links, p.Name()))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(links, "i3lock"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	lay(t, links, place)
}

// readOnly mounts /etc read-only.
func readOnly(t *testing.T) {
	t.Helper()
	const etc = "/etc"
	if err := unix.Mount("", etc, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Mount("", etc, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			t.Error(err)
		}
	})
}
