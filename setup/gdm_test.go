package setup

import (
	"strings"
	"testing"

	"pam_pkcs11/doctor"
	"pam_pkcs11/setup/undo"
)

// debianGDM is gdm-password as Debian has it.
const debianGDM = `#%PAM-1.0
auth    requisite       pam_nologin.so
auth	required	pam_succeed_if.so user != root quiet_success
@include common-auth
auth    optional        pam_gnome_keyring.so
@include common-account
session required        pam_loginuid.so
@include common-session
session optional        pam_gnome_keyring.so auto_start
@include common-password
`

// TestGDMStack: the card first, and of gdm-password all but how it asks.
func TestGDMStack(t *testing.T) {
	got := gdmStack(debianGDM)
	rest, ours := strings.CutPrefix(got, gdmAuth)
	const want = `auth    optional        pam_gnome_keyring.so
@include common-account
session required        pam_loginuid.so
@include common-session
session optional        pam_gnome_keyring.so auto_start
@include common-password
`
	if !ours || rest != want {
		t.Errorf("%s", got)
	}
}

// TestDesktop: GDM is changed where it is there, and where a password may let in.
func TestDesktop(t *testing.T) {
	gdm := map[string]string{gdmPassword: debianGDM}
	with := func(more ...string) map[string]string {
		all := map[string]string{gdmPassword: debianGDM}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for name, tt := range map[string]struct {
		files   map[string]string
		options Options
		family  Family
		want    int // files that are written
		note    bool
	}{
		"not there":              {files: map[string]string{"/etc/pam.d/sudo": ""}, family: FamilyDebian},
		"Debian's":               {files: gdm, family: FamilyDebian, want: 1},
		"with keys":              {files: with("/usr/share/dconf/profile/gdm", "user-db:user\nsystem-db:gdm\n"), family: FamilyDebian, want: 2},
		"whose keys go nowhere":  {files: with("/usr/share/dconf/profile/gdm", "user-db:user\nfile-db:/x\n"), family: FamilyDebian, want: 1},
		"left":                   {files: gdm, family: FamilyDebian, options: Options{NoDesktop: true}},
		"for sudo alone":         {files: gdm, family: FamilyDebian, options: Options{Services: []string{"sudo"}}},
		"everybody needs a card": {files: gdm, family: FamilyDebian, options: Options{Mode: doctor.ModeOnly}, note: true},
		"a file of its own":      {files: with(gdmLink, "auth required pam_deny.so\n"), family: FamilyDebian, note: true},
		"authselect's":           {files: gdm, family: FamilyAuthselect},
	} {
		if tt.options.Mode == "" {
			tt.options.Mode = doctor.ModePassword
		}
		r := &run{o: tt.options, tree: madeTree(t, tt.files), plan: Plan{Family: tt.family, Mode: tt.options.Mode}}
		if err := r.desktop(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.plan.Desktop) != tt.want || r.plan.GDM != (tt.want > 0) || (len(r.result.Findings) > 0) != tt.note {
			t.Errorf("%s: %+v, %+v", name, r.plan.Desktop, r.result.Findings)
		}
		paths := make(map[string]bool)
		for _, p := range r.plan.Paths() {
			if paths[p.Name] {
				t.Errorf("%s: %s is recorded twice", name, p.Name)
			}
			paths[p.Name] = true
			if p.Role == undo.Compiled && strings.HasPrefix(p.Name, pamDir) {
				t.Errorf("%s: %s is a stack", name, p.Name)
			}
		}
	}
}
