package doctor

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/diagnosis"
)

// pamMachine makes a tree with files, those without a slash in /etc/pam.d.
func pamMachine(t *testing.T, files map[string]string) *Machine {
	t.Helper()
	tr := newTree(t)
	for name, text := range files {
		if !strings.Contains(name, "/") {
			name = "etc/pam.d/" + name
		}
		tr.put(name, text)
	}
	return &Machine{Root: tr.dir}
}

// findings runs one check.
func findings(t *testing.T, m *Machine, id string) diagnosis.Findings {
	t.Helper()
	at := slices.IndexFunc(Checks(), func(c Check) bool { return c.ID == id })
	if at < 0 {
		t.Fatalf("there is no check %s", id)
	}
	return Checks()[at].Findings(t.Context(), m)
}

// expect is the ID, severity, and a part of the subject and of the fact of the only finding that is not good or a note;
// an empty ID wants none.
func expect(t *testing.T, found diagnosis.Findings, id string, severity diagnosis.Severity, parts ...string) {
	t.Helper()
	bad := slices.DeleteFunc(slices.Clone(found), func(f diagnosis.Finding) bool { return f.Severity == diagnosis.OK || f.Severity == diagnosis.Note })
	if id == "" {
		if len(bad) > 0 {
			t.Errorf("%+v", bad)
		}
		return
	}
	if len(bad) != 1 || bad[0].ID != id || bad[0].Severity != severity || bad[0].Remedy.Empty() {
		t.Errorf("%+v, want one %s", bad, id)
		return
	}
	for _, part := range parts {
		if !strings.Contains(bad[0].Subject+"|"+bad[0].Fact.String()+"|"+bad[0].Remedy.String(), part) {
			t.Errorf("%s|%s|%s: without %q", bad[0].Subject, bad[0].Fact, bad[0].Remedy, part)
		}
	}
}

// has reports whether a note of that ID was made.
func has(found diagnosis.Findings, id string) bool {
	return slices.ContainsFunc(found, func(f diagnosis.Finding) bool { return f.ID == id })
}

// common is Debian's common-auth with lines of a profile in it.
func common(lines string) string {
	return "#\n" + blockBegins + "\n" + lines + "auth\t[success=1 default=ignore]\tpam_unix.so nullok try_first_pass\n" +
		blockFallback + "\nauth\trequisite\t\t\tpam_deny.so\n# prime\nauth\trequired\t\t\tpam_permit.so\n" +
		blockAdditional + "\nauth\toptional\t\t\tpam_cap.so \n" + blockEnds + "\n"
}

// The lines that the profiles of the package become.
const (
	eitherLine = "auth\t[success=2 default=ignore]\tpam_pkcs11.so\n"
	groupLines = "auth\t[success=ignore module_unknown=die default=1]\tpam_succeed_if.so quiet service notin sshd user ingroup smartcard\n" + strictLine
	onlyLines  = "auth\t[success=ignore module_unknown=die default=1]\tpam_succeed_if.so quiet service notin sshd user notingroup breakglass\n" + strictLine
	strictLine = "auth\t[success=2 ignore=ignore default=die]\tpam_pkcs11.so card_only\n"
)

// TestControlFlow: which stacks keep the way by password that they promise.
func TestControlFlow(t *testing.T) {
	for name, test := range map[string]struct {
		auth, service string
		mode          Mode
		id            string
		severity      diagnosis.Severity
		parts         []string
	}{
		"card or password":            {auth: eitherLine},
		"card or password, promised":  {auth: eitherLine, mode: ModePassword},
		"for a group":                 {auth: groupLines},
		"for all but a group":         {auth: onlyLines, mode: ModeOnly},
		"for a group, not promised":   {auth: groupLines, mode: ModePassword, id: "stack-locks-out", severity: diagnosis.Refusal},
		"for everybody":               {auth: strictLine, id: "stack-locks-out", severity: diagnosis.Refusal, parts: []string{"/etc/pam.d/common-auth:3 (sudo)", "authinfo_unavail", "perm_denied"}},
		"the README of before":        {auth: "auth\t[success=2 authinfo_unavail=1 default=die]\tpam_pkcs11.so\n", id: "stack-locks-out", severity: diagnosis.Refusal, parts: []string{"authinfo_unavail=1 default=die]", "module_unknown", "pam-auth-update --enable pkcs11"}},
		"the README of before, again": {auth: "auth\t[success=2 authinfo_unavail=ignore default=die]\tpam_pkcs11.so\n", id: "stack-locks-out", severity: diagnosis.Refusal, parts: []string{"default=die", "cred_insufficient"}},
		"required":                    {auth: "auth required pam_pkcs11.so\n", id: "stack-locks-out", severity: diagnosis.Refusal},
		"requisite":                   {auth: "auth requisite pam_pkcs11.so\n", id: "stack-locks-out", severity: diagnosis.Refusal},
		"sufficient":                  {auth: "auth sufficient pam_pkcs11.so\n"},
		"onto pam_deny":               {auth: "auth\t[success=1 default=ignore]\tpam_pkcs11.so\n", id: "stack-card-useless", severity: diagnosis.Refusal},
		"no password at all":          {auth: "auth\t[success=1 default=ignore]\tpam_pkcs11.so\nauth requisite pam_deny.so\n", id: "stack-locks-out", severity: diagnosis.Refusal, parts: []string{"whatever our module answers"}},
		"over pam_deny by default":    {auth: "auth\t[success=2 default=2]\tpam_pkcs11.so\n", id: "stack-open", severity: diagnosis.Refusal},
		"an unknown module before":    {auth: "auth required pam_vendor.so\n" + eitherLine},
		"die behind an unknown one":   {auth: "auth [success=2 default=ignore] pam_vendor.so\n" + strictLine, id: "stack-locks-out", severity: diagnosis.Refusal},
		"a finger before":             {auth: "auth [success=3 default=ignore] pam_fprintd.so\n" + eitherLine},
		"with krb5":                   {auth: "auth\t[success=3 default=ignore]\tpam_pkcs11.so\nauth\t[success=2 default=ignore]\tpam_krb5.so minimum_uid=1000\n"},
		"substack":                    {service: "auth [success=1 default=ignore] pam_pkcs11.so\nauth substack common-auth\nauth required pam_permit.so\nauth optional pam_group.so\n"},
		"a substack that is left by die": {service: "auth substack strict\nauth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
			id: "stack-locks-out", severity: diagnosis.Refusal},
	} {
		t.Run(name, func(t *testing.T) {
			service := test.service
			if service == "" {
				service = "@include common-auth\n"
			}
			m := pamMachine(t, map[string]string{"common-auth": common(test.auth), "sudo": service, "other": "auth required pam_deny.so\n", "strict": "auth [success=ok default=die] pam_pkcs11.so\n"})
			m.Mode, m.Service = test.mode, "sudo"
			expect(t, findings(t, m, "stack-control-flow"), test.id, test.severity, test.parts...)
		})
	}

	// Who is exempt is not locked out; that others are is worth a note.
	m := pamMachine(t, map[string]string{"common-auth": common(onlyLines), "sudo": "@include common-auth\n"})
	if found := findings(t, m, "stack-control-flow"); !has(found, "stack-card-only") {
		t.Error(found)
	}
}

// TestCardRequired: which stacks let in by password who must use a card.
func TestCardRequired(t *testing.T) {
	const either, strict = "[success=2 default=ignore]", "stack-card-not-required"
	for name, test := range map[string]struct {
		auth, global, id string
		parts            []string
	}{
		"nobody must":              {auth: eitherLine},
		"a user, card or password": {auth: eitherLine, global: "card_required_users = alice;", id: strict, parts: []string{"/etc/pam.d/common-auth:3 (sudo)", "card_required_users says", either, "--mode only"}},
		"a group":                  {auth: eitherLine, global: "card_required_groups = staff;", id: strict, parts: []string{"card_required_groups says"}},
		"all others":               {auth: eitherLine, global: "card_others = required; card_optional_users = bob;", id: strict, parts: []string{"card_others says"}},
		"some may, some must not":  {auth: eitherLine, global: "card_optional_users = bob; card_forbidden_users = eve;"},
		"at this service":          {auth: eitherLine, global: "service sudo { card_required_users = alice; }", id: strict, parts: []string{"card_required_users"}},
		"at another service":       {auth: eitherLine, global: "service login { card_required_users = alice; }"},
		"sufficient":               {auth: "auth sufficient pam_pkcs11.so\n", global: "card_required_users = alice;", id: strict, parts: []string{"sufficient"}},
		"refusals end the stack":   {auth: strictLine, global: "card_required_users = alice;"},
		"this refusal ends it":     {auth: "auth [success=2 cred_insufficient=die default=ignore] pam_pkcs11.so\n", global: "card_required_users = alice;"},
		"required":                 {auth: "auth required pam_pkcs11.so\n", global: "card_required_users = alice;"},
		"all but a group":          {auth: onlyLines, global: "card_required_users = alice;"},
		"a group's members":        {auth: groupLines, global: "card_required_users = alice;"},
		"none of ours":             {global: "card_required_users = alice;"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.put("/etc/pam.d/common-auth", common(test.auth))
			tr.put("/etc/pam.d/sudo", "@include common-auth\n")
			tr.module("module = builtin; cert_policy = none;", "cn", test.global)
			m := tr.machine()
			if m.Config == nil {
				t.Fatal(m.ConfigError)
			}
			m.Service = "sudo"
			expect(t, findings(t, m, "stack-card-required"), test.id, diagnosis.Refusal, test.parts...)
		})
	}

	want{"not-looked-at", diagnosis.Note, "configuration", ""}.in(t, run(t, newTree(t).machine(), "stack-card-required"))
}

// TestScreenSavers: default=die refuses PAM_IGNORE too, which matters where screen_savers is set.
func TestScreenSavers(t *testing.T) {
	lines := strings.Replace(onlyLines, " ignore=ignore", "", 1)
	m := pamMachine(t, map[string]string{"common-auth": common(lines), "sudo": "@include common-auth\n"})
	expect(t, findings(t, m, "stack-control-flow"), "", "")

	m.Config = &config.Config{}
	m.Config.Global.ScreenSavers = []string{"i3lock"}
	expect(t, findings(t, m, "stack-control-flow"), "stack-screen-savers", diagnosis.Warning, "ignore=ignore")
}

// TestJumps: jumps beyond the end, and onto pam_deny.
func TestJumps(t *testing.T) {
	for name, test := range map[string]struct{ auth, id, part string }{
		"good":       {eitherLine, "", ""},
		"beyond":     {"auth [success=9 default=ignore] pam_pkcs11.so\n", "stack-jump-beyond", "skips 9 lines"},
		"onto deny":  {"auth\t[success=1 default=ignore]\tpam_pkcs11.so\n", "stack-jump-deny", ""},
		"a shorter":  {"auth [success=1 default=ignore] pam_pkcs11.so\nauth requisite pam_deny.so\n", "", ""},
		"conditions": {"auth [success=1 default=ignore] pam_succeed_if.so uid < 1000\n" + eitherLine, "", ""},
	} {
		m := pamMachine(t, map[string]string{"common-auth": common(test.auth), "sudo": "@include common-auth\n"})
		found := findings(t, m, "stack-jumps")
		if name == "onto deny" { // success=1 skips pam_unix and lands on the block's pam_deny
			expect(t, found, test.id, diagnosis.Refusal, "common-auth:3", "pam_deny.so (/etc/pam.d/common-auth:6)")
			continue
		}
		expect(t, found, test.id, diagnosis.Refusal, test.part)
	}
}

// TestShiftedJumps: numbers that the next profile makes wrong.
func TestShiftedJumps(t *testing.T) {
	for name, test := range map[string]struct{ service, common, id string }{
		"none":            {"@include common-auth\n", common(eitherLine), ""},
		"in the service":  {"auth [success=3 default=ignore] pam_x.so\n@include common-auth\n", common(eitherLine), "stack-jump-shifted"},
		"over a substack": {"auth [success=1 default=ignore] pam_x.so\nauth substack common-auth\nauth required pam_permit.so\n", common(eitherLine), ""},
		"in the file":     {"@include common-auth\n", "auth [success=2 default=ignore] pam_x.so\n" + common(eitherLine), "stack-jump-shifted"},
		"over its own":    {"auth [success=1 default=ignore] pam_x.so\nauth required pam_y.so\n@include common-auth\n", common(eitherLine), ""},
	} {
		m := pamMachine(t, map[string]string{"common-auth": test.common, "sudo": test.service})
		t.Run(name, func(t *testing.T) { expect(t, findings(t, m, "stack-shifted-jumps"), test.id, diagnosis.Warning) })
	}
}

// saved is what pam-auth-update has written to its directory, for common with the line of a card or a password.
const saved = "Module: pkcs11\n[success=end default=ignore]\tpam_pkcs11.so\nModule: unix\n[success=end default=ignore]\tpam_unix.so nullok try_first_pass\n" +
	"Module: capability\noptional\t\t\tpam_cap.so\n"

// authUpdate are the files of a machine where pam-auth-update has enabled the profile.
func authUpdate(commonAuth, profiles string) map[string]string {
	files := map[string]string{
		"sudo": "@include common-auth\n", "var/lib/pam/auth": saved,
		"usr/share/pam-configs/pkcs11":   "Name: Smart card or password\nDefault: no\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_pkcs11.so\n",
		"var/cache/debconf/config.dat":   "Name: libpam-runtime/profiles\nTemplate: x\nValue: " + profiles + "\n\nName: other\nValue: pkcs11-only\n",
		"usr/share/pam-configs/pkcs11-x": "",
	}
	for _, kind := range commonTypes[1:] {
		files["var/lib/pam/"+kind] = ""
		files["common-"+kind] = blockBegins + "\n" + blockFallback + "\n" + blockAdditional + "\n" + blockEnds + "\n"
	}
	files["common-auth"] = commonAuth
	return files
}

// TestFrozen: what freezes the block of pam-auth-update, and what does not.
func TestFrozen(t *testing.T) {
	for name, test := range map[string]struct{ text, id, part string }{
		"as written":         {common(eitherLine), "", ""},
		"an option more":     {common(strings.Replace(eitherLine, ".so", ".so debug", 1)), "", ""},
		"another number":     {common(strings.Replace(eitherLine, "=2", "=7", 1)), "", ""},
		"two numbers":        {common("auth\t[success=2 authinfo_unavail=1 default=die]\tpam_pkcs11.so\n"), "stack-frozen", "common-auth:3"},
		"a line more":        {common(eitherLine + "auth optional pam_x.so\n"), "stack-frozen", "common-auth:4"},
		"a line before":      {"auth optional pam_x.so\n" + common(eitherLine), "", ""},
		"a line less":        {common(""), "", ""},
		"without a comment":  {strings.Replace(common(eitherLine), blockFallback, "#", 1), "stack-frozen", "comment"},
		"a control by hand":  {common("auth sufficient pam_pkcs11.so\n"), "stack-frozen", "pam-auth-update --force"},
		"the file not there": {"", "stack-frozen", "comment"},
	} {
		m := pamMachine(t, authUpdate(test.text, "pkcs11, unix"))
		t.Run(name, func(t *testing.T) { expect(t, findings(t, m, "stack-frozen"), test.id, diagnosis.Warning, test.part) })
	}
}

// TestProfiles: what is enabled is there, and what is there is enabled.
func TestProfiles(t *testing.T) {
	for name, test := range map[string]struct {
		text, profiles, id string
		severity           diagnosis.Severity
	}{
		"good":        {common(eitherLine), "pkcs11, unix, capability", "", ""},
		"not written": {common(""), "pkcs11, unix", "profile-not-written", diagnosis.Refusal},
		"not enabled": {common(eitherLine), "unix", "profile-disabled", diagnosis.Warning},
		"none":        {common(""), "unix", "", ""},
	} {
		m := pamMachine(t, authUpdate(test.text, test.profiles))
		t.Run(name, func(t *testing.T) { expect(t, findings(t, m, "stack-profiles"), test.id, test.severity) })
	}
	if found := findings(t, pamMachine(t, authUpdate(common(eitherLine), "pkcs11, pkcs11-only")), "stack-profiles"); !has(found, "profile-twice") {
		t.Error(found)
	}
}

// TestModules: modules that are missing, of another architecture, or no modules.
func TestModules(t *testing.T) {
	files := map[string]string{"lib/x86_64-linux-gnu/security/pam_text.so": "no library"}
	stack := "auth required pam_text.so\nauth required pam_missing.so\n-auth optional pam_dash.so\nauth optional pam_optional.so\nauth required pam_permit.so\naccount required pam_rootok.so\n"
	files["sudo"] = stack
	m := pamMachine(t, files)
	for _, name := range []string{"pam_permit.so", "pam_rootok.so"} {
		found, _ := filepath.Glob("/lib/*/security/" + name)
		if len(found) == 0 {
			t.Fatalf("%s is missing: install the Debian package libpam-modules", name)
		}
		data, err := os.ReadFile(found[0])
		if err == nil {
			err = os.WriteFile(m.Path("/lib/x86_64-linux-gnu/security/"+name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	var got []string
	for _, f := range findings(t, m, "stack-modules") {
		got = append(got, string(f.Severity)+" "+f.ID+" "+f.Subject)
	}
	want := []string{
		"refusal stack-module-missing /etc/pam.d/sudo:1: pam_text.so (sudo)",
		"refusal stack-module-missing /etc/pam.d/sudo:2: pam_missing.so (sudo)",
		"note stack-module-missing /etc/pam.d/sudo:4: pam_optional.so (sudo)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestReadAndArguments: lines that PAM or our module refuses.
func TestReadAndArguments(t *testing.T) {
	m := pamMachine(t, map[string]string{"sudo": "auth suficient pam_pkcs11.so\n", "su": "@include missing\n"})
	found := findings(t, m, "stack-read")
	if len(found) != 2 || found[0].ID != "stack-unread" || found[0].Subject != "/etc/pam.d/su:1" || found[1].ID != "pam-line-control" {
		t.Errorf("%+v", found)
	}
	m = pamMachine(t, map[string]string{"sudo": "auth sufficient pam_pkcs11.so debugg\n", "su": "auth sufficient pam_pkcs11.so debug\n"})
	expect(t, findings(t, m, "stack-arguments"), "stack-argument", diagnosis.Refusal, "/etc/pam.d/sudo:1 (sudo)", "debugg")
}

// TestReach: services with and without our module.
func TestReach(t *testing.T) {
	m := pamMachine(t, map[string]string{"common-auth": common(eitherLine), "sudo": "@include common-auth\n", "cups": "auth required pam_unix.so\n", "other": "@include common-auth\n"})
	found := findings(t, m, "stack-reach")
	if len(found) != 2 || !strings.Contains(found[0].Fact.String(), "other, sudo") || !strings.Contains(found[1].Fact.String(), "cups") {
		t.Errorf("%+v", found)
	}
	m.Service = "cups"
	expect(t, findings(t, m, "stack-reach"), "stack-not-reached", diagnosis.Warning, "none of /etc/pam.d/cups, /etc/pam.d/other")
	expect(t, findings(t, pamMachine(t, map[string]string{"cups": "auth required pam_unix.so\n"}), "stack-reach"), "stack-none", diagnosis.Warning)
}

// TestBefore: what ends a login before the card is asked for.
func TestBefore(t *testing.T) {
	files := map[string]string{
		"common-auth": common(eitherLine),
		"login":       "auth optional pam_faildelay.so\nauth requisite pam_nologin.so\nauth required pam_env.so\nauth requisite pam_faillock.so preauth\n@include common-auth\n",
	}
	m := pamMachine(t, files)
	found := findings(t, m, "stack-before")
	expect(t, found, "", "")
	if len(found) != 2 || found[0].ID != "stack-before" || !strings.Contains(found[1].Fact.String(), "pam_faillock.so") {
		t.Errorf("%+v", found)
	}

	files["etc/nologin"] = ""
	expect(t, findings(t, pamMachine(t, files), "stack-before"), "stack-nologin", diagnosis.Warning, "/etc/pam.d/login:2", "rm /etc/nologin")
	delete(files, "etc/nologin")

	record := make([]byte, tallyRecord)
	binary.NativeEndian.PutUint16(record[tallyStatus:], tallyValid)
	files["var/run/faillock/alice"] = strings.Repeat(string(record), 3)
	m = pamMachine(t, files)
	m.User = "alice"
	expect(t, findings(t, m, "stack-before"), "stack-faillock", diagnosis.Warning, "faillock --user alice --reset", "3 failures")
	m.User = "bob"
	expect(t, findings(t, m, "stack-before"), "", "")
}

// TestPasswordUsersAndEdits: modules that miss the password, and files that are left.
func TestPasswordUsersAndEdits(t *testing.T) {
	m := pamMachine(t, map[string]string{
		"common-auth": common(eitherLine), "sudo": "@include common-auth\nauth optional pam_mount.so\n", "gdm-password": "@include common-auth\nauth optional pam_gnome_keyring.so\n",
		"sudo.dpkg-new": "", "var/lib/dpkg/updates/0001": "",
	})
	found := findings(t, m, "stack-password-users")
	expect(t, found, "stack-needs-password", diagnosis.Warning, "/etc/pam.d/sudo:2 (sudo)")
	if !has(found, "stack-keyring") {
		t.Error(found)
	}
	if found := findings(t, m, "stack-edits"); len(found) != 2 || found[0].Subject != "/etc/pam.d/sudo.dpkg-new" {
		t.Error(found)
	}
}
