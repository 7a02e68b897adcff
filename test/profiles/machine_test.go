//go:build linux

package profiles

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	inside    = "PAM_PKCS11_TEST_PROFILES" // is set in the program that has the namespace
	packaged  = "../../packaging/debian/pam-configs"
	updater   = "/usr/sbin/pam-auth-update"
	pamDir    = "/etc/pam.d"
	configDir = "/usr/share/pam-configs"
)

// written are the directories that pam-auth-update reads and writes.
var written = []string{pamDir, configDir, "/var/lib/pam", "/var/cache/debconf"}

func TestMain(m *testing.M) {
	if text := os.Getenv(attemptVariable); text != "" {
		if err := makeAttempt(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// debian lays copies of what pam-auth-update writes over it for one test, with Debian's own profiles enabled and those of
// the packages there to be enabled.
func debian(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may lay copies over /etc/pam.d")
	}
	if _, err := os.Stat(updater); err != nil {
		t.Fatal("pam-auth-update is missing: install the Debian package libpam-runtime")
	}

	copies := t.TempDir()
	for _, dir := range written {
		copied := filepath.Join(copies, strings.ReplaceAll(dir, "/", "-"))
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(copied, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.CopyFS(configDir, os.DirFS(packaged)); err != nil {
		t.Fatal(err)
	}
	put(t, pamDir+"/locker", "@include common-auth\n@include common-account\n")
	update(t, "--force", "--package")
}

// update runs pam-auth-update, and returns what it says.
func update(t *testing.T, options ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), updater, options...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("pam-auth-update %q: %v: %s", options, err, said.String())
	}
	return said.String()
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
