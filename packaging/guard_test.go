package packaging

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// guard runs the script with a dpkg-query of the test's own, which knows one file.
func guard(t *testing.T, owned string, args ...string) (string, bool) {
	t.Helper()
	bin := t.TempDir()
	query := fmt.Sprintf("#!/bin/sh\nfor f in \"$@\"; do [ \"$f\" = '%s' ] && echo \"somebody:amd64: $f\"; done\nexit 1\n", owned)
	if err := os.WriteFile(filepath.Join(bin, "dpkg-query"), []byte(query), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./guard", args...)
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// TestPackagesFilesStay: make install does not overwrite a file that a package has installed.
func TestPackagesFilesStay(t *testing.T) {
	dir := t.TempDir()
	file, installer := filepath.Join(dir, "pam_pkcs11.so"), filepath.Join(dir, "installer")
	script := fmt.Sprintf("#!/bin/sh\nto=${1#DESTDIR=}\n[ -n \"$to\" ] && mkdir -p \"$to%s\" && touch \"$to%s\" \"$to%s/other\"\n", dir, file, dir)
	for name, text := range map[string]string{file: "", installer: script} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		owned, destdir, force string
		refused               bool
	}{
		{file, "", "", true},
		{file, "", "1", false},
		{file, dir, "", false},
		{"/another", "", "", false},
		{filepath.Join(dir, "other"), "", "", false}, // it is not there: nothing is overwritten
	} {
		said, ok := guard(t, row.owned, "install", row.destdir, row.force, installer)
		if ok == row.refused || row.refused && !strings.Contains(said, "somebody:amd64: "+file) {
			t.Errorf("%+v: ended well: %v, and said\n%s", row, ok, said)
		}
	}
}

// TestUninstallIsRefused: while a line names the module, and where the module is a package's.
func TestUninstallIsRefused(t *testing.T) {
	for text, refused := range map[string]bool{
		"auth sufficient pam_pkcs11.so\n":         true,
		"-auth optional /lib/x/pam_pkcs11.so x\n": true,
		"# auth sufficient pam_pkcs11.so\n":       false,
		"auth sufficient pam_unix.so\n":           false,
	} {
		m := newMachine(t, map[string]string{"etc/pam.d/sudo": text})
		said, ok := guard(t, "", "uninstall", m.root, "", "/usr/lib/security/pam_pkcs11.so", "/usr/bin/pam-pkcs11")
		if ok == refused || refused && !strings.Contains(said, "/etc/pam.d/sudo:1:") {
			t.Errorf("%q: ended well: %v, and said\n%s", text, ok, said)
		}
		if said, ok := guard(t, "", "uninstall", m.root, "1", "/usr/lib/security/pam_pkcs11.so"); !ok {
			t.Errorf("%q, forced: %s", text, said)
		}
	}

	file := filepath.Join(t.TempDir(), "pcscd")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if said, ok := guard(t, file, "uninstall", "", "", file); ok || !strings.Contains(said, "somebody:amd64: "+file) {
		t.Errorf("a package's file: %v, and said\n%s", ok, said)
	}
	if said, ok := guard(t, "/another", "uninstall", "", "", file); !ok {
		t.Errorf("nobody's file: %s", said)
	}
}

// TestBuildInAPreRelease: Debian's versions before a release have a tilde, and so have the directories they are built in.
func TestBuildInAPreRelease(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pam-pkcs11-1.0.0~rc1")
	if out, err := exec.Command("../pam/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"pam_pkcs11.so", "pam_pkcs11_worker", "pam_pkcs11_worker.so"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	out, err := exec.Command("../pam/build.sh", filepath.Join(t.TempDir(), "a b")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "other than letters, digits") {
		t.Errorf("a blank: %v\n%s", err, out)
	}
}
