//go:build hosts && linux && cgo

package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// manual is the page whose stacks are put to the test, as they stand there.
const manual = "../../doc/pam_pkcs11.8"

// profileDir is where pam-auth-update finds profiles.
const profileDir = "/usr/share/pam-configs"

// includeLine is the line of Debian's service files in front of which the module's stands.
const includeLine = "@include common-auth\n"

// keepDebian copies Debian's service files, over which the tests lay others.
func (m *machine) keepDebian() error {
	m.debian = filepath.Join(m.Dir, "debian-pam.d")
	if err := os.CopyFS(m.debian, os.DirFS("/etc/pam.d")); err != nil {
		return err
	}
	polkit, err := os.ReadFile("/usr/lib/pam.d/polkit-1")
	if err != nil {
		return fmt.Errorf("polkit (Debian package polkitd): %w", err)
	}

	ours := map[string]string{
		"polkit-1": string(polkit),
		"locker":   includeLine + "@include common-account\n",
		"cron":     includeLine + "@include common-account\n@include common-session-noninteractive\n",
	}
	for name, text := range ours {
		if err := os.WriteFile(filepath.Join(m.debian, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shown returns the literal text of the manual page that begins so, with what stands before it.
func shown(t *testing.T, begin string) (text, before string) {
	t.Helper()
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(page), ".Bd -literal -offset indent\n"+begin)
	text, _, closed := strings.Cut(begin+after, ".Ed\n")
	if !found || !closed {
		t.Fatalf("%s has no example that begins with %q", manual, begin)
	}
	return text, before
}

// The stacks of the manual page.
const (
	lineStack    = "line"         // one line in each service file
	profileStack = "pkcs11"       // the profiles for pam-auth-update, by their names
	groupStack   = "pkcs11-group" //
	onlyStack    = "pkcs11-only"  //
)

// profiles are the first lines of the profiles in the manual page.
var profiles = map[string]string{
	profileStack: "Name: Smart card or password\n",
	groupStack:   "Name: Smart card for members of the group smartcard\n",
	onlyStack:    "Name: Smart card only\n",
}

// board is a /etc/pam.d with one stack of the manual page in it. The module's path and its configuration file are the
// board's own, for a test to change.
type board struct {
	dir    string
	module string
	conf   string
}

// withStack lays Debian's service files with a stack of the manual page over /etc/pam.d for one test.
func withStack(t *testing.T, name string) *board {
	t.Helper()
	dir := filepath.Join(stage.Dir, "stack-"+name)
	b := &board{
		dir:    filepath.Join(dir, "pam.d"),
		module: filepath.Join(dir, "pam_pkcs11.so"),
		conf:   filepath.Join(dir, "pam_pkcs11.conf"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.CopyFS(b.dir, os.DirFS(stage.debian)); err != nil {
		t.Fatal(err)
	}
	b.insertModule(t)

	bind(t, b.dir, "/etc/pam.d")
	if name == lineStack {
		b.insertLine(t)
	} else {
		b.enable(t, name)
	}
	b.point(t)
	return b
}

// bind lays a directory or file over another until the test ends.
func bind(t *testing.T, from, over string) {
	t.Helper()
	if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("laying %s over %s: %v", from, over, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(over, unix.MNT_DETACH); err != nil {
			t.Errorf("taking %s off: %v", over, err)
		}
	})
}

// insertModule copies the module that was built to the place that the stack names.
func (b *board) insertModule(t *testing.T) {
	t.Helper()
	module, err := os.ReadFile(stage.Module)
	if err == nil {
		err = os.WriteFile(b.module, module, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// insertLine puts the one line in front of the include of each service file.
func (b *board) insertLine(t *testing.T) {
	t.Helper()
	lines, _ := shown(t, "auth sufficient pam_pkcs11.so\n")
	if !strings.HasSuffix(lines, includeLine) {
		t.Fatalf("the manual page shows %q", lines)
	}
	b.edit(t, func(text string) string { return strings.Replace(text, includeLine, lines, 1) })
}

// enable lets pam-auth-update write the profile's lines to common-auth, as an administrator would.
func (b *board) enable(t *testing.T, name string) {
	t.Helper()
	profile, before := shown(t, profiles[name])
	if !strings.Contains(before[strings.LastIndex(before, ".Bd "):], profileDir+"/"+name+" ") {
		t.Errorf("the manual page does not name the file of the profile %s", name)
	}

	b.update(t, name, profile)
	auth, err := os.ReadFile(filepath.Join(b.dir, "common-auth"))
	if err != nil || bytes.Count(auth, []byte("\tpam_pkcs11.so")) != 1 {
		t.Fatalf("%v: common-auth is\n%s", err, auth)
	}
}

// update runs pam-auth-update with one more profile, over copies of all that it writes but /etc/pam.d.
func (b *board) update(t *testing.T, name, profile string) {
	t.Helper()
	copies := t.TempDir()
	script := "set -e\n"
	for i, dir := range []string{profileDir, "/var/lib/pam", "/var/cache/debconf"} {
		duplicate := filepath.Join(copies, fmt.Sprint(i))
		if err := os.CopyFS(duplicate, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		script += "mount --bind " + duplicate + " " + dir + "\n"
	}
	if err := os.WriteFile(filepath.Join(copies, "0", name), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	// A second run must find its own lines and leave them: a control with two numbers would freeze the block.
	script += "pam-auth-update --force --enable " + name + "\npam-auth-update --package\n"

	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if said, err := cmd.CombinedOutput(); err != nil || bytes.Contains(said, []byte("Local modifications")) {
		t.Fatalf("pam-auth-update: %v: %s", err, said)
	}
}

// point gives every line of the module the board's path and configuration file. A login that fails need not last
// three seconds here.
func (b *board) point(t *testing.T) {
	t.Helper()
	b.edit(t, func(text string) string {
		text = strings.ReplaceAll(text, "pam_pkcs11.so", b.module+" config_file="+b.conf)
		return strings.Replace(text, "delay=3000000", "delay=1000", 1)
	})
}

// edit rewrites every service file.
func (b *board) edit(t *testing.T, change func(string) string) {
	t.Helper()
	files, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(b.dir, f.Name())
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(change(string(text))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// withPassword gives root and all users of the tests a password that is not the PIN, for one test.
func withPassword(t *testing.T, password string) {
	t.Helper()
	cmd := exec.Command("openssl", "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(password)
	hash, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl (Debian package openssl): %v", err)
	}
	var text strings.Builder
	for _, name := range []string{"root", "alice", "bob", "carol", "glass"} {
		fmt.Fprintf(&text, "%s:%s:20000:0:99999:7:::\n", name, bytes.TrimSpace(hash))
	}

	shadow, err := os.Stat("/etc/shadow")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "shadow")
	owner := shadow.Sys().(*syscall.Stat_t)
	err = errors.Join(
		os.WriteFile(file, []byte(text.String()), 0o600),
		os.Chown(file, int(owner.Uid), int(owner.Gid)),
		os.Chmod(file, shadow.Mode().Perm()))
	if err != nil {
		t.Fatal(err)
	}
	bind(t, file, "/etc/shadow")
}

// TestTheFormForLinesBehindTheInclude: with the form that the manual page shows for login, the line behind the
// password runs after a login by card and after one by password, and a refusal stays one.
func TestTheFormForLinesBehindTheInclude(t *testing.T) {
	form, _ := shown(t, "auth [success=1 default=ignore] pam_pkcs11.so\n")
	lines := strings.Split(strings.TrimSuffix(form, "\n"), "\n")
	if len(lines) != 4 || !strings.HasSuffix(lines[3], " pam_group.so") {
		t.Fatalf("the manual page shows\n%s", form)
	}
	withPassword(t, password)
	b := withStack(t, lineStack)
	reader := newReader(t)
	reader.configure(t, b, situation{})

	mark := filepath.Join(t.TempDir(), "ran")
	lines[3] = "auth optional pam_exec.so quiet /bin/touch " + mark
	text := strings.Join(lines, "\n") + "\naccount required pam_permit.so\nsession required pam_permit.so\n"
	text = strings.ReplaceAll(text, "pam_pkcs11.so", b.module+" config_file="+b.conf)
	if err := os.WriteFile(filepath.Join(b.dir, "behind"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, pin, password string
		in                  bool
	}{
		{"the card", pin, "", true},
		{"the password", wrongPIN, password, true},
		{"neither", wrongPIN, wrongPIN, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_ = os.Remove(mark)
			p := onTerminal(t, 0, nil, pamtester, "behind", "alice", "authenticate", "setcred(PAM_ESTABLISH_CRED)")
			got := logIn(t, p, pamtesterHost.in, answers{pin: row.pin, password: row.password})
			if got.in != row.in {
				t.Errorf("let in: %v\n%s", got.in, p.Text())
			}
			p.Wait()
			if _, err := os.Stat(mark); row.in && err != nil {
				t.Errorf("the line behind the include did not run: %v\n%s", err, p.Text())
			}
		})
	}
}

// TestTheManualPageNamesTheLinesBehindTheInclude: of the service files that are here, those with lines that
// sufficient skips are those that the manual page names.
func TestTheManualPageNamesTheLinesBehindTheInclude(t *testing.T) {
	files, err := os.ReadDir(stage.debian)
	if err != nil {
		t.Fatal(err)
	}
	named := []string{"login"} // of the page's list, what is installed here
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(stage.debian, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, behind, found := strings.Cut("\n"+string(text), "\n"+includeLine)
		skips := found && slices.ContainsFunc(strings.Split(behind, "\n"), func(line string) bool {
			return strings.HasPrefix(strings.TrimPrefix(line, "-"), "auth")
		})
		if skips != slices.Contains(named, f.Name()) {
			t.Errorf("%s: lines behind the include: %v", f.Name(), skips)
		}
	}
}
