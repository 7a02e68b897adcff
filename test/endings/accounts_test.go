//go:build cgo

package endings

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// furnished tells the second run of the program that it is in a mount namespace of its own.
const furnished = "PAM_PKCS11_TEST_ENDINGS_INSIDE"

// accounts is all that the rows see of /etc/passwd: none of the names on the cards but root's and nobody's. What an
// account of the machine is called, alice or not, changes no ending.
const accounts = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`

// services keeps the C library to files. A cache daemon, which it would ask first, is hidden by hideCaches.
const services = "passwd: files\ngroup: files\nshadow: files\ninitgroups: files\nhosts: files dns\n"

// withOwnAccounts runs the program once more in a mount namespace of its own, with the user database above. It returns
// that run's exit code and done; in the second run it returns when all is there. Who is not root keeps the machine's
// accounts.
func withOwnAccounts() (code int, done bool, err error) {
	if os.Getenv(furnished) != "" {
		return 0, false, furnish()
	}
	if os.Geteuid() != 0 {
		return 0, false, nil
	}

	self, err := os.Executable()
	if err != nil {
		return 1, true, err
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the child
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), furnished+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}

	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), true, nil
	}
	return 0, true, err
}

// furnish lays the user database over the machine's, in this namespace alone.
func furnish() error {
	if err := os.Unsetenv(furnished); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pam_pkcs11-accounts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // what is mounted stays

	for path, text := range map[string]string{"/etc/passwd": accounts, "/etc/nsswitch.conf": services} {
		file := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("laying %s over the machine's: %w", path, err)
		}
	}
	return hideCaches()
}

// hideCaches lays an empty directory over the sockets of the daemons that the C library asks for accounts by itself.
func hideCaches() error {
	for _, path := range []string{"/run/nscd", "/run/systemd/userdb"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("hiding %s: %w", path, err)
		}
	}
	return nil
}

// TestAccountsAreOurs: a name on a card is no account of the machine's, wherever the rows are played by root.
func TestAccountsAreOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can lay a user database over the machine's")
	}

	for name, want := range map[string]bool{"alice": false, "bob": false, "somebody": false, "root": true, "nobody": true} {
		if err := exec.Command("getent", "passwd", name).Run(); (err == nil) != want {
			t.Errorf("%s: %v, want an account: %v", name, err, want)
		}
	}
}
