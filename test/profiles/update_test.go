//go:build linux

package profiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/pamstack"
)

// TestTheManualHasTheProfiles: pam_pkcs11(8) shows them as they are installed.
func TestTheManualHasTheProfiles(t *testing.T) {
	page := read(t, "../../doc/pam_pkcs11.8")
	for _, p := range profileList {
		if text := read(t, filepath.Join(packaged, p.name)); !strings.Contains(page, ".Bd -literal -offset indent\n"+text+".Ed\n") {
			t.Errorf("the manual page shows another profile %s than\n%s", p.name, text)
		}
	}
}

// TestThereAndBack: what a profile writes goes without a trace.
func TestThereAndBack(t *testing.T) {
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			debian(t)
			before := read(t, pamDir+"/common-auth")
			update(t, "--enable", p.name)
			if read(t, pamDir+"/common-auth") == before {
				t.Error("nothing was written")
			}
			update(t, "--disable", p.name)
			if after := read(t, pamDir+"/common-auth"); after != before {
				t.Errorf("%s\nis left of\n%s", after, before)
			}
		})
	}
}

// TestOneOfThree: profiles that exclude each other are not enabled together.
func TestOneOfThree(t *testing.T) {
	debian(t)
	update(t, "--enable", "pkcs11", "pkcs11-only")
	if n := strings.Count(read(t, pamDir+"/common-auth"), "pam_pkcs11.so"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestNothingIsEnabled: installing the profiles changes no stack. A session has nothing to do with the card yet, so no line
// of it names the module either.
func TestNothingIsEnabled(t *testing.T) {
	debian(t)

	files, err := filepath.Glob(pamDir + "/common-*")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		if text := read(t, file); strings.Contains(text, "pam_pkcs11.so") {
			t.Errorf("%s is\n%s", file, text)
		}
	}
}

// TestBesideOtherProfiles: with Kerberos, SSSD and a fingerprint beside it, whoever had the password still has it.
func TestBesideOtherProfiles(t *testing.T) {
	debian(t)
	put(t, configDir+"/krb5", "Name: Kerberos\nDefault: yes\nPriority: 704\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_krb5.so minimum_uid=1000 try_first_pass\n"+
		"Auth-Initial:\n\t[success=end default=ignore]\tpam_krb5.so minimum_uid=1000\n")
	put(t, configDir+"/sss", "Name: SSS\nDefault: yes\nPriority: 128\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_sss.so use_first_pass\n"+
		"Auth-Initial:\n\t[success=end default=ignore]\tpam_sss.so forward_pass\n")
	update(t, "--package")
	update(t, "--enable", "pkcs11")

	auth := read(t, pamDir+"/common-auth")
	if !strings.Contains(auth, "[success=4 default=ignore]\tpam_pkcs11.so") {
		t.Errorf("common-auth is\n%s", auth)
	}
	for _, s := range situations {
		if got := (login{service: "sudo", card: s.answer}).run(t); got != s.password {
			t.Errorf("%s: %v, want %v", s.name, got, s.password)
		}
	}
	for _, f := range doctor.Run(t.Context(), &doctor.Machine{UID: -1, Mode: doctor.ModePassword}, []string{"stack-control-flow"}) {
		if f.Severity == diagnosis.Refusal {
			t.Errorf("%s: %s", f.Subject, f.Fact)
		}
	}
}

// TestFrozenAsTheProgramSays: doctor takes a block for frozen exactly when pam-auth-update does.
func TestFrozenAsTheProgramSays(t *testing.T) {
	for name, edit := range map[string]func(string) string{
		"nothing":        func(s string) string { return s },
		"an option more": func(s string) string { return strings.Replace(s, "pam_pkcs11.so", "pam_pkcs11.so debug", 1) },
		"an option less": func(s string) string { return strings.Replace(s, " nullok", "", 1) },
		"another number": func(s string) string { return strings.Replace(s, "[success=2", "[success=9", 1) },
		"two numbers": func(s string) string {
			return strings.Replace(s, "[success=2 default=ignore]", "[success=2 authinfo_unavail=1 default=die]", 1)
		},
		"a word": func(s string) string { return strings.Replace(s, "[success=2 default=ignore]", "sufficient", 1) },
		"default=die": func(s string) string {
			return strings.Replace(s, "[success=2 default=ignore]", "[success=2 default=die]", 1)
		},
		"a line more": func(s string) string {
			return strings.Replace(s, "auth\t[success=2", "auth optional pam_warn.so\nauth\t[success=2", 1)
		},
		"a line before": func(s string) string { return "auth optional pam_warn.so\n" + s },
		"a line behind": func(s string) string { return s + "auth optional pam_warn.so\n" },
		"a line less": func(s string) string {
			return strings.Replace(s, "auth\t[success=2 default=ignore]\tpam_pkcs11.so \n", "", 1)
		},
		"a comment less":  func(s string) string { return strings.Replace(s, "# here's the fallback", "# the fallback", 1) },
		"a comment in it": func(s string) string { return strings.Replace(s, "auth\t[success=2", "# mine\nauth\t[success=2", 1) },
		"an empty line":   func(s string) string { return strings.Replace(s, "auth\t[success=2", "\nauth\t[success=2", 1) },
		"the fallback": func(s string) string {
			return strings.Replace(s, "requisite\t\t\tpam_deny.so", "requisite pam_warn.so", 1)
		},
		"the module's path": func(s string) string { return strings.Replace(s, "pam_pkcs11.so", "/lib/security/pam_pkcs11.so", 1) },
		"blanks and a tab":  func(s string) string { return strings.Replace(s, "]\tpam_pkcs11.so", "]   pam_pkcs11.so", 1) },
		"the order":         func(s string) string { return swapped(s) },
	} {
		t.Run(name, func(t *testing.T) {
			debian(t)
			update(t, "--enable", "pkcs11")
			put(t, pamDir+"/common-auth", edit(read(t, pamDir+"/common-auth")))

			ours := false
			for _, f := range doctor.Run(t.Context(), &doctor.Machine{UID: -1}, []string{"stack-frozen"}) {
				ours = ours || f.Severity == diagnosis.Warning
			}
			said := update(t, "--package")
			if theirs := strings.Contains(said, "Local modifications"); ours != theirs {
				t.Errorf("doctor: frozen %v; pam-auth-update: %q\n%s", ours, said, read(t, pamDir+"/common-auth"))
			}
		})
	}
}

// swapped exchanges our line and the next.
func swapped(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.Contains(line, "pam_pkcs11.so") {
			lines[i], lines[i+1] = lines[i+1], lines[i]
			break
		}
	}
	return strings.Join(lines, "")
}

// TestTheReadmeOfBefore: the stack that locked people out, put where pam-auth-update writes, is refused with its reason.
func TestTheReadmeOfBefore(t *testing.T) {
	debian(t)
	text := read(t, pamDir+"/common-auth")
	put(t, pamDir+"/common-auth", strings.Replace(text, "auth\t[success=1", "auth [success=2 authinfo_unavail=1 default=die] pam_pkcs11.so\nauth\t[success=1", 1))

	found := doctor.Run(t.Context(), &doctor.Machine{UID: -1}, []string{"stack-control-flow"})
	if found.Worst() != diagnosis.Refusal || !strings.Contains(found[0].Fact.String(), "without a card nobody gets in") {
		t.Errorf("%+v", found)
	}
	if got := (login{service: "sudo", card: pamstack.CredInsufficient}).run(t); got != refused {
		t.Error(got)
	}
	if os.Getenv(inside) == "" {
		t.Error("this ran outside of the namespace")
	}
}
