package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login"
	"pam_pkcs11/login/logintest"
)

// explained is the tool over a machine with alice's card; answers are typed at the PIN prompt, one after the other.
type explained struct {
	tool    *explainTool
	readers *logintest.Readers
	asked   int
}

func explainAlice(t *testing.T, answers ...string) *explained {
	t.Helper()
	dir := t.TempDir()
	ca := testca.NewRoot("Example CA", testca.WithKey(testca.P256()))
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("p.conf", fmt.Sprintf("pam_pkcs11 { use_mappers = cn; pkcs11_module default { module = /memory.so; ca_dir = %q; "+
		"cert_policy = ca, signature; } }\n", write("ca.pem", string(ca.PEM()))))
	write("etc/pam.d/sudo", "auth [success=end default=ignore] pam_pkcs11.so config_file="+conf+"\nauth required pam_unix.so\n")
	write("etc/pam.d/other", "auth required pam_deny.so\n")

	e := &explained{readers: logintest.New(logintest.With("card", "271828", ca.Leaf("alice", testca.WithKey(testca.P256()))))}
	e.tool = &explainTool{
		root: dir,
		login: &login.Authenticator{
			Cards:    e.readers,
			Accounts: accounts.Static{Accounts: []accounts.Account{{Name: "alice", UID: 1000}}},
		},
		ask: func(string) (*secret.PIN, error) {
			if e.asked++; e.asked > len(answers) {
				return nil, errNoTerminal
			}
			return secret.New([]byte(answers[e.asked-1]))
		},
	}
	return e
}

func (e *explained) run(args ...string) (out string, code int) {
	return called(newExplainFor(e.tool), append([]string{"--user", "alice", "--rhost", "", "--service", "sudo"}, args...)...)
}

// TestExplainSendsNoPIN without --pin.
func TestExplainSendsNoPIN(t *testing.T) {
	e := explainAlice(t)
	out, code := e.run()
	if code != 0 || e.asked != 0 || e.readers.Count("C_Login") != 0 || !strings.Contains(out, "Its PIN would be asked for now.") ||
		!strings.Contains(out, "/etc/pam.d/sudo:1: The stack of sudo comes to the module") {
		t.Errorf("%d, asked %d times:\n%s", code, e.asked, out)
	}
}

// TestExplainWithPIN: it is asked for once, and the whole login is made; a wrong one is named, and not asked for again.
func TestExplainWithPIN(t *testing.T) {
	e := explainAlice(t, "271828")
	out, code := e.run("--pin", "--json")
	if code != 0 || e.asked != 1 || e.readers.Count("C_Login") != 1 || !strings.Contains(out, `"granted": true`) || strings.Contains(out, "271828") {
		t.Errorf("%d, asked %d times:\n%s", code, e.asked, out)
	}

	e = explainAlice(t, "314159", "271828")
	out, code = e.run("--pin")
	if code != 1 || e.asked != 1 || e.readers.Count("C_Login") != 1 || !strings.Contains(out, "warning sudo, alice: The PIN was wrong.") ||
		!strings.Contains(out, "After that the stack goes on to pam_unix.so") {
		t.Errorf("%d, asked %d times:\n%s", code, e.asked, out)
	}

	e = explainAlice(t)
	out, code = e.run("--pin")
	if code != 1 || e.readers.Count("C_Login") != 0 || !strings.Contains(out, "The entry of the PIN was cancelled, or nobody could be asked.") {
		t.Errorf("without a terminal: %d:\n%s", code, out)
	}
}

// TestExplainWithoutACard: what is passed over is named, and that another way is left is a warning.
func TestExplainWithoutACard(t *testing.T) {
	e := explainAlice(t)
	e.readers.Insert(0, nil)
	out, code := e.run()
	if code != 1 || !strings.Contains(out, "Reader 1: This slot is passed over: it is empty.") ||
		!strings.Contains(out, "warning sudo, alice: No card is in a reader.") ||
		!strings.Contains(out, "The module would return PAM_AUTHINFO_UNAVAIL, and it shows nothing.") {
		t.Errorf("%d:\n%s", code, out)
	}
}
