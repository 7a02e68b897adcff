package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/diagnosis"
)

// TestGDM: a registered library brings up a stack without our module; the alternative and the keys mend it.
func TestGDM(t *testing.T) {
	tr := newTree(t)
	want{"gdm", diagnosis.OK, "not installed", ""}.in(t, run(t, tr.machine(), "gdm"))
	tr.put("/etc/pam.d/gdm-password", "@include common-auth\n")
	want{"gdm", diagnosis.OK, "is not used", ""}.in(t, run(t, tr.machine(), "gdm"))

	tr.put("/usr/share/p11-kit/modules/opensc-pkcs11.module", "module: opensc-pkcs11.so\n")
	want{"gdm-no-stack", diagnosis.Warning, "cannot be read", "update-alternatives"}.in(t, run(t, tr.machine(), "gdm"))

	tr.put("/etc/pam.d/gdm-smartcard-sssd-exclusive", "auth required pam_sss.so require_cert_auth\n")
	if err := os.Symlink("gdm-smartcard-sssd-exclusive", filepath.Join(tr.dir, gdmSmartcard)); err != nil {
		t.Fatal(err)
	}
	want{"gdm-other-stack", diagnosis.Warning, "gdm-smartcard-sssd-exclusive, which does not have our module", "update-alternatives"}.in(t, run(t, tr.machine(), "gdm"))

	tr.put("/etc/dconf/db/gdm.d/10-x", "[org/gnome/login-screen]\nenable-smartcard-authentication=false\nenable-password-authentication=false\n")
	tr.put("/etc/dconf/db/gdm.d/locks/x", "/org/gnome/login-screen/enable-password-authentication\n")
	found := run(t, tr.machine(), "gdm")
	want{"gdm-password-off", diagnosis.Warning, "offers no password", "dconf update"}.in(t, found)
	want{"gdm-locked", diagnosis.Note, "is locked", ""}.in(t, found)

	tr.put("/etc/dconf/db/gdm.d/10-x", "")
	tr.put("/etc/pam.d/gdm-smartcard-sssd-exclusive", "auth required pam_pkcs11.so\n")
	want{"gdm-locked", diagnosis.Note, "is locked", ""}.in(t, run(t, tr.machine(), "gdm"))
}

// TestLockers: those with one field want a pattern of PINs, those of the user a daemon of the system.
func TestLockers(t *testing.T) {
	tr := site(t)
	want{"one-field-lockers", diagnosis.OK, "no locker", ""}.in(t, run(t, tr.machine(), "one-field-lockers"))
	want{"user-lockers", diagnosis.OK, "no locker", ""}.in(t, run(t, tr.machine(), "user-lockers"))

	tr.put("/usr/bin/i3lock", "")
	f := want{"pin-pattern-missing", diagnosis.Warning, "costs a try", `pin_pattern = "[0-9]+"`}.in(t, run(t, tr.machine(), "one-field-lockers"))
	if f.Subject != "i3lock" {
		t.Error(f.Subject)
	}
	want{"lockers-without-readers", diagnosis.Warning, "serves root's programs only", "card_access = system"}.in(t, run(t, tr.machine(), "user-lockers"))

	tr.module("module = builtin; ca_dir = DIR/ca; card_access = system;", "pwent", `pin_pattern = "[0-9]+";`)
	want{"one-field-lockers", diagnosis.OK, "keeps a password", ""}.in(t, run(t, tr.machine(), "one-field-lockers"))
	want{"user-lockers", diagnosis.OK, "serves programs", ""}.in(t, run(t, tr.machine(), "user-lockers"))
}
