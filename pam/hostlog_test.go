//go:build cgo

package main

import (
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// hostLog is hostlog.c in a program of its own, whose three logs are in dir.
type hostLog struct {
	program string
	dir     string
}

func newHostLog(t *testing.T) hostLog {
	t.Helper()
	h := hostLog{
		dir:     t.TempDir(),
		program: filepath.Join(t.TempDir(), "hostlog"),
	}
	args := append([]string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		`-DHOSTLOG_JOURNAL="` + h.path("journal") + `"`, `-DHOSTLOG_SYSLOG="` + h.path("syslog") + `"`,
		`-DHOSTLOG_LAST="` + h.path("run/last") + `"`, "-o", h.program, "testdata/hostlog.c"},
		hostSources(t, "hostlog.c", "settings.c")...)
	out, err := exec.Command("gcc", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("the host's log needs the Debian packages gcc and libpam0g-dev: %v\n%s", err, out)
	}
	return h
}

func (h hostLog) path(name string) string { return filepath.Join(h.dir, name) }

// write has one line written, and returns what went to pam_syslog.
func (h hostLog) write(t *testing.T, user, reason, text string) string {
	t.Helper()
	c := exec.Command(h.program, "auth", reason, text)
	c.Env = []string{"TEST_SERVICE=sshd", "TEST_USER=" + user}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func listen(t *testing.T, network, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// journalFields reads a datagram of journald's native protocol, each field in the form with a length.
func journalFields(t *testing.T, data []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(data) > 0 {
		name, rest, ok := strings.Cut(string(data), "\n")
		if !ok || len(rest) < 8 {
			t.Fatalf("%q is no field", data)
		}
		n := binary.LittleEndian.Uint64([]byte(rest))
		rest = rest[8:]
		if uint64(len(rest)) <= n || rest[n] != '\n' {
			t.Fatalf("%s: a length of %d of %d octets", name, n, len(rest))
		}
		fields[name] = rest[:n]
		data = []byte(rest[n+1:])
	}
	return fields
}

// TestHostLogJournal: where journald runs, the line of a worker that gave no verdict has fields as the worker's own.
func TestHostLogJournal(t *testing.T) {
	h := newHostLog(t)
	journal := listen(t, "unixgram", h.path("journal"))
	evil := "alice\nPAM_PKCS11_REASON=success"
	if out := h.write(t, evil, "worker_crashed", "no answer from the worker: it crashed"); out != "" {
		t.Errorf("pam_syslog has it too: %q", out)
	}

	data := make([]byte, 1<<16)
	if err := journal.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := journal.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	got := journalFields(t, data[:n])
	for name, want := range map[string]string{
		"MESSAGE":            "pam_pkcs11(sshd:auth): no answer from the worker: it crashed",
		"PRIORITY":           "3",
		"SYSLOG_FACILITY":    "10",
		"SYSLOG_IDENTIFIER":  "sshd",
		"PAM_PKCS11_SERVICE": "sshd",
		"PAM_PKCS11_KIND":    "auth",
		"PAM_PKCS11_USER":    evil,
		"PAM_PKCS11_REASON":  "worker_crashed",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}

	long := strings.Repeat("u", 10000)
	h.write(t, long, "", "text")
	if n, err = journal.Read(data); err != nil {
		t.Fatal(err)
	}
	got = journalFields(t, data[:n])
	if _, there := got["PAM_PKCS11_USER"]; there || got["MESSAGE"] == "" {
		t.Errorf("a name of 10000 octets: %v", got)
	}
}

// TestHostLogSyslog: without journald pam_syslog has it, and no file where somebody takes that.
func TestHostLogSyslog(t *testing.T) {
	h := newHostLog(t)
	listen(t, "unixgram", h.path("syslog"))
	if out := h.write(t, "alice", "deadline", "100% slow"); out != "3 100% slow reason=deadline" {
		t.Errorf("pam_syslog got %q", out)
	}
	if _, err := os.Lstat(h.path("run")); !os.IsNotExist(err) {
		t.Errorf("there is a file of last lines: %v", err)
	}
}

// TestHostLogLast: where nobody takes the line, root's is kept, and replaces the one before.
func TestHostLogLast(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the file is root's")
	}
	h := newHostLog(t)
	h.write(t, "alice", "worker_killed", "the first")
	h.write(t, "alice", "worker_killed", "the second")

	text, err := os.ReadFile(h.path("run/last"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ sshd\[\d+\]: pam_pkcs11\(sshd:auth\): the second reason=worker_killed\n$`)
	if !want.Match(text) {
		t.Errorf("%q", text)
	}
	for name, mode := range map[string]os.FileMode{"run": 0o700, "run/last": 0o600} {
		if info, err := os.Lstat(h.path(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	if entries, _ := os.ReadDir(h.path("run")); len(entries) != 1 {
		t.Errorf("%v, want the file alone", entries)
	}
}

// TestHostLogLastOfAnother: nothing is written where somebody else may put files, or through a link.
func TestHostLogLastOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the file is root's")
	}
	for name, prepare := range map[string]func(h hostLog) error{
		"writable": func(h hostLog) error {
			if err := os.Mkdir(h.path("run"), 0o700); err != nil {
				return err
			}
			return os.Chmod(h.path("run"), 0o777)
		},
		"a link": func(h hostLog) error { return os.Symlink(h.dir, h.path("run")) },
		"another's": func(h hostLog) error {
			if err := os.Mkdir(h.path("run"), 0o700); err != nil {
				return err
			}
			return os.Chown(h.path("run"), 65534, 65534)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostLog(t)
			if err := prepare(h); err != nil {
				t.Fatal(err)
			}
			h.write(t, "alice", "worker_killed", "text")
			if _, err := os.Lstat(h.path("run/last")); !os.IsNotExist(err) {
				t.Errorf("it was written: %v", err)
			}
		})
	}
}
