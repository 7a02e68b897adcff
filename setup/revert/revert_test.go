package revert

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/setup/undo"
)

// pendingSetup is a machine with a setup that has written a file and waits for its confirmation.
func pendingSetup(t *testing.T, after time.Duration) (*undo.Store, *reverter) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/pam.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/pam.d/sudo"), []byte("@include common-auth\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := undo.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	store := &undo.Store{Tree: tree}
	record, err := store.Begin(undo.Manifest{RevertAt: time.Now().Add(after)}, []undo.Path{{Name: "/etc/pam.d/sudo", Role: undo.PAM}})
	if err == nil {
		err = tree.Write("/etc/pam.d/sudo", []byte("auth sufficient pam_pkcs11.so\n@include common-auth\n"), undo.State{Mode: 0o644})
	}
	if err == nil {
		err = record.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return store, &reverter{
		open:   func() (*undo.Store, func(), error) { return store, func() {}, nil },
		every:  time.Millisecond,
		retry:  time.Millisecond,
		insist: time.Minute,
	}
}

// hasLine reports whether the setup is in force.
func hasLine(t *testing.T, store *undo.Store) bool {
	t.Helper()
	text, err := store.Tree.ReadFile("/etc/pam.d/sudo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "pam_pkcs11.so")
}

// TestRevert: what nobody confirms is taken back, by whichever clock comes first, and once.
func TestRevert(t *testing.T) {
	for name, tt := range map[string]struct{ wait, after time.Duration }{
		"time is over":                 {0, time.Hour},
		"the clock has been set ahead": {time.Hour, -time.Minute},
		"the clock has been set back":  {20 * time.Millisecond, time.Hour},
	} {
		store, r := pendingSetup(t, tt.after)
		result, err := r.run(t.Context(), 1, tt.wait)
		if err != nil || result == nil || !result.Clean() || hasLine(t, store) {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		if m, err := store.Get(1); err != nil || m.Stage != undo.Undone || m.Pending() {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if result, err := r.run(t.Context(), 1, tt.wait); err != nil || result != nil {
			t.Errorf("%s: once more: %+v, %v", name, result, err)
		}
	}
}

// TestRevertIsOff: what was confirmed stays, also while the process waits already.
func TestRevertIsOff(t *testing.T) {
	store, r := pendingSetup(t, time.Hour)
	type answer struct {
		result *undo.Result
		err    error
	}
	ended := make(chan answer)
	go func() {
		result, err := r.run(t.Context(), 1, time.Hour)
		ended <- answer{result, err}
	}()
	if _, err := store.Keep(1); err != nil {
		t.Fatal(err)
	}
	if a := <-ended; a.err != nil || a.result != nil || !hasLine(t, store) {
		t.Errorf("%+v, %v", a.result, a.err)
	}
}

// TestRevertWaitsForOthers: while another setup or undo is at work nothing is taken back, and then it is.
func TestRevertWaitsForOthers(t *testing.T) {
	store, r := pendingSetup(t, 0)
	unlock, err := store.Lock()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := r.run(t.Context(), 1, 0)
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond) // nothing is to happen, which has no sign
	if !hasLine(t, store) {
		t.Error("it was taken back while another was at work")
	}
	unlock()
	if err := <-ended; err != nil || hasLine(t, store) {
		t.Error(err)
	}

	_, short := pendingSetup(t, 0)
	short.insist = time.Millisecond
	busy, _, _ := short.open()
	if unlock, err = busy.Lock(); err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := short.run(t.Context(), 1, 0); !errors.Is(err, undo.ErrBusy) {
		t.Errorf("it insists without end: %v", err)
	}
}

// TestTimer: where systemd runs its timer waits, with the record's number.
func TestTimer(t *testing.T) {
	dir := t.TempDir()
	w := waiting{running: dir, systemdRun: standIn(t, dir, "systemd-run", 0), systemctl: standIn(t, dir, "systemctl", 0)}
	by, err := w.start(t.Context(), 7, 90*time.Second)
	if err != nil || by != bySystemd {
		t.Fatalf("%s, %v", by, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := calls(t, dir, "systemd-run")
	for _, want := range []string{"--unit=pam-pkcs11-revert-7", "--on-active=90", "--", self, revertWord + "\n7\n0"} {
		if !strings.Contains(said, want+"\n") {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	w.stop(t.Context(), by, 7)
	if got := calls(t, dir, "systemctl"); got != "stop\npam-pkcs11-revert-7.timer\n" {
		t.Errorf("%q", got)
	}
}

// standIn is a small program in the place of one that this machine does not have: it notes its
// arguments, one a line, and ends with a status.
func standIn(t *testing.T, dir, name string, status int, more ...string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >> '" + file + ".calls'\n" + strings.Join(more, "\n") +
		"\nexit " + string(rune('0'+status)) + "\n"
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// calls are the arguments that a stand-in was called with.
func calls(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".calls"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
