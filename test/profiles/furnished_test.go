//go:build linux && cgo

package profiles

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/rig"
	"pam_pkcs11/test/scene"
)

const (
	pin      = "271828"
	wrongPIN = "271829"
	password = "correct-horse"

	aliceID = 64001
	bobID   = 64002
	carolID = 64003
	glassID = 64004
)

// build is where `make build` puts the programs.
const build = "../../build"

// daemonSocket is where the built-in card looks for the daemon of the readers.
const daemonSocket = "/run/pcscd/pcscd.comm"

// configFile is the module's configuration.
const configFile = "/etc/pam_pkcs11/pam_pkcs11.conf"

// machine is a Debian machine with the packages installed, as all attempts see it. What is
// different for one attempt it lays over it for itself.
type machine struct {
	dir     string // of the test's own files; all may look into it
	modules string // the directory of libpam's modules
	without string // the same without ours
	build   string
	ca      *testca.CA
}

// furnish lays copies over the machine's files for one test: accounts, module and CA. debian
// comes after it.
func furnish(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may lay copies over /etc")
	}
	m := &machine{ca: testca.NewRoot("Example CA")}
	var err error
	if m.build, err = filepath.Abs(build); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(m.build, "pam_pkcs11.so")); err != nil {
		t.Fatalf("the module is not built (make build): %v", err)
	}
	if m.dir, err = os.MkdirTemp("", "pp"); err != nil { // short, as paths of sockets are
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(m.dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}

	m.copyOver(t, "/etc")
	if err := os.RemoveAll(filepath.Dir(configFile)); err != nil { // of the copy
		t.Fatal(err)
	}
	m.insertModule(t)
	m.accounts(t)
	ca := filepath.Join(filepath.Dir(configFile), "cacerts/ca.pem")
	if err := os.MkdirAll(filepath.Dir(ca), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, ca, string(m.ca.PEM()))
	put(t, configFile, "")
	return m
}

// copyOf copies a directory with owners and permissions.
func (m *machine) copyOf(t *testing.T, dir, name string) string {
	t.Helper()
	duplicate := filepath.Join(m.dir, name)
	if said, err := exec.Command("cp", "-a", dir, duplicate).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, said)
	}
	return duplicate
}

// copyOver lays a copy of a directory over it until the test ends.
func (m *machine) copyOver(t *testing.T, dir string) {
	t.Helper()
	duplicate := m.copyOf(t, dir, filepath.Base(dir))
	if err := unix.Mount(duplicate, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// insertModule puts the module that was built among libpam's.
func (m *machine) insertModule(t *testing.T) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/security/pam_unix.so")
	if len(found) != 1 {
		t.Fatalf("libpam's modules are in %q: install the Debian package libpam-modules", found)
	}
	m.modules = filepath.Dir(found[0])
	m.without = m.copyOf(t, m.modules, "without")
	// Debian's package may be installed here.
	if err := os.RemoveAll(filepath.Join(m.without, "pam_pkcs11.so")); err != nil {
		t.Fatal(err)
	}
	m.copyOver(t, m.modules)
	text := read(t, filepath.Join(m.build, "pam_pkcs11.so"))
	place := filepath.Join(m.modules, "pam_pkcs11.so")
	if err := os.RemoveAll(place); err != nil {
		t.Fatal(err)
	}
	put(t, place, text)
}

// accounts adds users with a password that is not the PIN, to the copies. alice is in the group
// smartcard, root and glass are in breakglass.
func (m *machine) accounts(t *testing.T) {
	t.Helper()
	cmd := exec.Command("openssl", "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(password)
	hash, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl (Debian package openssl): %v", err)
	}

	passwd, group := read(t, "/etc/passwd"), read(t, "/etc/group")
	shadow := fmt.Sprintf("root:%s:20000:0:99999:7:::\n", strings.TrimSpace(string(hash)))
	for _, u := range []struct {
		name string
		id   int
	}{{"alice", aliceID}, {"bob", bobID}, {"carol", carolID}, {"glass", glassID}} {
		passwd += fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", u.name, u.id, u.id)
		group += fmt.Sprintf("%s:x:%d:\n", u.name, u.id)
		shadow += fmt.Sprintf("%s:%s:20000:0:99999:7:::\n", u.name, strings.TrimSpace(string(hash)))
	}
	put(t, "/etc/passwd", passwd)
	put(t, "/etc/group", group+"smartcard:x:64010:alice\nbreakglass:x:64011:root,glass\n")
	put(t, "/etc/shadow", shadow)
}

// services writes the files of services that are not installed here, and shortens the wait of
// login after a refusal.
func (m *machine) services(t *testing.T) {
	t.Helper()
	const common = "@include common-auth\n@include common-account\n"
	put(t, pamDir+"/gdm-password", "auth requisite pam_nologin.so\n"+
		"auth required pam_succeed_if.so user != root quiet_success\n"+
		common+"@include common-session\n")
	if _, err := os.Stat("/usr/lib/pam.d/polkit-1"); err != nil {
		put(t, pamDir+"/polkit-1", common)
	}
	put(t, pamDir+"/cron", common+"@include common-session-noninteractive\n")
	login := read(t, pamDir+"/login")
	put(t, pamDir+"/login", strings.Replace(login, "delay=3000000", "delay=1000", 1))
}

// base is laid under every attempt: nothing of this machine's daemons is there, no other daemon
// can be started, and nothing stays behind.
func (m *machine) base() []laid {
	return []laid{
		{"", "/run"}, {"", "/var/lib"}, {"", "/var/cache"}, {"", "/var/log"},
		{os.DevNull, filepath.Join(m.build, "pcscd")},
	}
}

// reader is the daemon of a reader with one card, until the test ends.
type reader struct {
	*scene.Control
	socket string
}

// newReader starts the daemon; words are those of the card (cmd/pcscd-sim), nil where the reader
// is empty.
func (m *machine) newReader(t *testing.T, words func(dir string) ([]string, error)) *reader {
	t.Helper()
	dir, err := os.MkdirTemp(m.dir, "r")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	card := []string{"level short"}
	if words != nil {
		more, err := words(dir)
		if err != nil {
			t.Fatal(err)
		}
		card = append(append(card, more...), "pin "+pin)
	}
	rules := filepath.Join(dir, "rules")
	put(t, rules, "allow = all\n") // a locker's user has a session here, and there is no logind
	daemon, err := scene.StartReaders(scene.ReadersOptions{
		Program: filepath.Join(m.build, "pcscd-sim"),
		Dir:     dir,
		Kind:    "usb",
		Flags:   []string{"--config", rules},
	}, scene.Reader{Name: "Gemalto PC Twin Reader", Words: card})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Stop() })
	control, err := daemon.Control(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = control.Close() })
	if words != nil {
		if err := rig.AwaitCard(daemon.Socket); err != nil {
			t.Fatal(err)
		}
	}
	return &reader{Control: control, socket: daemon.Socket}
}

// sent returns how many PINs have reached the card so far; an empty reader has got none.
func (r *reader) sent() int {
	verifies, _, _, err := r.Count()
	if err != nil {
		return 0
	}
	return verifies
}
