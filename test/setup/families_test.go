//go:build linux && cgo

package setup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
)

// inPlaceOf lays a directory of links over /usr/bin or /usr/sbin, without one program and with a stand-in.
func inPlaceOf(t *testing.T, dir, without, standIn string) {
	t.Helper()
	real, err := os.MkdirTemp("/run", "real")
	if err != nil {
		t.Fatal(err)
	}
	links := t.TempDir()
	if err := errors.Join(os.Chmod(links, 0o755), unix.Mount(dir, real, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(unix.Unmount(real, unix.MNT_DETACH), os.Remove(real)) })
	entries, err := os.ReadDir(real)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != without {
			err = errors.Join(err, os.Symlink(filepath.Join(real, e.Name()), filepath.Join(links, e.Name())))
		}
	}
	if standIn != "" {
		text, failed := os.ReadFile(filepath.Join("testdata", standIn))
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(links, standIn), text, 0o755))
	}
	if err = errors.Join(err, unix.Mount(links, dir, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// withFiles writes files for one test, whose directories are made; "-> TARGET" is a link.
func withFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for file, text := range files {
		old, err := os.ReadFile(file)
		there := err == nil
		t.Cleanup(func() {
			_ = os.Remove(file)
			if there {
				_ = os.WriteFile(file, old, 0o644)
			}
		})
		err = os.MkdirAll(filepath.Dir(file), 0o755)
		_ = os.Remove(file)
		if target, is := strings.CutPrefix(text, "-> "); is {
			err = errors.Join(err, os.Symlink(target, file))
		} else {
			err = errors.Join(err, os.WriteFile(file, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// including is a service that includes the stacks of another distribution.
func including(stack string) string {
	return fmt.Sprintf("auth include %s\naccount required pam_unix.so\nsession required pam_unix.so\n", stack)
}

// setUpAndBack sets alice up, has her use sudo, and takes it back.
func setUpAndBack(t *testing.T, changed string, calls string) {
	t.Helper()
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))
	args := []string{"setup", "--user", "alice", "--yes", "--json", "--pin-fd", "3"}
	dry := runTool(t, pin, append(args, "--dry-run")...)
	if dry.code != 0 || !strings.Contains(dry.out, changed) {
		t.Fatalf("dry run: %d\n%s%s", dry.code, dry.out, dry.err)
	}
	unchanged(t, before)

	r := runTool(t, pin, args...)
	if got := decode(t, r); r.code != 0 || !got.Changed {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	text, err := os.ReadFile(changed)
	if err != nil || !strings.Contains(string(text), "pam_pkcs11.so") {
		t.Errorf("%v:\n%s", err, text)
	}
	second := runTool(t, "", args[:5]...)
	if got := decode(t, second); second.code != 0 || got.Changed {
		t.Errorf("the second run: %d\n%s%s", second.code, second.out, second.err)
	}
	if said, err := os.ReadFile(calls); err != nil {
		t.Error(err)
	} else {
		t.Logf("%s:\n%s", calls, said)
	}
	sudoAsksPIN(t)
	takeBack(t, before)
	sudoAsksPassword(t)
}

// TestAuthselect: where authselect writes the stacks, setup has it select our profile. authselect is a stand-in.
func TestAuthselect(t *testing.T) {
	inPlaceOf(t, "/usr/sbin", "pam-auth-update", "")
	inPlaceOf(t, "/usr/bin", "", "authselect")
	if err := os.MkdirAll("/var/lib/authselect", 0o755); err != nil {
		t.Fatal(err)
	}
	share, err := os.MkdirTemp("/run", "share")
	if err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(share, "usr-share")
	if err := errors.Join(os.Chmod(share, 0o755), os.Mkdir(real, 0o755)); err != nil {
		t.Fatal(err)
	}
	coverShare(t, share)

	const local = "auth required pam_env.so\nauth sufficient pam_unix.so nullok\nauth required pam_deny.so\n"
	profile, _ := filepath.Glob("../../packaging/authselect/pkcs11/*")
	files := map[string]string{
		"/etc/pam.d/sudo":                 including("system-auth"),
		"/etc/authselect/authselect.conf": "local\n",
	}
	for _, file := range []string{"system-auth", "password-auth", "smartcard-auth", "fingerprint-auth", "postlogin"} {
		files["/usr/share/authselect/default/local/"+file] = local
		files["/etc/authselect/"+file] = local
		files["/var/lib/authselect/"+file] = local
		files["/etc/pam.d/"+file] = "-> /etc/authselect/" + file
	}
	for _, file := range profile {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(text), "\n")
		kept := ""
		for _, line := range lines {
			if !strings.Contains(line, "pam_pwquality.so") { // is not installed here, and is for new passwords
				kept += line
			}
		}
		files["/usr/share/authselect/vendor/pkcs11/"+filepath.Base(file)] = kept
	}
	withFiles(t, files)

	setUpAndBack(t, "/etc/authselect/system-auth", "/run/authselect.calls")
	if text, err := os.ReadFile("/var/lib/authselect/system-auth"); err != nil || string(text) != local {
		t.Errorf("authselect remembers what was taken back: %v\n%s", err, text)
	}
	if said, err := exec.Command("authselect", "check").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// coverShare makes /usr/share/authselect a directory of this namespace alone.
func coverShare(t *testing.T, dir string) {
	t.Helper()
	const place = "/usr/share"
	real := filepath.Join(dir, "usr-share")
	links := filepath.Join(dir, "links")
	if err := errors.Join(os.Mkdir(links, 0o755), unix.Mount(place, real, "", unix.MS_BIND|unix.MS_REC, "")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(real)
	for _, e := range entries {
		err = errors.Join(err, os.Symlink(filepath.Join(real, e.Name()), filepath.Join(links, e.Name())))
	}
	if err = errors.Join(err, unix.Mount(links, place, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(unix.Unmount(place, unix.MNT_DETACH), unix.Unmount(real, unix.MNT_DETACH)) })
}

// TestPAMConfig: where pam-config writes the stacks, setup has it add the module. pam-config is a stand-in.
func TestPAMConfig(t *testing.T) {
	inPlaceOf(t, "/usr/sbin", "pam-auth-update", "pam-config")
	if err := unix.Mount("tmpfs", "/var/lib/pam", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		t.Fatal(err) // what pam-auth-update remembers is not there either
	}
	t.Cleanup(func() { _ = unix.Unmount("/var/lib/pam", unix.MNT_DETACH) })
	withFiles(t, map[string]string{
		"/etc/pam.d/sudo":           including("common-auth"),
		"/etc/pam.d/common-auth-pc": "auth\trequired\tpam_env.so\nauth\trequired\tpam_unix.so\ttry_first_pass\n",
		"/etc/pam.d/common-auth":    "-> common-auth-pc",
	})
	setUpAndBack(t, "/etc/pam.d/common-auth-pc", "/run/pam-config.calls")
}

// TestGDM: where GDM is there, its service for smart cards becomes ours by the real update-alternatives; dconf is a stand-in.
func TestGDM(t *testing.T) {
	inPlaceOf(t, "/usr/bin", "", "dconf")
	const state = "/var/lib/dpkg/alternatives"
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	const theirs = "/etc/pam.d/gdm-smartcard-sssd-exclusive"
	withFiles(t, map[string]string{
		"/etc/pam.d/gdm-password": "auth requisite pam_nologin.so\n@include common-auth\n@include common-account\n@include common-session\n",
		theirs:                    "auth required pam_deny.so\n@include common-account\n",
		"/etc/dconf/profile/gdm":  "user-db:user\nsystem-db:gdm\n",
	})
	install := exec.Command("update-alternatives", "--log", "/dev/null", "--install", "/etc/pam.d/gdm-smartcard", "gdm-smartcard", theirs, "50")
	if said, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	t.Cleanup(func() {
		_ = errors.Join(os.Remove("/etc/pam.d/gdm-smartcard"), os.Remove("/etc/alternatives/gdm-smartcard"), os.Remove(state+"/gdm-smartcard"))
	})
	list, err := os.ReadFile(state + "/gdm-smartcard")
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))

	r := runTool(t, pin, "setup", "--user", "alice", "--yes", "--json", "--pin-fd", "3")
	if got := decode(t, r); r.code != 0 || !got.Changed {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	stack, err := os.ReadFile("/etc/pam.d/gdm-smartcard")
	if err != nil || !strings.Contains(string(stack), "pam_pkcs11.so") {
		t.Errorf("%v\n%s", err, stack)
	}
	if compiled, err := os.ReadFile("/etc/dconf/db/gdm"); err != nil || !strings.Contains(string(compiled), "enable-smartcard-authentication=true") {
		t.Errorf("%v\n%s", err, compiled)
	}
	takeBack(t, before)
	if now, err := os.ReadFile(state + "/gdm-smartcard"); err != nil || string(now) != string(list) {
		t.Errorf("the alternatives: %v\n%s", err, now)
	}
}
