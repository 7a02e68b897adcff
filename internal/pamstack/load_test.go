package pamstack

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine makes a root with files in /etc/pam.d. A name with a slash is taken from the root.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if !strings.Contains(name, "/") {
			name = "etc/pam.d/" + name
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// link makes a symbolic link in a root.
func link(t *testing.T, root, target, name string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
}

// load loads a service that must load.
func load(t *testing.T, root, service string) *Stack {
	t.Helper()
	stack, err := Load(root, service)
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// shown are the lines of a kind, a line each.
func shown(s *Stack, k Kind) string {
	var text strings.Builder
	for _, line := range s.Lines(k) {
		text.WriteString(line.Place().String() + " " + line.String())
		if !line.Broken.Empty() {
			text.WriteString(" (" + line.Broken.String() + ")")
		}
		text.WriteString("\n")
	}
	return text.String()
}

const (
	commonAuth = "# managed\nauth\t[success=2 default=ignore]\tpam_pkcs11.so\n" +
		"auth\t[success=1 default=ignore]\tpam_unix.so nullok try_first_pass\n" +
		"auth\trequisite\t\t\tpam_deny.so\nauth\trequired\t\t\tpam_permit.so\n"
	commonAccount = "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so\n" +
		"account requisite pam_deny.so\naccount required pam_permit.so\n"
)

func TestLoad(t *testing.T) {
	root := machine(t, map[string]string{
		"common-auth":    commonAuth,
		"common-account": commonAccount,
		"sudo":           "#%PAM-1.0\n@include common-auth\n@include common-account\n-session optional pam_systemd.so # as it is\n",
		"su": "auth sufficient pam_rootok.so\nauth substack common-auth\nauth required pam_x.so [a b] [c\\]d] \\\n  # nothing\n" +
			"\n last\n",
		"other": "auth required pam_deny.so\naccount required pam_deny.so\npassword required pam_deny.so\n",
	})

	for _, test := range []struct{ service, want string }{
		{"sudo", `/etc/pam.d/common-auth:2 auth [success=2 default=ignore] pam_pkcs11.so
/etc/pam.d/common-auth:3 auth [success=1 default=ignore] pam_unix.so nullok try_first_pass
/etc/pam.d/common-auth:4 auth requisite pam_deny.so
/etc/pam.d/common-auth:5 auth required pam_permit.so
`},
		{"SU", `/etc/pam.d/su:1 auth sufficient pam_rootok.so
/etc/pam.d/common-auth:2 auth [success=2 default=ignore] pam_pkcs11.so
/etc/pam.d/common-auth:3 auth [success=1 default=ignore] pam_unix.so nullok try_first_pass
/etc/pam.d/common-auth:4 auth requisite pam_deny.so
/etc/pam.d/common-auth:5 auth required pam_permit.so
/etc/pam.d/su:3 auth required pam_x.so a b c]d last
`},
		{"unheard-of", "/etc/pam.d/other:1 auth required pam_deny.so\n"},
		{"other", "/etc/pam.d/other:1 auth required pam_deny.so\n"},
	} {
		if got := shown(load(t, root, test.service), Auth); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.service, got, test.want)
		}
	}

	sudo := load(t, root, "sudo")
	if sudo.IsDefault(Auth) || !sudo.IsDefault(Password) {
		t.Error("sudo's own kinds")
	}
	if got := shown(sudo, Session); got != "/etc/pam.d/sudo:4 -session optional pam_systemd.so\n" {
		t.Error(got)
	}
	if ours := sudo.Ours(); len(ours) != 1 || ours[0].From[0] != (Place{"/etc/pam.d/sudo", 2}) {
		t.Error(ours)
	}
	if args := load(t, root, "su").Lines(Auth)[5].Args; !slices.Equal(args, []string{"a b", "c]d", "last"}) {
		t.Errorf("%q", args)
	}
	if len(sudo.Problems) != 0 || !slices.Equal(sudo.Files, []string{
		"/etc/pam.d/sudo", "/etc/pam.d/common-auth", "/etc/pam.d/common-account", "/etc/pam.d/other",
	}) {
		t.Error(sudo.Problems, sudo.Files)
	}

	names, err := Services(root)
	if err != nil || !slices.Equal(names, []string{"other", "su", "sudo"}) {
		t.Error(names, err)
	}
}

func TestRun(t *testing.T) {
	root := machine(t, map[string]string{
		"common-auth": commonAuth, "login": "auth requisite pam_nologin.so\n@include common-auth\n", "other": "",
	})
	stack := load(t, root, "login")

	good := map[string]Result{"pam_permit.so": Success, "pam_deny.so": AuthErr, "pam_nologin.so": Success}
	run := func(card, password Result) (Result, int) {
		out := stack.Run(Auth, func(l Line) Result {
			switch l.Name() {
			case "pam_pkcs11.so":
				return card
			case "pam_unix.so":
				return password
			}
			return good[l.Name()]
		})
		return out.Result, len(out.Path)
	}

	for _, test := range []struct {
		card, password, want Result
		steps                int
	}{
		{Success, AuthErr, Success, 3},
		{AuthinfoUnavail, Success, Success, 4},
		{CredInsufficient, Success, Success, 4},
		{ModuleUnknown, AuthErr, AuthErr, 4},
	} {
		if got, steps := run(test.card, test.password); got != test.want || steps != test.steps {
			t.Errorf("card %s, password %s: %s after %d lines", test.card, test.password, got, steps)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"crlf include":     {"@include common-auth\r\n", "PAM refuses the service s: /etc/pam.d/s:1: the file /etc/pam.d/common-auth\r, which this line includes, is missing"},
		"nothing included": {"auth required pam_unix.so\nauth include\n", "PAM refuses the service s: /etc/pam.d/s:2: libpam crashes: the line includes, and names no file"},
		"backslash at end": {"auth required pam_unix.so \\\n", "PAM refuses the service s: /etc/pam.d/s:1: the file ends with a backslash, which promises one more line"},
		"no name":          {"auth required []\n", `PAM refuses the service s: /etc/pam.d/s:1: "" is no name of a module`},
	} {
		root := machine(t, map[string]string{"s": test.text, "common-auth": commonAuth})
		_, err := Load(root, "s")
		var refused *Refused
		if !errors.As(err, &refused) || err.Error() != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := Load(machine(t, map[string]string{"common-auth": ""}), "s"); err == nil {
		t.Error("no file at all")
	}
	if _, err := Load(machine(t, nil), "../etc/passwd"); err == nil {
		t.Error("a path is a service")
	}
}
