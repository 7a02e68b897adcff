//go:build hosts && linux && cgo

package hosts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

const (
	pin      = "271828"
	wrongPIN = "271829"

	aliceID = 64001
	bobID   = 64002
	carolID = 64003
	glassID = 64004

	// inside tells the second run of this program that it is in its own namespaces.
	inside = "PAM_PKCS11_TEST_HOSTS_INSIDE"
)

// machine is what the namespaces look like to the programs under test.
type machine struct {
	*scene.Scene
	alice  *scene.Card
	syslog *syslog
	debian string // directory with a copy of Debian's own service files
}

// stage is set up once by TestMain and only read by the tests.
var stage *machine

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(inside) == "" {
			return again()
		}
		s, err := scene.New("../../build")
		code := 1
		if err == nil {
			stage = &machine{Scene: s}
			if err = stage.furnish(); err == nil {
				code = m.Run()
			}
			err = errors.Join(err, s.Close())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "test-hosts:", err)
			return 1
		}
		return code
	}())
}

// again runs this program once more, in mount and network namespaces of its own.
func again() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "test-hosts: only root can make the namespaces in which sshd, sudo, su and login run")
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-hosts:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1", "GODEBUG=rsa1024min=0") // for the card with a weak key
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "test-hosts:", err)
		return 1
	}
	return 0
}

// furnish lays the copies over the machine's files and makes the cards.
func (m *machine) furnish() error {
	if said, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip (Debian package iproute2): %w: %s", err, said)
	}
	for _, dir := range []string{"/run", "/var/log"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mounting on %s: %w", dir, err)
		}
	}
	if err := os.Mkdir("/run/sshd", 0o755); err != nil {
		return err
	}
	if err := m.openSyslog(); err != nil {
		return fmt.Errorf("a /dev with a log socket: %w", err)
	}
	if err := m.keepDebian(); err != nil {
		return err
	}
	if err := m.accounts(); err != nil {
		return err
	}
	return m.cards()
}

// accounts adds alice, bob, carol and glass, whose passwords are the PIN, so that pam_unix can be watched on the same
// way; alice is a member of the group smartcard, root and glass of the group breakglass.
func (m *machine) accounts() error {
	hash, err := exec.Command("openssl", "passwd", "-6", pin).Output()
	if err != nil {
		return fmt.Errorf("openssl (Debian package openssl): %w", err)
	}
	var passwd, shadow, group strings.Builder
	for _, u := range []struct {
		name string
		id   int
	}{{"alice", aliceID}, {"bob", bobID}, {"carol", carolID}, {"glass", glassID}} {
		home := filepath.Join(m.Dir, "home-"+u.name)
		if err := os.Mkdir(home, 0o755); err != nil {
			return err
		}
		if err := os.Chown(home, u.id, u.id); err != nil {
			return err
		}
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", u.name, u.id, u.id, home)
		fmt.Fprintf(&shadow, "%s:%s:20000:0:99999:7:::\n", u.name, strings.TrimSpace(string(hash)))
		fmt.Fprintf(&group, "%s:x:%d:\n", u.name, u.id)
	}
	group.WriteString("smartcard:x:64010:alice\nbreakglass:x:64011:root,glass\n")
	sudoers := "Defaults env_reset, !lecture, passwd_tries=1, timestamp_timeout=0\nroot ALL=(ALL:ALL) ALL\nalice ALL=(ALL:ALL) ALL\n"
	for _, f := range []struct {
		path, added string
		keep        bool
	}{
		{"/etc/passwd", passwd.String(), true}, {"/etc/shadow", shadow.String(), true},
		{"/etc/group", group.String(), true}, {"/etc/sudoers", sudoers, false},
	} {
		if err := m.cover(f.path, f.added, f.keep); err != nil {
			return err
		}
	}
	return unix.Mount(m.ServiceDir(), "/etc/pam.d", "", unix.MS_BIND, "")
}

// cover bind-mounts a copy of a file, with text added, over the file; without keep only the text is in it.
func (m *machine) cover(path, added string, keep bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var text []byte
	if keep {
		if text, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	duplicate := filepath.Join(m.Dir, "etc-"+filepath.Base(path))
	if err := os.WriteFile(duplicate, append(text, added...), 0o600); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(duplicate, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	if err := os.Chmod(duplicate, info.Mode().Perm()); err != nil {
		return err
	}
	return unix.Mount(duplicate, path, "", unix.MS_BIND, "")
}

// cards makes alice's card and puts it into the reader of every service.
func (m *machine) cards() error {
	key := testca.RSA(2048, "alice")
	card, err := m.NewCard("alice", "alice", pin, m.CA.Leaf("alice", testca.WithKey(key)), key)
	if err != nil {
		return err
	}
	m.alice = card
	if err := m.Service("other", "required pam_deny.so"); err != nil {
		return err
	}
	return m.insert(card)
}

// services are the PAM services of the programs under test, and how each treats remote logins.
var services = []string{"sshd", "sudo", "su", "login"}

// insert writes the configuration for a card and the services that use it.
func (m *machine) insert(card *scene.Card, extra ...string) error {
	for _, name := range services {
		global := append([]string{"use_mappers = pwent, cn;"}, extra...)
		if name == "sshd" {
			global = append(global, "remote_login = allow;")
		}
		conf, err := m.Config(name, card, global, nil)
		if err != nil {
			return err
		}
		if err := m.stack(name, "required MODULE config_file="+conf); err != nil {
			return err
		}
	}
	return nil
}

// stack writes one service; su asks root nothing, as Debian's does.
func (m *machine) stack(name string, auth ...string) error {
	if name == "su" {
		auth = append([]string{"sufficient pam_rootok.so"}, auth...)
	}
	return m.Service(name, auth...)
}

// withCard puts another card into the reader for one test.
func withCard(t *testing.T, card *scene.Card, extra ...string) {
	t.Helper()
	if err := stage.insert(card, extra...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stage.insert(stage.alice); err != nil {
			t.Error(err)
		}
	})
}
