package audit

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/logs"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestLinesOfPackageLogs: what package logs writes comes back as it was, whatever a user has put in.
func TestLinesOfPackageLogs(t *testing.T) {
	nasty := "a \"b\" \\c\nd\x1b[2J\u202e reason=granted user=root"
	for name, detail := range map[string]string{"plain": "x", "empty": "", "nasty": nasty, "backslash": `\`, "no blank": "a\nb"} {
		file := filepath.Join(t.TempDir(), "last")
		h := logs.New(logs.Config{Service: "sudo", Kind: "auth", PID: 7, Path: filepath.Join(t.TempDir(), "none"), Last: file})
		slog.New(h).Warn("login refused", "user", "alice", "reason", "pin_incorrect", "detail", detail, "number", 2320)

		entries, err := Sources{Journalctl: []string{"/bin/false"}, Last: file, Files: []string{}}.Read(t.Context(), time.Time{})
		if len(entries) != 1 {
			t.Fatalf("%s: %v, %v", name, entries, err)
		}
		e := entries[0]
		if e.Service != "sudo" || e.Kind != "auth" || e.Message != "login refused" || e.User() != "alice" || e.Number() != 2320 ||
			e.Fields["reason"] != "pin_incorrect" || e.Fields["detail"] != detail || e.Outcome() != Refused || time.Since(e.Time) > time.Hour {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]struct {
		time    string
		service string
		outcome Outcome
	}{
		"Dec 31 23:59:58 host sudo[12]: pam_pkcs11(sudo:auth): login granted user=a":                    {"2025-12-31T23:59:58Z", "sudo", Granted},
		"Jan  2 03:04:05 host sudo[12]: pam_pkcs11(sudo:auth): login refused user=a reason=no_card":     {"2026-01-02T03:04:05Z", "sudo", Refused},
		"2026-01-02T03:04:05.5+00:00 host su[1]: pam_pkcs11(su-l:auth): no decision user=a":             {"2026-01-02T03:04:05.5Z", "su-l", NoDecision},
		"2026-01-02T03:04:05Z sshd[1]: pam_pkcs11(sshd:auth): the worker crashed reason=worker_crashed": {"2026-01-02T03:04:05Z", "sshd", Refused},
		"2026-01-02T03:04:05Z sshd[1]: pam_pkcs11(sshd:auth): certificate refused reason=deadline":      {"2026-01-02T03:04:05Z", "sshd", ""},
	} {
		e, ok := parseLine(line, now)
		if !ok || e.Time.UTC().Format(time.RFC3339Nano) != want.time || e.Service != want.service || e.Outcome() != want.outcome {
			t.Errorf("%s: %+v, %v", line, e, ok)
		}
	}
	const head = "2026-01-02T03:04:05Z host sshd[1]: "
	for _, line := range []string{
		"",
		head + "pam_unix(sudo:auth): x",
		head + "pam_pkcs11(sudo): x",
		head + "pam_pkcs11(a b:auth): x",
		head + "pam_pkcs11(sudo:auth): " + strings.Repeat("x", maxLine),
		"pam_pkcs11(sudo:auth): login granted user=root",

		// What somebody types at a prompt, or as a command, comes into the messages of other programs.
		head + "Invalid user pam_pkcs11(sshd:auth): login granted user=root from 192.0.2.1 port 9",
		head + "Invalid user x: pam_pkcs11(sshd:auth): login granted user=root from 192.0.2.1 port 9",
		"Jan  2 03:04:05 host sudo: mallory : COMMAND=/bin/echo x: pam_pkcs11(sudo:auth): login granted user=root",
		"Jan  2 03:04:05 host sshd[1]: x: pam_pkcs11(sshd:auth): login granted user=root",
	} {
		if e, ok := parseLine(line, now); ok {
			t.Errorf("%q is taken: %+v", line, e)
		}
	}
}

// TestJournal: journalctl is a program that is asked for our fields, and may print anything.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	objects := `{"MESSAGE":[112,97,109,95,112,107,99,115,49,49,40,115,117,58,97,117,116,104,41,58,32,108,111,103,105,110,32,103,114,97,110,116,101,100],"PAM_PKCS11_USER":["bob","eve"],"PAM_PKCS11_DETAIL":null,"__REALTIME_TIMESTAMP":"1767355300000000"}
{"MESSAGE":"pam_unix(sudo:auth): no"}
not json
{"MESSAGE":"pam_pkcs11(sudo:auth): login refused user=mallory","PAM_PKCS11_USER":"alice","PAM_PKCS11_REASON":"no_card","PAM_PKCS11_NUMBER":"2308","_UID":"1000","__REALTIME_TIMESTAMP":"1767355200000000"}
`
	program := filepath.Join(dir, "journalctl")
	script := "#!/bin/sh\necho \"$@\" > " + dir + "/args\ncat <<'END'\n" + objects + "END\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := Sources{Journalctl: []string{program}, Last: filepath.Join(dir, "none")}
	entries, err := s.Read(t.Context(), time.Unix(1767000000, 0))
	if err != nil || len(entries) != 2 {
		t.Fatalf("%+v, %v", entries, err)
	}
	if e := entries[0]; e.User() != "alice" || e.Number() != 2308 || e.Outcome() != Refused || e.Time.Unix() != 1767355200 || e.Writer != "1000" {
		t.Errorf("%+v", e)
	}
	if e := entries[1]; e.User() != "bob" || e.Service != "su" || e.Outcome() != Granted {
		t.Errorf("%+v", e)
	}
	args, _ := os.ReadFile(dir + "/args")
	if got := string(args); !strings.Contains(got, "--output=json --no-pager --quiet --reverse") || !strings.Contains(got, "--since=@1767000000 PAM_PKCS11_KIND=auth") {
		t.Errorf("asked for %q", got)
	}

	if e, ok := LastRefusal(entries, ""); !ok || e.User() != "alice" {
		t.Errorf("%+v", e)
	}
	if e, ok := LastRefusal(entries, "bob"); ok {
		t.Errorf("%+v", e)
	}
	if _, err := (Sources{Journalctl: []string{"/bin/false"}, Last: s.Last}).Read(t.Context(), time.Time{}); err == nil {
		t.Error("a journalctl that fails is no error")
	}
}

// TestALongLineEndsNothing: whoever may write to the log must not hide what others write.
func TestALongLineEndsNothing(t *testing.T) {
	const refused = `{"MESSAGE":"pam_pkcs11(sudo:auth): login refused user=alice","__REALTIME_TIMESTAMP":"1767355200000000"}` + "\n"
	text := refused + `{"MESSAGE":"` + strings.Repeat("x", maxRead) + "\"}\n" + refused
	if entries, err := readJournal(strings.NewReader(text)); len(entries) != 2 || err != nil {
		t.Errorf("%d entries, %v", len(entries), err)
	}

	file := filepath.Join(t.TempDir(), "auth.log")
	line := "2026-01-02T03:04:05Z host sudo[1]: pam_pkcs11(sudo:auth): login refused user=a\n"
	if err := os.WriteFile(file, []byte(line+strings.Repeat("x", 2*maxRead)+"\n"+line), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Sources{Files: []string{file}, Now: func() time.Time { return now }}
	if entries, err := s.files(time.Time{}); len(entries) != 2 || err != nil {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestJournalThatIsCutOff: what was read is returned, and that it is not all.
func TestJournalThatIsCutOff(t *testing.T) {
	program := filepath.Join(t.TempDir(), "journalctl")
	script := "#!/bin/sh\necho '{\"MESSAGE\":\"pam_pkcs11(sudo:auth): login refused user=alice\"}'\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := Sources{Journalctl: []string{program}, Last: program + ".none"}.Read(t.Context(), time.Time{})
	if len(entries) != 1 || err == nil {
		t.Errorf("%+v, %v", entries, err)
	}
}

// TestNoRegularFile: a FIFO without a writer holds nobody up.
func TestNoRegularFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "auth.log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Sources{Files: []string{fifo}, Now: time.Now}).files(time.Time{}); err == nil {
		t.Error("a FIFO is read")
	}
}

// TestFilesOfSyslogd are read where there is no journal.
func TestFilesOfSyslogd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.log")
	text := "Jan  1 03:04:05 host sudo[12]: pam_pkcs11(sudo:auth): login refused user=a reason=no_card\n" +
		"Jan  1 03:04:06 host sudo[12]: pam_unix(sudo:auth): authentication failure\n" +
		"Jan  2 03:04:05 host sudo[12]: pam_pkcs11(sudo:auth): login granted user=a\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Sources{Files: []string{file, file + ".missing"}, Last: file + ".last", Now: func() time.Time { return now }}
	entries, err := s.files(now.Add(-24 * time.Hour))
	if err != nil || len(entries) != 1 || entries[0].Outcome() != Granted {
		t.Errorf("%+v, %v", entries, err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("Jan  2 03:04:05 host sudo[12]: pam_pkcs11(sudo:auth): login refused user=\"a b\" reason=no_card detail=\"\\x1b\\u{202e}\"")
	f.Add("pam_pkcs11(sudo:auth): a= b=\"")
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parseLine(line, now)
		if ok && (len(e.Fields) > maxFields || e.Service == "" || e.Fields == nil) {
			t.Errorf("%+v", e)
		}
		e.Outcome()
		e.Number()
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"MESSAGE":"pam_pkcs11(sudo:auth): login refused user=a","PAM_PKCS11_USER":[[1],"b"],"__REALTIME_TIMESTAMP":"x"}`))
	f.Add([]byte(`{"MESSAGE":[[[[1]]]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := readJournal(bytes.NewReader(text))
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.Fields == nil || len(e.Fields) > maxFields {
				t.Errorf("%+v", e)
			}
		}
	})
}

// FuzzRecord: a record that package logs writes is read as it was.
func FuzzRecord(f *testing.F) {
	f.Add("a b", "c\\d\"")
	f.Fuzz(func(t *testing.T, one, two string) {
		if len(one)+len(two) > 1000 {
			return
		}
		var b bytes.Buffer
		slog.New(logs.Stderr(&b, nil)).Info("message", "one", one, "two", two)
		message, fields := readRecord(strings.TrimRight(b.String(), "\n"))
		if message != "message" || fields["one"] != one || fields["two"] != two {
			t.Errorf("%q: %q", b.String(), fields)
		}
	})
}
