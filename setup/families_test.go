package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/setup/distro"
)

// withAuthselect is a root with a stand-in for authselect, which says what is selected.
func withAuthselect(t *testing.T, current string, profile bool) distro.Authselect {
	t.Helper()
	root := t.TempDir()
	dirs := []string{"usr/bin"}
	if profile {
		dirs = append(dirs, "usr/share/authselect/vendor/pkcs11")
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if profile {
		if err := os.WriteFile(filepath.Join(root, dirs[1], "system-auth"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	answer := "echo " + current
	if current == "" {
		answer = "exit 2" // as authselect does where nothing is selected
	}
	standIn(t, filepath.Join(root, "usr/bin"), "authselect", 0,
		`case "$1" in`, "current) "+answer+" ;;", "list-features) printf 'with-smartcard\\nwith-faillock\\nwith-mkhomedir\\n' ;;", "esac")
	return distro.Authselect{Root: root}
}

// TestAuthselect: our profile takes the place of one for local accounts, with what else was selected, and of no other.
func TestAuthselect(t *testing.T) {
	for name, tt := range map[string]struct {
		current string
		options Options
		without bool // our profile is not there
		want    string
		refused string
		lost    int
	}{
		"local":                     {current: "local with-faillock", want: "pkcs11 with-smartcard with-faillock"},
		"a feature that goes":       {current: "minimal with-fingerprint", want: "pkcs11 with-smartcard", lost: 1},
		"ours, with another mode":   {current: "pkcs11 with-smartcard-required", want: "pkcs11 with-smartcard"},
		"everybody needs a card":    {current: "local", options: Options{Mode: doctor.ModeOnly}, want: "pkcs11 with-smartcard-required"},
		"the screen stays locked":   {current: "pkcs11 with-smartcard-lock-on-removal", want: "pkcs11 with-smartcard with-smartcard-lock-on-removal"},
		"accounts of a directory":   {current: "sssd with-mkhomedir", refused: "accounts of a directory"},
		"nothing is selected":       {refused: "has not written the stacks"},
		"members of a group":        {current: "local", options: Options{Mode: doctor.ModeGroup}, refused: "no group"},
		"another break-glass group": {current: "local", options: Options{Mode: doctor.ModeOnly, Group: "wheel"}, refused: "not wheel"},
		"without our profile":       {current: "local", without: true, refused: "the package"},
	} {
		r := &run{o: tt.options, plan: Plan{Family: FamilyAuthselect, Mode: tt.options.Mode}}
		err := r.authselect(t.Context(), withAuthselect(t, tt.current, !tt.without))
		var no *RefusedError
		if (err != nil) != (tt.refused != "") || err != nil && (!errors.As(err, &no) || !strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		if got := strings.Join(r.plan.On, " "); got != tt.want || strings.Join(r.plan.Off, " ") != tt.current {
			t.Errorf("%s: %s, and back: %s", name, got, r.plan.Off)
		}
		if got := r.result.Findings.Count(diagnosis.Warning); got != tt.lost {
			t.Errorf("%s: %d warnings", name, got)
		}
	}
}

// TestAuthselectArguments: the profile and each feature are arguments of their own.
func TestAuthselectArguments(t *testing.T) {
	a := withAuthselect(t, "local with-faillock", true)
	if err := a.Switch(t.Context(), []string{"pkcs11", "with-smartcard"}, []string{"local", "with-faillock"}); err != nil {
		t.Fatal(err)
	}
	selected, frozen, err := a.Look(t.Context())
	if err != nil || !frozen.Empty() || strings.Join(selected, " ") != "local with-faillock" {
		t.Errorf("%q, %q, %v", selected, frozen.Text(), err)
	}
	if got := calls(t, filepath.Join(a.Root, "usr/bin"), "authselect"); got != "select\nlocal\nwith-faillock\ncurrent\n--raw\ncheck\n" {
		t.Errorf("%q", got)
	}
}

// TestToolsAreRead: what the tools of distributions have really done is read, whatever their status was.
func TestToolsAreRead(t *testing.T) {
	on := []string{"pkcs11", "with-smartcard"}
	for name, tt := range map[string]struct {
		family Family
		report Report
		good   bool
	}{
		"authselect":                  {FamilyAuthselect, Report{Profiles: on, Services: []string{"sudo"}}, true},
		"authselect, another profile": {FamilyAuthselect, Report{Profiles: []string{"local"}, Services: []string{"sudo"}}, false},
		"authselect, no feature":      {FamilyAuthselect, Report{Profiles: on[:1], Services: []string{"sudo"}}, false},
		"authselect, no service":      {FamilyAuthselect, Report{Profiles: on}, false},
		"authselect, edited": {FamilyAuthselect,
			Report{Profiles: on, Services: []string{"sudo"}, Frozen: message.Encoded(message.Textf("system-auth was modified"))}, false},
		"pam-config":              {FamilySUSE, Report{Profiles: on[:1]}, true},
		"pam-config, not a trace": {FamilySUSE, Report{}, false},
	} {
		r := &run{plan: Plan{Family: tt.family, On: on}}
		if err := r.check(&tt.report); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPAMConfigEnabled: pam-config's file counts where common-auth leads to it.
func TestPAMConfigEnabled(t *testing.T) {
	const with = "auth sufficient pam_pkcs11.so\nauth required pam_unix.so\n"
	for name, tt := range map[string]struct {
		files map[string]string
		link  bool
		want  int
	}{
		"a link":                 {map[string]string{"/etc/pam.d/common-auth-pc": with}, true, 1},
		"a link, without":        {map[string]string{"/etc/pam.d/common-auth-pc": "# auth sufficient pam_pkcs11.so\n"}, true, 0},
		"a link to nowhere":      {map[string]string{"/etc/pam.d/x": ""}, true, 0},
		"a file of somebody's":   {map[string]string{"/etc/pam.d/common-auth-pc": with, "/etc/pam.d/common-auth": "auth required pam_unix.so\n"}, false, 0},
		"a file with the module": {map[string]string{"/etc/pam.d/common-auth": with}, false, 1},
		"nothing":                {map[string]string{"/etc/pam.d/x": ""}, false, 0},
	} {
		tree := madeTree(t, tt.files)
		if tt.link {
			if err := os.Symlink("common-auth-pc", filepath.Join(tree.Dir, "/etc/pam.d/common-auth")); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := (distro.PAMConfig{}).Enabled(tree); err != nil || len(got) != tt.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestSnapshot: links are told by where they lead, and what has gone is a change.
func TestSnapshot(t *testing.T) {
	tree := madeTree(t, map[string]string{"/etc/pam.d/a": "a\n", "/etc/pam.d/b": "b\n", "/etc/nsswitch.conf": "x\n"})
	link := filepath.Join(tree.Dir, "/etc/pam.d/c")
	paths := []string{"/etc/pam.d", "/etc/nsswitch.conf", "/etc/nothing"}
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	before, err := snapshot(tree, paths...)
	if err != nil || len(before) != 4 {
		t.Fatalf("%q, %v", before, err)
	}
	err = errors.Join(os.Remove(link), os.Symlink("b", link), os.Remove(filepath.Join(tree.Dir, "/etc/pam.d/b")))
	if err != nil {
		t.Fatal(err)
	}
	after, err := snapshot(tree, paths...)
	if err != nil {
		t.Fatal(err)
	}

	all := changes(before, after)
	if len(all) != 2 || all[0].Path != "/etc/pam.d/b" || !all[0].Gone || all[1].After != "-> b\n" {
		t.Errorf("%+v", all)
	}
	if paths := withPathsOf((&Plan{}).Paths(), all); len(paths) != 5 || paths[4].Name != "/etc/pam.d/c" {
		t.Errorf("%+v", paths)
	}
}

// standIn is a small program in the place of one that this machine does not have: it notes its
// arguments, one a line, and ends with a status.
func standIn(t *testing.T, dir, name string, status int, more ...string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >> '" + file + ".calls'\n" + strings.Join(more, "\n") +
		"\nexit " + string(rune('0'+status)) + "\n"
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// calls are the arguments that a stand-in was called with.
func calls(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".calls"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
