package setup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/po/tool"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/internal/pamlogin"
	"pam_pkcs11/setup/undo"
)

// TestConfigurationsLoad: what setup writes has no error, for each kind of setup.
func TestConfigurationsLoad(t *testing.T) {
	for name, s := range map[string]settings{
		"paired":    {Mode: doctor.ModePassword, Mapper: "enrolled"},
		"only":      {Mode: doctor.ModeOnly, Mapper: "cn"},
		"library":   {Mode: doctor.ModePassword, Mapper: "enrolled", Library: "/usr/lib/opensc-pkcs11.so"},
		"directory": {Mode: doctor.ModePassword, Mapper: "ldap", Options: []string{"uri=ldaps://ldap.example.org", "base=dc=example,dc=org"}},
	} {
		text, err := s.text()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if report := config.CheckData("pam_pkcs11.conf", text); len(report.Errors) > 0 {
			t.Errorf("%s: %v\n%s", name, report.Errors, text)
		}
	}
	for _, s := range []settings{
		{Mapper: "cn; debug"},
		{Mapper: "ldap", Options: []string{"uri"}},
		{Mapper: "ldap", Options: []string{"passwd=secret"}}, // everybody can read it
		{Mapper: "ldap", Options: []string{`uri=x"; debug = "true`}},
		{Mapper: "ldap", Options: []string{"uri=x\ny"}},
		{Mapper: "cn", Library: `/x"`},
	} {
		if text, err := s.text(); err == nil {
			t.Errorf("%+v gives\n%s", s, text)
		}
	}
}

// TestPrompts: a PIN goes to the module's question for one, and a password to no such question.
func TestPrompts(t *testing.T) {
	for text, want := range map[string]bool{
		"Smart card PIN: ":                    true,
		"Smart card PIN (2 tries left): ":     true,
		"Smart card PIN (last try): ":         true,
		"PIN of alice: ":                      true,
		"PIN of Alice (x) (few tries left): ": true,
		"Password: ":                          false,
		"[sudo] password for alice: ":         false,
		"Verification code: ":                 false,
		"PIN":                                 false,
		"New Smart card PIN: x":               false,
		"":                                    false,
	} {
		if got := asksPIN(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestOnce: a question that comes back was answered wrongly, and gets no second answer.
func TestOnce(t *testing.T) {
	given := 0
	answer := once(func(pamlogin.Asked) (*secret.PIN, error) { given++; return nil, nil })
	for i, want := range []error{nil, nil, pamlogin.ErrNoAnswer, pamlogin.ErrNoAnswer} {
		text := []string{"Smart card PIN: ", "Password: ", "Smart card PIN (2 tries left): ", "Password: "}[i]
		if _, err := answer(pamlogin.Asked{Text: text, Secret: true}); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if given != 2 {
		t.Errorf("%d answers", given)
	}
}

func TestReplaceWord(t *testing.T) {
	const line = "auth [success=ignore default=1] pam_succeed_if.so quiet user ingroup smartcard\n"
	if got := replaceWord(line, "ingroup", "staff"); got != strings.Replace(line, "smartcard", "staff", 1) {
		t.Error(got)
	}
	if got := replaceWord(line, "notingroup", "staff"); got != line {
		t.Error(got)
	}
}

// TestWithGroup: only the profile's own condition is changed.
func TestWithGroup(t *testing.T) {
	const (
		others = "auth required pam_succeed_if.so user ingroup staff\n"
		module = "auth [success=2 ignore=ignore default=die] pam_pkcs11.so card_only\n"
	)
	for _, word := range []string{"ingroup", "notingroup"} {
		condition := "auth [success=ignore default=1] pam_succeed_if.so quiet user " + word + " "
		got := withGroup(others+condition+"smartcard\n"+module+others, "cards")
		if want := others + condition + "cards\n" + module + others; got != want {
			t.Errorf("%s", got)
		}
	}
}

// madeTree is a tree with files.
func madeTree(t *testing.T, files map[string]string) *undo.Tree {
	t.Helper()
	dir := t.TempDir()
	for p, text := range files {
		full := filepath.Join(dir, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := undo.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

// TestInsertLine: in front of the include, once, and in no file with lines of auth behind it, which
// sufficient would skip.
func TestInsertLine(t *testing.T) {
	tree := madeTree(t, map[string]string{
		"/etc/pam.d/sudo":  "#%PAM\nsession required pam_limits.so\n@include common-auth\n@include common-account\n",
		"/etc/pam.d/login": "@include common-auth\nauth optional pam_group.so\n",
		"/etc/pam.d/own":   "auth required pam_unix.so\n",
		"/etc/pam.d/first": "@include common-auth\n",
		"/etc/pam.d/token": "@include common-auth\n@include second-factor\n",
		"/etc/pam.d/upper": "@include common-auth\n-AUTH required pam_second.so\n",
	})
	for range 2 {
		if err := errors.Join(insertLine(tree, "sudo"), insertLine(tree, "first")); err != nil {
			t.Fatal(err)
		}
	}
	for service, want := range map[string]string{
		"sudo":  "#%PAM\nsession required pam_limits.so\nauth sufficient pam_pkcs11.so\n@include common-auth\n@include common-account\n",
		"first": "auth sufficient pam_pkcs11.so\n@include common-auth\n",
	} {
		if got, err := tree.ReadFile("/etc/pam.d/" + service); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", service, err, got)
		}
	}
	for _, service := range []string{"login", "own", "missing", "token", "upper"} {
		if err := insertLine(tree, service); err == nil {
			t.Errorf("%s got a line", service)
		}
	}
}

func TestEnabledProfiles(t *testing.T) {
	tree := madeTree(t, map[string]string{"/var/lib/pam/auth": "Module: pkcs11\n[success=end]\tpam_pkcs11.so\nModule: unix\nx\nModule: unix\n"})
	got, err := enabledProfiles(tree)
	if err != nil || strings.Join(got, " ") != "pkcs11 unix" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := enabledProfiles(madeTree(t, nil)); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFamily(t *testing.T) {
	for program, want := range map[string]Family{
		"/usr/sbin/pam-auth-update": FamilyDebian,
		"/usr/bin/authselect":       FamilyAuthselect,
		"/usr/sbin/pam-config":      FamilySUSE,
		"/usr/bin/other":            FamilyUnknown,
	} {
		if got := distro.FamilyOf(madeTree(t, map[string]string{program: ""}).Dir); got != want {
			t.Errorf("%s: %s", program, got)
		}
	}
}

// TestSuggestMapper: the first item of the certificate that is called as the account.
func TestSuggestMapper(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	for name, tt := range map[string]struct {
		cert *testca.Cert
		want string
	}{
		"common name":       {ca.Leaf("alice"), "cn"},
		"address":           {ca.Leaf("Alice Example", testca.SAN(testca.Email("alice@example.org"))), "mail"},
		"principal":         {ca.Leaf("alice", testca.SAN(testca.UPN("alice@EXAMPLE.ORG"))), "upn"},
		"nobody":            {ca.Leaf("Alice Example"), ""},
		"another's address": {ca.Leaf("Alice Example", testca.SAN(testca.Email("alice2@example.org"))), ""},
	} {
		c, err := certinfo.Parse(tt.cert.DER)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := suggestMapper(c, "alice"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestReadCA: one certificate of an authority, and nothing else.
func TestReadCA(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, tt := range map[string]struct {
		file  string
		fault string
	}{
		"PEM":         {write("pem", ca.PEM()), ""},
		"DER":         {write("der", ca.DER), ""},
		"a bundle":    {write("bundle", append(ca.PEM(), ca.PEM()...)), "holds 2"},
		"a user's":    {write("leaf", ca.Leaf("alice").PEM()), "not that of an authority"},
		"self-signed": {write("self", testca.SelfSigned("alice").PEM()), "not that of an authority"},
		"expired":     {write("old", testca.NewRoot("Old CA", testca.Expired()).PEM()), "expired"},
		"garbage":     {write("garbage", []byte("x")), ""},
		"too long":    {write("long", make([]byte, maxCA+1)), "longer"},
		"missing":     {filepath.Join(dir, "missing"), "no such file"},
	} {
		_, err := readCA(tt.file)
		good := name == "PEM" || name == "DER"
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOnlyUser: the card must name the user, and nobody else.
func TestOnlyUser(t *testing.T) {
	for name, tt := range map[string]struct {
		m    Mapped
		good bool
	}{
		"that user":        {Mapped{Asked: true, Users: []string{"alice"}}, true},
		"nobody":           {Mapped{Asked: true}, false},
		"another":          {Mapped{Asked: true, Users: []string{"bob"}}, false},
		"that and another": {Mapped{Asked: true, Users: []string{"alice", "bob"}}, false},
		"a bad one":        {Mapped{Asked: true, Users: []string{"alice"}, Refused: "expired"}, false},
		"not asked":        {Mapped{}, true},
	} {
		if why := tt.m.onlyUser("alice"); why.Empty() != tt.good {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// TestMappingCures: a card that is not mapped is told with the mapper's reason, and no cure reads a configuration that
// is not written yet.
func TestMappingCures(t *testing.T) {
	silent := Mapped{Asked: true, Why: []string{"mapper ldap: no entry (&(uid=alice)(userCertificate=*))", "mapper cn: no\x1b"}}
	const want = "the card is not mapped to alice: mapper ldap: no entry (&(uid=alice)(userCertificate=*)); mapper cn: no\ufffd"
	if why := silent.onlyUser("alice"); why.String() != want {
		t.Errorf("%q", why)
	}

	refused := Mapped{Asked: true, Refused: "no issuer"}
	for _, tt := range []struct {
		m       Mapped
		written bool
		says    string
	}{
		{silent, true, "run: pam-pkcs11 map --user alice"},
		{silent, false, "pam-pkcs11 setup --user alice --pin-key"},
		{refused, true, "run: pam-pkcs11 map --user alice"},
		{refused, false, "--ca FILE"},
	} {
		cure := tt.m.cure("alice", tt.written).String()
		if !strings.Contains(cure, tt.says) || !tt.written && strings.Contains(cure, "pkcs11 map") {
			t.Errorf("%+v, %v: %q", tt.m, tt.written, cure)
		}
	}
}

// TestGuardRefuses: what stands against the change refuses it, and can be forced one by one.
func TestGuardRefuses(t *testing.T) {
	report := func() *Report {
		return &Report{Profiles: []string{"pkcs11", "unix"}, Guard: []GuardFinding{
			{Number: 1, Check: "root-way-in", Refuses: true, ID: "x", Severity: "refusal"},
			{Number: 15, Check: "card-certificates", ID: "y", Severity: "warning"},
		}}
	}
	with := func(force ...string) *run {
		return &run{o: Options{User: "alice", Force: force}, plan: Plan{Family: FamilyDebian, On: []string{"pkcs11"}}}
	}
	var no *RefusedError
	if err := with().judge(report()); !errors.As(err, &no) {
		t.Errorf("not refused: %v", err)
	}
	if err := with("2", "stack-modules").judge(report()); !errors.As(err, &no) {
		t.Errorf("forced by another check: %v", err)
	}
	for _, force := range []string{"1", "root-way-in"} {
		r := with(force)
		if err := r.judge(report()); err != nil || len(r.result.Forced) != 1 {
			t.Errorf("--force %s: %v, %q", force, err, r.result.Forced)
		}
	}

	r := report()
	r.Profiles = []string{"unix"} // pam-auth-update has done nothing, with status 0
	if err := with("1").judge(r); !errors.As(err, &no) {
		t.Errorf("the profile is not on: %v", err)
	}
	r = report()
	r.Frozen = message.Encoded(message.Textf("pam-auth-update: Local modifications to /etc/pam.d/common-*, not updating."))
	if err := with("1").judge(r); !errors.As(err, &no) {
		t.Errorf("the block is frozen: %v", err)
	}
	r = report()
	r.Config = []string{"no mapper"}
	var conf *ConfigError
	if err := with("1").judge(r); !errors.As(err, &conf) {
		t.Errorf("the configuration refuses all: %v", err)
	}
}

// TestSentencesCrossTheBorder: what the process in the namespace found is told in the language of who
// asked.
func TestSentencesCrossTheBorder(t *testing.T) {
	fact := message.Textf("no member has a password that works (%s): it is not set, locked or has ended", "bob")
	var sent bytes.Buffer
	if err := send(&sent, &Report{Guard: []GuardFinding{{Number: 2, Fact: message.Encoded(fact)}}}); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := receive(&sent, &got); err != nil {
		t.Fatal(err)
	}

	italian := tool.New([]string{"it"})
	if want := fact.In(italian); want == fact.String() || got.Guard[0].Fact.Text().In(italian) != want {
		t.Errorf("%q, not %q", got.Guard[0].Fact.Text().In(italian), want)
	}
	r := run{o: Options{User: "alice"}, plan: Plan{Family: FamilyLines}}
	_ = r.judge(&got)
	if fact := r.result.Findings[0].Fact; fact.In(italian) == fact.String() {
		t.Errorf("%q in English", fact)
	}
}

// wrongPIN is a rehearsal in which no PIN is right; it counts those that it was given.
type wrongPIN struct{ given int }

func (w *wrongPIN) login(_ context.Context, _ order, answer answerer) (*pamlogin.End, error) {
	if pin, err := answer(pamlogin.Asked{Text: "Smart card PIN: ", Secret: true}); err == nil && pin.Len() > 0 {
		w.given++
	}
	return &pamlogin.End{Auth: 7, Account: -1}, nil
}

// TestWrongPINIsSentOnce: also where the failed login is forced, no second service gets the PIN.
func TestWrongPINIsSentOnce(t *testing.T) {
	pin, err := secret.New([]byte("123456"))
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Wipe()
	for _, force := range [][]string{nil, {"12"}} {
		r := &run{o: Options{User: "alice", PIN: pin, Force: force}, found: &found{card: &probe.Card{}}}
		w := &wrongPIN{}
		if err := r.tryCard(t.Context(), w, []string{"sudo", "login"}); (err == nil) != (force != nil) {
			t.Errorf("--force %q: %v", force, err)
		}
		if w.given != 1 {
			t.Errorf("--force %q: the PIN was sent %d times", force, w.given)
		}
	}
}
