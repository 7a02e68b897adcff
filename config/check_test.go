package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

func TestCheckNamesTheKeyThatRestores(t *testing.T) {
	rows := []struct {
		name, text, part, restore string
	}{
		{"no policy", minimal("", "", ""), "cert_policy is not set", "cert_policy = none;"},
		{"names without ca", minimal("", "cert_policy = signature;", ""), "without `ca`", "unverified_names = true;"},
		{"OCSP", minimal("", "cert_policy = ca, ocsp_on;", ""), "ocsp_on is obeyed", "without ocsp_on"},
		{"purposes", minimal("", "", ""), "extended key usage", "eku = ignore;"},
		{"skip", minimal("foreign_card = skip;", "", ""), "says nothing about the user", "foreign_card = refuse;"},
		{"hidden certificates", minimal("foreign_card = skip;", "", ""), "shows no certificate", "certificates_after_pin = yes;"},
		{"remote", minimal("", "", ""), "other hosts", "remote_login = allow;"},
		{"later modules", minimal("", "", ""), "PAM_AUTHTOK", "forward_pin = success;"},
		{"first pass", minimal("try_first_pass = true;", "", ""), "what an earlier module left", "pin_pattern"},
		{"never ask", minimal("use_first_pass = true;", "", ""), "use_first_pass refuses", "pin_pattern"},
		{"waiting", minimal("card_only = true; wait_for_card = true;", "", ""), "ends after 60 s", "wait_for_card_timeout"},
		{"no PIN", minimal("", "", ""), "needs no PIN", "require_pin = false;"},
		{"unknown users", minimal("", "", ""), "does not know", "allow_unknown_user = true;"},
		{"system accounts", minimal("", "", ""), "UID_MIN", "directory_may_name_system_accounts"},
		{"mapfile", minimal("", "", "mapfile = file:///m;"), "lists all who may log in", ""},
		{"mapfile, several lines", minimal("", "", "mapfile = file:///m;"), "all count", ""},
		{"LDAP without ssl", "pam_pkcs11 { use_mappers = ldap; pkcs11_module default { } mapper ldap { uri = ldap://h; } }", "over TLS", "ssl = off;"},
		{"several certificates", minimal("", "", ""), "several users", "ask_certificate = false;"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := config.CheckData("f.conf", []byte(row.text))
			for _, n := range append(r.Of(finding.NoteDifferent), r.Of(finding.NoteChanged)...) {
				if strings.Contains(n.Text, row.part) && strings.Contains(n.Restore, row.restore) {
					return
				}
			}
			t.Errorf("no difference with %q restored by %q", row.part, row.restore)
		})
	}
}

// A file that writes every restoring key down has fewer differences left: none of those it names.
func TestCheckIsSilentAboutWhatIsWritten(t *testing.T) {
	text := minimal(`remote_login = refuse; forward_pin = off; require_pin = true; ask_certificate = true; allow_unknown_user = false;`,
		"cert_policy = ca, signature; eku = clientAuth;", "mapfile = none;")
	for _, n := range config.CheckData("f.conf", []byte(text)).Of(finding.NoteDifferent) {
		if !strings.Contains(n.Text, "UID_MIN") {
			t.Errorf("%v", n)
		}
	}
}

// TestHidingNeedsRemoteLogins: without them there is nobody to hide from.
func TestHidingNeedsRemoteLogins(t *testing.T) {
	for global, want := range map[string]string{
		"remote_login_hides = true;":                        "f.conf:2:22: remote_login_hides does nothing without remote_login = allow",
		"remote_login_hides = true; remote_login = allow;":  "",
		"remote_login_hides = false; remote_login = allow;": "",
	} {
		got := ""
		for _, n := range config.CheckData("f.conf", []byte(minimal(global, "", ""))).Of(finding.NoteNoEffect) {
			got += n.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", global, got, want)
		}
	}
}

func TestWriteText(t *testing.T) {
	var out strings.Builder
	r := config.CheckData("f.conf", []byte(minimal("mapper_search_path = /x; quiet = on", "", "")))
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"f.conf: no errors\n", "\nDifferent from", "f.conf:2:26: quiet: the C module read \"on\" as false", "\nWithout effect:\n  f.conf:2:1: mapper_search_path", "\nTolerated:\n"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in\n%s", part, out.String())
		}
	}
	out.Reset()
	if r := config.CheckData("f.conf", []byte("x")); r.OK() || r.WriteText(&out) != nil || !strings.HasPrefix(out.String(), "Errors (every login is refused):\n  f.conf:1:1: ") {
		t.Errorf("%s", out.String())
	}
	if err := r.WriteText(brokenPipe{}); err == nil {
		t.Error("an error of the writer is lost")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

// place puts a configuration where only the effective user could have written it.
func placeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pam_pkcs11.conf")
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func TestLoad(t *testing.T) {
	good := minimal("", "", "")
	rows := []struct {
		name string
		make func(t *testing.T) string
		want string
	}{
		{"readable for everybody", func(t *testing.T) string { return placeFile(t, good, 0o644) }, ""},
		{"through a link", func(t *testing.T) string {
			link := filepath.Join(filepath.Dir(placeFile(t, good, 0o644)), "link")
			if err := os.Symlink("pam_pkcs11.conf", link); err != nil {
				t.Fatal(err)
			}
			return link
		}, ""},
		{"not there", func(t *testing.T) string { return placeFile(t, good, 0o644) + "x" }, "no such file"},
		{"writable by a group", func(t *testing.T) string { return placeFile(t, good, 0o664) }, "may be written by group"},
		{"writable by everybody", func(t *testing.T) string { return placeFile(t, good, 0o646) }, "may be written by everybody"},
		{"a directory", func(t *testing.T) string { return filepath.Dir(placeFile(t, good, 0o644)) }, "is a directory"},
		{"too long", func(t *testing.T) string { return placeFile(t, strings.Repeat("#", scconf.MaxFileSize+1), 0o644) }, "longer than 1048576 bytes"},
		{"with an error", func(t *testing.T) string { return placeFile(t, "pam_pkcs11 { x = y; }", 0o644) }, `:1:14: unknown key "x"`},
		{"a strict file in a group's directory", func(t *testing.T) string { return inGroupDirectory(t, minimal("strict_permissions = true;", "", "")) }, "strict_permissions is set"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			file := row.make(t)
			c, err := config.Load(&config.Arguments{ConfigFile: file})
			if row.want == "" {
				if err != nil || c.File != file {
					t.Fatalf("%v", err)
				}
				return
			}
			var e *finding.Error
			if err == nil || !strings.Contains(err.Error(), row.want) || !errors.As(err, &e) || e.File != file {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
	c, err := config.Load(&config.Arguments{ConfigFile: inGroupDirectory(t, good)})
	if err != nil || !hasNote(c.Notes, finding.NotePermission, "directory may be written by group") {
		t.Errorf("%v", err)
	}
	if _, err := config.Check(placeFile(t, good, 0o600) + "x"); !errors.As(err, new(*finding.Error)) {
		t.Errorf("check of no file: %v", err)
	}
	if r, err := config.Check(inGroupDirectory(t, good)); err != nil || len(r.Of(finding.NotePermission)) != 1 {
		t.Errorf("check: %v", err)
	}
}

func inGroupDirectory(t *testing.T, text string) string {
	file := placeFile(t, text, 0o644)
	if err := os.Chmod(filepath.Dir(file), 0o775); err != nil {
		t.Fatal(err)
	}
	return file
}
