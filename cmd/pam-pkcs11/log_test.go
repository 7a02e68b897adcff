package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/cli"
)

// someLog is a log of three logins, of which the last was refused; a colour is in it.
const someLog = `2026-01-02T03:04:05Z host sudo[1]: pam_pkcs11(sudo:auth): login granted user=alice token=card subject="CN=alice" serial=10:02 mapper=cn took=1s
2026-01-02T03:05:05Z host sudo[1]: pam_pkcs11(sudo:auth): certificate refused subject=x reason=foreign_card
2026-01-02T03:06:05Z host sudo[1]: pam_pkcs11(sudo:auth): login refused user=bob reason=pin_locked number=2346 detail="three tries \x1b[31m"
2026-01-02T03:07:05Z host su[1]: pam_pkcs11(su:auth): login refused user=alice reason=certificate_expired number=2324 check=expired subject="CN=alice" serial=10:02
`

func logOf(t *testing.T, text string) audit.Sources {
	t.Helper()
	file := filepath.Join(t.TempDir(), "last")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return audit.Sources{Journalctl: []string{"/bin/true"}, Last: file}
}

// called runs a command, and returns what it says and its exit code.
func called(command *cobra.Command, args ...string) (out string, code int) {
	var stdout, stderr bytes.Buffer
	command.SetOut(&stdout)
	command.SetErr(&stderr)
	command.SetArgs(args)
	command.SilenceErrors, command.SilenceUsage = true, true
	code = cli.Exit(&stderr, program, command.Execute())
	return stdout.String() + stderr.String(), code
}

func TestLog(t *testing.T) {
	t.Setenv("TZ", "UTC")
	sources := logOf(t, someLog)
	command := func() *cobra.Command { return newLogFor(&logTool{sources: sources}) }

	out, code := called(command())
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if code != 0 || len(lines) != 3 || !strings.HasSuffix(lines[0], "sudo  alice  granted  CN=alice  10:02") ||
		!strings.HasSuffix(lines[1], "sudo  bob  refused  pin_locked  2346") ||
		!strings.HasSuffix(lines[2], "su  alice  refused  certificate_expired  2324  CN=alice  10:02") {
		t.Errorf("%d:\n%s", code, out)
	}
	if out, _ := called(command(), "--user", "bob"); strings.Count(out, "\n") != 1 {
		t.Errorf("of bob:\n%s", out)
	}
	if out, code := called(command(), "--since", "2026-01-02T03:06:30Z"); strings.Count(out, "\n") != 1 || code != 0 {
		t.Errorf("since:\n%s", out)
	}

	out, code = called(command(), "--json")
	var logins []loggedLogin
	if err := json.Unmarshal([]byte(out), &logins); err != nil || code != 0 || len(logins) != 3 || logins[2].Number != 2324 ||
		logins[2].Check != "expired" || logins[1].Detail != "three tries \x1b[31m" || strings.Contains(out, "\x1b") {
		t.Errorf("%v %+v", err, logins)
	}
	if out, _ := called(newLogFor(&logTool{sources: logOf(t, "")}), "--json"); out != "[]\n" {
		t.Errorf("no login: %q", out)
	}
	if _, code := called(newLogFor(&logTool{sources: audit.Sources{Journalctl: []string{"/bin/false"}, Last: "/nonexistent"}})); code != cli.Unavailable {
		t.Errorf("a journal that cannot be read: %d", code)
	}
}

func TestExplainLast(t *testing.T) {
	sources := logOf(t, someLog)
	command := func() *cobra.Command { return newExplainFor(&explainTool{log: sources}) }

	out, code := called(command(), "--last")
	if code != 0 || !strings.Contains(out, "note    su, alice: Message 2324: The certificate has expired.") ||
		!strings.Contains(out, "refusal su, alice: The certificate has expired. (certificate_expired)\n      -> Have the certificate renewed.") {
		t.Errorf("%d:\n%s", code, out)
	}
	out, code = called(command(), "--last", "--user", "bob")
	if code != 0 || !strings.Contains(out, "-> Set a new PIN with the card's PUK: pam-pkcs11 pin unblock") || strings.Contains(out, "\x1b") {
		t.Errorf("%d:\n%s", code, out)
	}
	out, code = called(command(), "--last", "--json")
	if code != 0 || !strings.Contains(out, `"cause": 17`) || !strings.Contains(out, `"number": 2324`) {
		t.Errorf("%d:\n%s", code, out)
	}
	if out, code := called(command(), "--last", "--user", "carol"); code == 0 || !strings.Contains(out, "no login that was refused") {
		t.Errorf("%d:\n%s", code, out)
	}
}
