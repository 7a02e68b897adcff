package packaging

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a made root for the maintainer scripts, which they take from DPKG_ROOT.
type machine struct {
	root string
	bin  string // programs of the test's own, first in PATH
}

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), bin: t.TempDir()}
	for name, text := range files {
		m.write(t, name, text)
	}
	return m
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// program puts a shell script into PATH.
func (m *machine) program(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// run runs a maintainer script, and gives what it says and whether it ended well.
func (m *machine) run(t *testing.T, script string, env []string, args ...string) (string, bool) {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{script}, args...)...)
	cmd.Env = append([]string{"PATH=" + m.bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "DPKG_ROOT=" + m.root}, env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// TestRemovalIsRefused: the module is not removed while a line would refuse without it, whatever pam-auth-update says.
func TestRemovalIsRefused(t *testing.T) {
	for _, row := range []struct {
		name, text string
		named      string // file and line that are named; "" for a removal that goes on
	}{
		{"common-auth", "auth required pam_pkcs11.so\n", "/etc/pam.d/common-auth:1: "},
		{"common-auth", "\n# x\nauth requisite /usr/lib/security/pam_pkcs11.so debug\n", "/etc/pam.d/common-auth:3: "},
		{"common-auth", "-auth required pam_pkcs11.so\n", ""},
		{"common-auth", "auth sufficient pam_pkcs11.so\nauth optional pam_pkcs11.so\n", ""},
		{"common-auth", "# auth required pam_pkcs11.so\nauth required pam_unix.so # not pam_pkcs11.so\n", ""},
		{"common-auth", "auth\t[success=2 default=ignore]\tpam_pkcs11.so\n", ""},
		{"common-auth", "auth [success=2 module_unknown=ignore default=ignore] pam_pkcs11.so\n", ""},
		{"common-auth", "auth [success=2 ignore=ignore default=die] pam_pkcs11.so card_only\n", "/etc/pam.d/common-auth:1: "},
		{"common-auth", "auth [success=2 module_unknown=ignore default=die] pam_pkcs11.so\n", "/etc/pam.d/common-auth:1: "},
		{"common-auth", "auth [module_unknown=die default=ignore] pam_pkcs11.so\n", "/etc/pam.d/common-auth:1: "},
		{"common-auth", "auth [ success = 1 default = bad ] pam_pkcs11.so\n", "/etc/pam.d/common-auth:1: "},
		{"common-auth", "auth [success=1] pam_pkcs11.so\n", "/etc/pam.d/common-auth:1: "},
		{"sudo", "auth \\\n  required \\\n pam_pkcs11.so\n", "/etc/pam.d/sudo:1: "},
		{"sudo", "account required pam_pkcs11.so\n", "/etc/pam.d/sudo:1: "},
		{"sudo", "password required pam_pkcs11.so", "/etc/pam.d/sudo:1: "},
		{"sudo", "AUTH Required pam_pkcs11.so\n", "/etc/pam.d/sudo:1: AUTH Required"},
		{"sudo", "auth Sufficient pam_pkcs11.so\n", ""},
		{"sudo", "auth [success=1 default=die]pam_pkcs11.so\n", "/etc/pam.d/sudo:1: "},
		{"sudo", "\nauth required \\ \n# a comment, and an empty line\n\npam_pkcs11.so\n", "/etc/pam.d/sudo:2: "},
		{"sudo", "auth required pam_unix.so # \\\nauth required pam_pkcs11.so\n", "/etc/pam.d/sudo:2: "},
		{"sudo", "auth required pam_pkcs11.so.old\nauth required other_pam_pkcs11.so\n", ""},
		{"sudo.dpkg-old", "auth required pam_pkcs11.so\n", ""},
		{"common-auth.pam-old", "auth required pam_pkcs11.so\n", ""},
	} {
		m := newMachine(t, map[string]string{"etc/pam.d/" + row.name: row.text})
		m.program(t, "pam-auth-update", `echo "pam-auth-update $*"`)
		said, ok := m.run(t, "debian/libpam-pkcs11.prerm", nil, "remove")
		if ok != (row.named == "") || !strings.Contains(said, row.named) {
			t.Errorf("%s %q: ended well: %v, and said\n%s", row.name, row.text, ok, said)
		}
		if asked := strings.Contains(said, "--package --remove pkcs11 pkcs11-group pkcs11-only\n"); asked != ok {
			t.Errorf("%q: pam-auth-update is asked to take the profiles out: %v; ended well: %v\n%s", row.text, asked, ok, said)
		}
	}
}

// block is common-auth as pam-auth-update writes it with the profile that demands the card.
const block = "# here are the per-package modules (the \"Primary\" block)\n" +
	"auth\t[success=2 ignore=ignore default=die]\tpam_pkcs11.so card_only\n" +
	"auth\t[success=1 default=ignore]\tpam_unix.so\n" +
	"# here's the fallback if no module succeeds\n" +
	"auth\trequisite\tpam_deny.so\n"

// TestRefusedRemovalDisablesNothing: a profile that demands the card stays enabled where another line stops the removal,
// and what pam-auth-update leaves in its own block stops it afterwards.
func TestRefusedRemovalDisablesNothing(t *testing.T) {
	for _, row := range []struct {
		name, common, sudo, update string
		asked                      bool
		named                      string // nothing: the removal goes on
	}{
		{"the block alone", block, "", `rm "$DPKG_ROOT/etc/pam.d/common-auth"`, true, ""},
		{"a line of sudo", block, "auth required pam_pkcs11.so\n", "", false, "/etc/pam.d/sudo:1: "},
		{"a line before the block", "auth required pam_pkcs11.so\n" + block, "", "", false, "/etc/pam.d/common-auth:1: "},
		{"a line behind the block", block + "auth required pam_pkcs11.so\n", "", "", false, "/etc/pam.d/common-auth:6: "},
		{"a block that was edited", block, "", "", true, "/etc/pam.d/common-auth:2: "},
	} {
		m := newMachine(t, map[string]string{"etc/pam.d/common-auth": row.common, "etc/pam.d/sudo": row.sudo})
		m.program(t, "pam-auth-update", "echo asked\n"+row.update)
		said, ok := m.run(t, "debian/libpam-pkcs11.prerm", nil, "remove")
		if ok != (row.named == "") || strings.Contains(said, "asked") != row.asked || !strings.Contains(said, row.named) {
			t.Errorf("%s: ended well: %v, and said\n%s", row.name, ok, said)
		}
	}
}

// TestRemovalGoesOn: forced, for an upgrade, and while the other architecture's module stays.
func TestRemovalGoesOn(t *testing.T) {
	m := newMachine(t, map[string]string{"etc/pam.d/sudo": "auth required pam_pkcs11.so\n"})
	m.program(t, "pam-auth-update", "echo asked")
	for _, row := range []struct {
		env   string
		arg   string
		asked bool
	}{
		{"PAM_PKCS11_REMOVE=force", "remove", true},
		{"DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=2", "remove", false},
		{"X=", "upgrade", false},
		{"X=", "deconfigure", false},
	} {
		said, ok := m.run(t, "debian/libpam-pkcs11.prerm", []string{row.env}, row.arg)
		if !ok || strings.Contains(said, "asked") != row.asked {
			t.Errorf("%s %s: %v\n%s", row.env, row.arg, ok, said)
		}
	}
}

// TestPurge: what the module has stored goes, what the administrator wrote stays.
func TestPurge(t *testing.T) {
	m := newMachine(t, map[string]string{
		"var/lib/pam_pkcs11/newest/x": "", "var/cache/pam_pkcs11/piv/y": "", "etc/pam_pkcs11/cacerts/ca.pem": "",
		"etc/pam_pkcs11/pam_pkcs11.conf": "",
	})
	if err := os.Mkdir(filepath.Join(m.root, "etc/pam_pkcs11/crls"), 0o755); err != nil {
		t.Fatal(err)
	}
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(m.root, name))
		return err == nil
	}
	if said, ok := m.run(t, "debian/libpam-pkcs11.postrm", nil, "remove"); !ok || !there("var/lib/pam_pkcs11") {
		t.Errorf("remove: %s", said)
	}
	if said, ok := m.run(t, "debian/libpam-pkcs11.postrm", nil, "purge"); !ok {
		t.Errorf("purge: %s", said)
	}
	for name, stays := range map[string]bool{
		"var/lib/pam_pkcs11": false, "var/cache/pam_pkcs11": false, "etc/pam_pkcs11/crls": false,
		"etc/pam_pkcs11/cacerts/ca.pem": true, "etc/pam_pkcs11/pam_pkcs11.conf": true,
	} {
		if there(name) != stays {
			t.Errorf("%s: there %v, want %v", name, !stays, stays)
		}
	}
	empty := newMachine(t, nil)
	if err := os.MkdirAll(filepath.Join(empty.root, "etc/pam_pkcs11/cacerts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if said, ok := empty.run(t, "debian/libpam-pkcs11.postrm", nil, "purge"); !ok {
		t.Errorf("purge: %s", said)
	}
	if _, err := os.Stat(filepath.Join(empty.root, "etc/pam_pkcs11")); err == nil {
		t.Error("an empty /etc/pam_pkcs11 is left")
	}
}

// preinst lays the script and the check beside each other, as dpkg does.
func preinst(t *testing.T) (script string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "config-check"), "pam_pkcs11/cmd/pam-pkcs11")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile("debian/libpam-pkcs11.preinst")
	if err != nil {
		t.Fatal(err)
	}
	script = filepath.Join(dir, "preinst")
	if err := os.WriteFile(script, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// again keeps the check, which the script deletes when it lets the upgrade go on.
func again(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"preinst", "config-check"} {
		if err := os.Link(filepath.Join(filepath.Dir(script), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "preinst")
}

// TestUpgradeIsStopped: where the new module would refuse every login by a line, that line and the reason are named
// before anything is changed.
func TestUpgradeIsStopped(t *testing.T) {
	script := preinst(t)
	files := newMachine(t, map[string]string{
		"good.conf": "pam_pkcs11 {\n  use_mappers = null;\n  use_pkcs11_module = builtin;\n  pkcs11_module builtin { cert_policy = none; }\n" +
			"  mapper null { default_match = true; }\n  unverified_names = true;\n  allow_unknown_user = true;\n}\n",
		"typo.conf": "pam_pkcs11 {\n  use_pkcs11_module = builtin;\n  pkcs11_module builtin { cert_policy = ca, crl_ofline; }\n}\n",
	})
	good, typo := filepath.Join(files.root, "good.conf"), filepath.Join(files.root, "typo.conf")
	for _, row := range []struct {
		name, text, env string
		named           []string // nothing: the upgrade goes on
	}{
		{"sudo", "auth required pam_unix.so\n", "", nil},
		{"sudo", "auth sufficient pam_pkcs11.so config_file=" + good + "\n", "", nil},
		{"sudo", "auth sufficient pam_pkcs11.so [config_file=" + good + "] debug\n", "", nil},
		{"sudo", "# x\nauth sufficient pam_pkcs11.so config_file=" + typo + "\n", "",
			[]string{"/etc/pam.d/sudo:2:", "typo.conf:3:", "crl_ofline", "crl_offline", "nothing was changed"}},
		{"sudo", "auth sufficient \\\n pam_pkcs11.so config_file=" + good + " err_display_time=3\n", "",
			[]string{"/etc/pam.d/sudo:1:", "unknown argument", "err_display_time"}},
		{"sudo", "auth sufficient pam_pkcs11.so config_file=" + typo + "\n", "PAM_PKCS11_UPGRADE=force", nil},
		{"sudo", "AUTH Sufficient \\ \n\n# x\n pam_pkcs11.so config_file=" + typo + "\n", "", []string{"/etc/pam.d/sudo:1:", "crl_ofline"}},
		{"sudo.dpkg-old", "auth sufficient pam_pkcs11.so config_file=" + typo + "\n", "", nil},
		{"sudo", "session optional pam_pkcs11.so config_file=" + typo + "\n", "", nil},
		{"sudo", "auth sufficient pam_pkcs11.so config_file=/nonexistent/pam_pkcs11.conf\n", "",
			[]string{"/etc/pam.d/sudo:1:", "/nonexistent/pam_pkcs11.conf"}},
	} {
		m := newMachine(t, map[string]string{"etc/pam.d/" + row.name: row.text})
		said, ok := m.run(t, again(t, script), []string{row.env}, "upgrade", "0.6.12-1+deb12u1")
		if ok != (len(row.named) == 0) {
			t.Errorf("%q: ended well: %v, and said\n%s", row.text, ok, said)
		}
		for _, part := range row.named {
			if !strings.Contains(said, part) {
				t.Errorf("%q: %q is missing in\n%s", row.text, part, said)
			}
		}
	}
}

// TestDaemonIsNotInstalled where the system's daemon has what ours cannot take.
func TestDaemonIsNotInstalled(t *testing.T) {
	const options = "etc/default/pcscd"
	for _, row := range []struct {
		name, text, named string
	}{
		{"usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Info.plist", "", ""},
		{"usr/lib/pcsc/drivers/ifd-acsccid.bundle/Contents/Info.plist", "", "/usr/lib/pcsc/drivers/ifd-acsccid.bundle"},
		{"etc/reader.conf.d/0comments", "# LIBPATH /x\n", ""},
		{"etc/reader.conf.d/vpcd", "FRIENDLYNAME \"Virtual\"\nLIBPATH /usr/lib/libifdvpcd.so\n", "/etc/reader.conf.d/vpcd:2: LIBPATH"},
		{options, "# PCSCD_ARGS=--nonsense\n", ""},
		{options, "PCSCD_ARGS=\"--debug --apdu -fx -r 5 -s7 --max-thread 9 --force-reader-polling=3\"\n", ""},
		{options, "PCSCD_ARGS=-c\nPCSCD_ARGS='--disable-polkit -SIx'\n", ""},
		{options, "PCSCD_ARGS=\"-x -c /etc/reader.conf\"\n", "-c is no option"},
		{options, "PCSCD_ARGS=--config=/x\n", "--config=/x is no option"},
		{options, "PCSCD_ARGS=\"--new-option\"\n", "--new-option is no option"},
		{options, "PCSCD_ARGS=-xz\n", "-xz is no option"},
	} {
		m := newMachine(t, map[string]string{row.name: row.text})
		said, ok := m.run(t, "debian/pam-pkcs11-pcscd.preinst", nil, "install")
		if ok != (row.named == "") || !strings.Contains(said, row.named) {
			t.Errorf("%s %q: ended well: %v, and said\n%s", row.name, row.text, ok, said)
		}
		if said, ok := m.run(t, "debian/pam-pkcs11-pcscd.preinst", []string{"PAM_PKCS11_PCSCD=force"}, "install"); !ok {
			t.Errorf("forced: %s", said)
		}
	}
}

// TestDaemonOptions: the script knows each option of the daemon but --config, which names another file here.
func TestDaemonOptions(t *testing.T) {
	script, err := os.ReadFile("debian/pam-pkcs11-pcscd.preinst")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../cmd/pcscd/daemon/options.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(source)) {
		fields := strings.Split(line, `"`)
		if len(fields) < 3 || !strings.HasPrefix(line, "\t{") || !strings.Contains(fields[0], ", ") || fields[1] == "config" {
			continue
		}
		found++
		if !strings.Contains(string(script), "--"+fields[1]) {
			t.Errorf("the script does not know --%s", fields[1])
		}
	}
	if found < 20 {
		t.Errorf("%d options found", found)
	}
}
