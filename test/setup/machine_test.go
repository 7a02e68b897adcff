//go:build linux && cgo

package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/hosts/program"
	"pam_pkcs11/test/scene"
)

const (
	pin      = "271828"
	password = "correct-horse"

	aliceID = 64001
	bobID   = 64002

	// inside tells the second run of this program that it is in its own namespace.
	inside = "PAM_PKCS11_TEST_SETUP_INSIDE"

	// patience is how long a program may take to say the next thing.
	patience = 5 * time.Minute
)

// build is where `make build` puts the programs.
const build = "../../build"

// stage is what all tests use, made once.
var stage struct {
	dir  string
	tool string
	ca   *testca.CA

	under string // a shell in which the tool is started, for one test; "" is none
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Geteuid() != 0 {
			fmt.Println("test/setup: only root can make the namespace in which setup runs: nothing is tested")
			return 0
		}
		if os.Getenv(inside) == "" {
			return again()
		}
		err := furnish()
		code := 1
		if err == nil {
			code = m.Run()
		}
		if err = errors.Join(err, os.RemoveAll(stage.dir)); err != nil {
			fmt.Fprintln(os.Stderr, "test/setup:", err)
			return 1
		}
		return code
	}())
}

// again runs this program once more, in a mount namespace of its own.
func again() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/setup:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "test/setup:", err)
		return 1
	}
	return 0
}

// copied are the directories that the tests have copies of.
var copied = []string{"/etc", "/var/lib/pam", "/var/lib/dpkg/info", "/var/cache/debconf", "/usr/share/pam-configs"}

// furnish lays copies over the machine's files.
func furnish() (err error) {
	if err := scene.InEnglish(); err != nil {
		return err
	}
	if stage.tool, err = filepath.Abs(filepath.Join(build, "pam-pkcs11")); err != nil {
		return err
	}
	if _, err := os.Stat(stage.tool); err != nil {
		return fmt.Errorf("the programs are not built (make build): %w", err)
	}
	if stage.dir, err = os.MkdirTemp("", "pam_pkcs11-setup-"); err != nil {
		return err
	}
	if err := os.Chmod(stage.dir, 0o755); err != nil {
		return err
	}
	for i, dir := range copied {
		duplicate := filepath.Join(stage.dir, fmt.Sprintf("copy-%d", i))
		if said, err := exec.Command("cp", "-a", dir, duplicate).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, said)
		}
	}
	if err := emptyPlaces(); err != nil {
		return err
	}
	for i, dir := range copied {
		if err := cover(dir, fmt.Sprintf("copy-%d", i)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll("/etc/pam_pkcs11"); err != nil { // of the copy: the product was never used here
		return err
	}
	if err := install(); err != nil {
		return err
	}
	stage.ca = testca.NewRoot("Example CA")
	return accounts()
}

// cover lays the copy of a directory over it.
func cover(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err // below a directory that is empty in this namespace
	}
	if err := unix.Mount(filepath.Join(stage.dir, name), dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("laying a copy over %s: %w", dir, err)
	}
	return nil
}

// emptyPlaces are directories of a machine on which the product was never used.
func emptyPlaces() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"/var/lib", "/var/cache"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return err
		}
	}
	return os.Mkdir("/run/pcscd", 0o755)
}

// install puts the module and the profiles where packages put them.
func install() error {
	places, _ := filepath.Glob("/usr/lib/*/security/pam_pkcs11.so")
	if len(places) != 1 {
		return errors.New("there is no pam_pkcs11.so to lay ours over: install the Debian package libpam-pkcs11")
	}
	module := filepath.Join(stage.dir, "pam_pkcs11.so")
	if said, err := exec.Command("cp", filepath.Join(build, "pam_pkcs11.so"), module).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, said)
	}
	if err := unix.Mount(module, places[0], "", unix.MS_BIND, ""); err != nil {
		return err
	}
	profiles, _ := filepath.Glob("../../packaging/debian/pam-configs/*")
	for _, profile := range profiles {
		if said, err := exec.Command("cp", profile, "/usr/share/pam-configs/").CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, said)
		}
	}
	// As the package's postinst.
	cmd := exec.Command("pam-auth-update", "--package")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	if said, err := cmd.CombinedOutput(); err != nil || bytes.Contains(said, []byte("Local modifications")) {
		return fmt.Errorf("pam-auth-update: %w: %s", err, said)
	}
	return nil
}

// accounts adds alice and bob, and gives them and root a password.
func accounts() error {
	hash, err := exec.Command("openssl", "passwd", "-6", password).Output()
	if err != nil {
		return fmt.Errorf("openssl (Debian package openssl): %w", err)
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	var lines strings.Builder
	for line := range strings.Lines(string(shadow)) {
		if strings.HasPrefix(line, "root:") {
			line = fmt.Sprintf("root:%s:20000:0:99999:7:::\n", strings.TrimSpace(string(hash)))
		}
		lines.WriteString(line)
	}

	var passwd, group strings.Builder
	for _, u := range []struct {
		name string
		id   int
	}{{"alice", aliceID}, {"bob", bobID}} {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/:/bin/sh\n", u.name, u.id, u.id)
		fmt.Fprintf(&lines, "%s:%s:20000:0:99999:7:::\n", u.name, strings.TrimSpace(string(hash)))
		fmt.Fprintf(&group, "%s:x:%d:\n", u.name, u.id)
	}
	sudoers := "Defaults env_reset, !lecture, passwd_tries=1, timestamp_timeout=0\nroot ALL=(ALL:ALL) ALL\nalice ALL=(ALL:ALL) ALL\n"
	return errors.Join(
		os.WriteFile("/etc/shadow", []byte(lines.String()), 0o640),
		appendTo("/etc/passwd", passwd.String()),
		appendTo("/etc/group", group.String()),
		os.WriteFile("/etc/sudoers", []byte(sudoers), 0o440))
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// withCard puts a card into the reader of this machine for one test, and returns what moves it.
func withCard(t *testing.T, cert *testca.Cert) *scene.Control {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "r")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"level tpdu"}
	if cert != nil {
		card, err := scene.PIVCard(dir, "9A", cert, cert.Key.Private)
		if err != nil {
			t.Fatal(err)
		}
		words = append(append(words, card...), "pin "+pin)
	}
	daemon, err := scene.StartReaders(scene.ReadersOptions{
		Program: filepath.Join(build, "pcscd-sim"), Dir: dir, Kind: "usb",
	}, scene.Reader{Name: "Gemalto PC Twin Reader", Words: words})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Stop() })

	const socket = "/run/pcscd/pcscd.comm"
	if err := os.WriteFile(socket, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(daemon.Socket, socket, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(socket, unix.MNT_DETACH) })

	control, err := daemon.Control(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = control.Close() })
	return control
}

// onTerminal starts a program on a terminal of its own.
func onTerminal(t *testing.T, id uint32, file string, args ...string) *program.Terminal {
	t.Helper()
	return program.OnTerminal(t, patience, id, []string{"LC_ALL=C"}, file, args...)
}

// ran is how the tool ended without a terminal.
type ran struct {
	code     int
	out, err string
}

// runTool runs the tool with no terminal, and a PIN at descriptor 3 where one is given.
func runTool(t *testing.T, pin string, args ...string) ran {
	t.Helper()
	return runToolIn(t, "C", pin, args...)
}

// runToolIn is runTool in a language.
func runToolIn(t *testing.T, locale, pin string, args ...string) ran {
	t.Helper()
	cmd := exec.Command(stage.tool, args...)
	if stage.under != "" {
		cmd = exec.Command(stage.under, append([]string{"-c", `"$0" "$@"; exit $?`, stage.tool}, args...)...)
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=" + locale}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if pin != "" {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(pin + "\n"); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		cmd.ExtraFiles = []*os.File{r}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{code: cmd.ProcessState.ExitCode(), out: out.String(), err: said.String()}
}

// tree describes all files below /etc, and what pam-auth-update remembers: kind, permissions, owner, time, link and
// content.
func tree(t *testing.T) string {
	t.Helper()
	script := `cd / && { find etc var/lib/pam var/cache/debconf -type f -printf '%y %m %U %G %T@ %p\n' -o -type d -printf '%y %m %U %G %p\n' -o -printf '%y %m %U %G %l %p\n'; ` +
		`find etc var/lib/pam var/cache/debconf -type f -exec sha256sum {} +; } | sort`
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// unchanged fails where the tree is another one than before.
func unchanged(t *testing.T, before string) {
	t.Helper()
	after := tree(t)
	if after == before {
		return
	}
	seen := make(map[string]int)
	for line := range strings.Lines(before) {
		seen[line]--
	}
	for line := range strings.Lines(after) {
		seen[line]++
	}
	for line, n := range seen {
		if n != 0 {
			t.Errorf("%+d %s", n, line)
		}
	}
}
