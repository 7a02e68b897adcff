//go:build machine

package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
)

// readerName begins the name of alice's reader.
const readerName = "Gemalto PC Twin Reader"

// startDaemon starts the machine's pcscd, whose it may be, and waits until it shows alice's card.
// The answer ends it.
func startDaemon(t *testing.T) (stop func()) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command("/usr/sbin/pcscd", "--foreground")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // Debian's says that it was ended
		timer.Stop()
	}
	var err error
	if slowtest.Poll(patience, pause, func() bool { err = seesCard(); return err == nil }) {
		return stop
	}
	stop()
	t.Fatalf("pcscd: %v\n%s", err, said.String())
	return nil
}

// seesCard reports nil when a daemon on the system's socket shows alice's card.
func seesCard() error {
	c, err := pcsc.NewContext(pcsc.NewClient(pcsc.DefaultSocket))
	if err != nil {
		return err
	}
	defer c.Release()
	names, err := c.ListReaders()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, readerName) {
			continue
		}
		states := []pcsc.ReaderState{{Reader: name}}
		if err := c.GetStatusChange(states, 0); err != nil {
			return err
		}
		if states[0].EventState&pcsc.StatePresent != 0 && len(states[0].ATR) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no card is seen in %q", names)
}

// isOurs reports whether /usr/sbin/pcscd is ours.
func isOurs() (bool, error) {
	theirs, err := os.ReadFile("/usr/sbin/pcscd")
	if err != nil {
		return false, err
	}
	return bytes.Contains(theirs, []byte("pam_pkcs11/pcsc/resmgr")), nil
}

// bundledProgram is the daemon that make install brings, and bundledSocket where it listens.
const (
	bundledProgram = "/usr/libexec/pam_pkcs11/pcscd"
	bundledSocket  = "/run/pam_pkcs11/pcscd.comm"
)

// processes returns the numbers of the processes of a program.
func processes(program string) (all []int, err error) {
	found, err := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range found {
		target, gone := os.Readlink(exe)
		if gone != nil || target != program {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
		if err != nil {
			return nil, err
		}
		all = append(all, pid)
	}
	return all, err
}

// noBundled: where a pcscd of the system answers, no other one is started.
func noBundled(t *testing.T) {
	if all, err := processes(bundledProgram); err != nil || len(all) > 0 {
		t.Errorf("bundled daemons were started: %v (%v)", all, err)
	}
}

// oneBundled: all logins have had one daemon. It is nobody's child, and its socket is for root
// alone.
func oneBundled(t *testing.T) {
	all, err := processes(bundledProgram)
	if err != nil || len(all) != 1 {
		t.Fatalf("the bundled daemons are %v (%v)", all, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", all[0]))
	if err != nil || !strings.Contains(string(status), "\nPPid:\t1\n") {
		t.Errorf("it is somebody's child (%v):\n%s", err, status)
	}
	info, err := os.Stat(bundledSocket)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode.Type() != fs.ModeSocket || mode.Perm()&0o077 != 0 {
		t.Errorf("%s has mode %v", bundledSocket, mode)
	}
}

// foreign are names of files of other programs for smart cards.
var foreign = regexp.MustCompile(`^(pcscd|libpcsclite.*|libpcscspy.*|libccid.*|.*ccid.*\.bundle` +
	`|opensc.*|libopensc.*|onepin-opensc.*|pkcs11-spy\.so|pkcs1[15]-tool|piv-tool` +
	`|libykpiv.*|libykcs11.*|libsofthsm.*|libvpcd.*|libifd.*)$`)

// removeForeign takes every other program for smart cards out of the machine, and every daemon but
// the bundled one, from where Debian has programs and libraries. It returns what it has taken.
func removeForeign() (gone []string, err error) {
	libraries, err := filepath.Glob("/usr/lib/*-linux-gnu*")
	dirs := append(libraries,
		"/usr/bin", "/usr/sbin", "/usr/lib/pcsc", "/usr/lib/softhsm", "/usr/libexec")
	for _, dir := range dirs {
		walked := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case !foreign.MatchString(d.Name()) || path == bundledProgram:
				return nil
			}

			gone = append(gone, path)
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		})
		err = errors.Join(err, walked)
	}
	return gone, err
}
