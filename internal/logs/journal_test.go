package logs

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fieldsOf decodes a datagram of the native protocol, as journald does.
func fieldsOf(t testing.TB, datagram string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for datagram != "" {
		name, rest, found := strings.Cut(datagram, "\n")
		if !found || len(rest) < 8 {
			t.Fatalf("field cut short: %q", datagram)
		}
		n := binary.LittleEndian.Uint64([]byte(rest))
		if uint64(len(rest)) < 8+n+1 || rest[8+n] != '\n' {
			t.Fatalf("field %s has the wrong length %d", name, n)
		}
		fields[name] = rest[8 : 8+n]
		datagram = rest[8+n+1:]
	}
	return fields
}

func TestJournalFields(t *testing.T) {
	path, conn := fakeLog(t)
	l := slog.New(New(Config{Service: "sudo", Kind: "auth", PID: 7, Path: filepath.Join(t.TempDir(), "none"), Journal: path}))
	l.Warn("login refused", "user", "alice", "reason", "pin_incorrect", "token", "a\nMESSAGE=forged", "rhost", "")
	got := fieldsOf(t, receive(t, conn))
	for name, want := range map[string]string{
		"PRIORITY": "4", "SYSLOG_FACILITY": "10", "SYSLOG_IDENTIFIER": "sudo", "SYSLOG_PID": "7",
		"PAM_PKCS11_SERVICE": "sudo", "PAM_PKCS11_USER": "alice", "PAM_PKCS11_REASON": "pin_incorrect",
		"PAM_PKCS11_TOKEN": "a\nMESSAGE=forged",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasPrefix(got["MESSAGE"], "pam_pkcs11(sudo:auth): login refused user=alice reason=pin_incorrect") {
		t.Errorf("MESSAGE %q", got["MESSAGE"])
	}
}

// TestJournalIsNotThere: syslog has the line.
func TestJournalIsNotThere(t *testing.T) {
	path, conn := fakeLog(t)
	l := slog.New(New(Config{Service: "s", Kind: "auth", Path: path, Journal: filepath.Join(t.TempDir(), "none")}))
	l.Info("one")
	if got := receive(t, conn); !strings.HasSuffix(got, "one") {
		t.Errorf("got %q", got)
	}
}

// TestLastRefusalIsKept where neither log runs, for its owner alone.
func TestLastRefusalIsKept(t *testing.T) {
	dir := t.TempDir()
	none, last := filepath.Join(dir, "none"), filepath.Join(dir, "run", "last")
	open := func() *slog.Logger {
		return slog.New(New(Config{Service: "s", Kind: "auth", Path: none, Journal: none, Last: last}))
	}
	l := open()
	l.Info("not worth keeping")
	l.Warn("login refused", "reason", "no_card")
	l.Error("another")
	text, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(last)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := string(text); strings.Count(got, "\n") != 2 || !strings.Contains(got, "reason=no_card") || strings.Contains(got, "worth") {
		t.Errorf("kept %q", got)
	}
	open().Warn("the next request")
	if text, err = os.ReadFile(last); err != nil || strings.Contains(string(text), "no_card") {
		t.Errorf("kept %q, %v", text, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "run", ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// FuzzJournal: no text of a card can make a field of its own.
func FuzzJournal(f *testing.F) {
	f.Add("message", "key", "value")
	f.Add("a\nb", "MESSAGE", "\nPRIORITY=0\n")
	f.Fuzz(func(t *testing.T, message, key, value string) {
		j := &journal{names: names{service: "s", kind: "auth", pid: 1}}
		var l line
		l.message(message)
		l.attr("", slog.String(key, value))
		got := fieldsOf(t, string(j.encode(slog.LevelInfo, l.finish(), l.fields)))
		for name := range got {
			known := name == "MESSAGE" || name == "PRIORITY" || strings.HasPrefix(name, "SYSLOG_") || strings.HasPrefix(name, fieldPrefix)
			if !known || len(name) > 64 {
				t.Fatalf("field %q", name)
			}
		}
		if got["PRIORITY"] != "6" || len(got) > 9 {
			t.Fatalf("%q", got)
		}
	})
}
