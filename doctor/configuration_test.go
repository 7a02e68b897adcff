package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/testca"
)

// site is a tree with an authority, and a configuration of the built-in card.
func site(t *testing.T) *tree {
	t.Helper()
	tr := newTree(t)
	tr.put("/ca/root.pem", string(testca.NewRoot("Root").PEM()))
	tr.module("module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature;", "pwent", "")
	return tr
}

// TestConfiguration: missing, with an error and its place, written by others, and good.
func TestConfiguration(t *testing.T) {
	tr := newTree(t)
	want{"configuration-missing", diagnosis.Refusal, "no configuration", "pam-pkcs11 setup"}.in(t, run(t, tr.machine(), "configuration"))

	tr.configure("pam_pkcs11 {\n  use_maper = pwent;\n}\n")
	f := want{"configuration-error", diagnosis.Refusal, "use_mappers", "config check"}.in(t, run(t, tr.machine(), "configuration"))
	if at := filepath.Join(tr.dir, "/etc/pam_pkcs11/pam_pkcs11.conf") + ":2:3"; f.Subject != at {
		t.Errorf("%s, not %s", f.Subject, at)
	}
	want{"not-looked-at", diagnosis.Note, "configuration", ""}.in(t, run(t, tr.machine(), "mappers"))

	tr = site(t)
	want{"configuration", diagnosis.OK, "no errors", ""}.in(t, run(t, tr.machine(), "configuration"))
	want{"configuration-files", diagnosis.OK, "are there", ""}.in(t, run(t, tr.machine(), "configuration-files"))
	want{"ca-files", diagnosis.OK, "can be used", ""}.in(t, run(t, tr.machine(), "ca-files"))
	want{"mappers", diagnosis.OK, "can name somebody", ""}.in(t, run(t, tr.machine(), "mappers"))
	want{"directory", diagnosis.Note, "no mapper asks", ""}.in(t, run(t, tr.machine(), "directory"))
	want{"revocation", diagnosis.Note, "asks nobody", ""}.in(t, run(t, tr.machine(), "revocation"))

	tr.chmod("/etc/pam_pkcs11/pam_pkcs11.conf", 0o666)
	want{"configuration-unsafe", diagnosis.Refusal, "may be written by everybody", "chmod 0644"}.in(t, run(t, tr.machine(), "configuration"))
}

// TestCAFiles: none, what is no certificate, and one whose directory is missing.
func TestCAFiles(t *testing.T) {
	root := testca.NewRoot("Root").PEM()
	for name, tt := range map[string]struct {
		file, text string
		want       want
	}{
		"empty":      {"", "", want{"ca-empty", diagnosis.Refusal, "it is empty", "pam-pkcs11 setup"}},
		"a key":      {"key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", want{"ca-file", diagnosis.Warning, "PEM block PRIVATE KEY", "PEM or DER"}},
		"text":       {"README", "hello\n", want{"ca-file", diagnosis.Warning, "no certificate in it", "PEM or DER"}},
		"an end":     {"alice.pem", string(testca.NewRoot("Root").Leaf("alice").PEM()), want{"ca-dir", diagnosis.Refusal, "no certificate in it at which a chain could end", "authority"}},
		"UTF-16":     {"root.pem", utf16(root), want{"ca-file", diagnosis.Note, "UTF-16", ""}},
		"no end yet": {"root.pem", string(root), want{"ca-files", diagnosis.OK, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.mkdir("/ca")
			if tt.file != "" {
				tr.put("/ca/"+tt.file, tt.text)
			}
			tr.module("module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature;", "pwent", "")
			tt.want.in(t, run(t, tr.machine(), "ca-files"))
		})
	}

	tr := newTree(t)
	tr.module("module = builtin; ca_dir = DIR/none; cert_policy = ca, signature;", "pwent", "")
	want{"ca-dir", diagnosis.Refusal, "no such file", "make the directory"}.in(t, run(t, tr.machine(), "ca-files"))
}

// utf16 is a text as Windows writes it.
func utf16(text []byte) string {
	out := []byte{0xFF, 0xFE}
	for _, c := range text {
		out = append(out, c, 0)
	}
	return string(out)
}

// TestMappers: no mapper, no mapfile, a line that fits no certificate, and what was pasted from openssl.
func TestMappers(t *testing.T) {
	const block = "module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature;"
	mapfile := func(text string) *tree {
		tr := site(t)
		tr.put("/mapfile", text)
		tr.module(block, "digest", "mapper digest { algorithm = sha256; mapfile = file://DIR/mapfile; }")
		return tr
	}
	tr := site(t)
	tr.module(block, "", "")
	found := run(t, tr.machine(), "configuration")
	found.Add(run(t, tr.machine(), "mappers")...)
	want{"mapper-none", diagnosis.Refusal, "use_mappers is empty", "set use_mappers"}.in(t, found)

	tr.module(block, "null", "")
	want{"mapper-fails", diagnosis.Refusal, "it says no to every certificate", "config check"}.in(t, run(t, tr.machine(), "mappers"))

	tr.module(block, "digest", "mapper digest { mapfile = file://DIR/none; }")
	want{"mapfile-missing", diagnosis.Refusal, "no such file", "pam-pkcs11 map"}.in(t, run(t, tr.machine(), "mappers"))

	f := want{"mapfile-line", diagnosis.Warning, "fingerprint", "correct the line"}.in(t, run(t, mapfile("xx:yy -> root\n").machine(), "mappers"))
	if filepath.Base(f.Subject) != "mapfile:1" {
		t.Error(f.Subject)
	}
	const sum = "B5:BB:9D:80:14:A0:F9:B1:D6:1E:21:E7:96:D7:8D:CC:DF:13:52:F2:3C:D3:28:12:F4:85:0B:87:8A:E4:94:4C"
	want{"mapfile-meant", diagnosis.Note, "as it is meant", ""}.in(t, run(t, mapfile("sha256 Fingerprint="+sum+" -> root\r\n").machine(), "mappers"))
}

// TestDirectoryDown: a server that nobody listens for, with its address.
func TestDirectoryDown(t *testing.T) {
	tr := site(t)
	tr.module("module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature;", "ldap",
		`mapper ldap { uri = "ldap://127.0.0.1:1"; ssl = off; base = "dc=example"; }`)
	want{"directory-down", diagnosis.Warning, "connection refused", "ldapsearch"}.in(t, run(t, tr.machine(), "directory"))
}

// TestResponder: one that nobody listens for, and what revocation = soft makes of it.
func TestResponder(t *testing.T) {
	tr := site(t)
	const block = `module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature, ocsp_on; ocsp_url = "http://127.0.0.1:1/"; `
	tr.module(block, "pwent", "")
	want{"responder-silent", diagnosis.Warning, "no answer that can be believed", "revocation = soft"}.in(t, run(t, tr.machine(), "revocation"))

	tr.module(block+"revocation = soft;", "pwent", "")
	want{"responder-silent", diagnosis.Note, "goes on without", ""}.in(t, run(t, tr.machine(), "revocation"))
}

// TestUnreadable: who is not root is told what he cannot look at. Root has somebody else run it.
func TestUnreadable(t *testing.T) {
	const nobody = 65534
	if os.Geteuid() == 0 {
		again := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestUnreadable$", "-test.v")
		again.Dir = "/"
		again.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=/tmp"}
		again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		said, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(said), "--- PASS: TestUnreadable") {
			t.Errorf("%v: %s", err, said)
		}
		return
	}
	tr := site(t)
	tr.chmod("/etc/pam_pkcs11/pam_pkcs11.conf", 0)
	want{"not-looked-at", diagnosis.Note, "only root", ""}.in(t, run(t, tr.machine(), "configuration"))
}
