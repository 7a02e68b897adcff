package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
)

// minimal is a whole file around global settings, a module block and a mapper block.
func minimal(global, module, mapper string) string {
	return "pam_pkcs11 {\n" + global + "\nuse_mappers = cn;\npkcs11_module default {\n" + module + "\n}\nmapper cn {\n" + mapper + "\n}\n}\n"
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("f.conf", []byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func hasNote(notes []finding.Note, kind finding.NoteKind, part string) bool {
	return slices.ContainsFunc(notes, func(n finding.Note) bool { return n.Kind == kind && strings.Contains(n.Text, part) })
}

// Each row is a fact that was observed with pam_pkcs11 0.6.13 (reference 1.2 to 1.5), and what we make
// of it.
func TestGrammar(t *testing.T) {
	rows := []struct {
		name, global, module, mapper string
		want                         func(*config.Config) any
		value                        any
		kind                         finding.NoteKind
		note                         string // part of a note; "" none asked for
	}{
		{name: "a key in any case", global: "DEBUG = true;", want: func(c *config.Config) any { return c.Global.Debug }, value: true},
		{name: "a boolean by its first letter", global: "debug = Yes;", want: func(c *config.Config) any { return c.Global.Debug }, value: true},
		{name: "true in capitals", global: "debug = TRUE;", want: func(c *config.Config) any { return c.Global.Debug }, value: true},
		{name: "on was false", global: "debug = on;", want: func(c *config.Config) any { return c.Global.Debug }, value: true, kind: finding.NoteDifferent, note: `"on" as false`},
		{name: "1 was false", global: "quiet = 1;", want: func(c *config.Config) any { return c.Global.Quiet }, value: true, kind: finding.NoteDifferent, note: `"1" as false`},
		{name: "enabled was false", module: "support_threads = enabled;", want: func(c *config.Config) any { return c.Module.SupportThreads }, value: true, kind: finding.NoteDifferent, note: "as false"},
		{name: "off is false", global: "debug = off;", want: func(c *config.Config) any { return c.Global.Debug }, value: false},
		{name: "no blanks around =", global: "debug=true;", want: func(c *config.Config) any { return c.Global.Debug }, value: true, kind: finding.NoteDifferent, note: "blank before ="},
		{name: "no blank before =", global: "debug= true;", want: func(c *config.Config) any { return c.Global.Debug }, value: true, kind: finding.NoteDifferent, note: "blank before ="},
		{name: "no blank after =", global: "debug =true;", want: func(c *config.Config) any { return c.Global.Debug }, value: true},
		{name: "a missing ;", global: "debug = true\nquiet = true", want: func(c *config.Config) any { return []bool{c.Global.Debug, c.Global.Quiet} }, value: []bool{true, true}, kind: finding.NoteTolerated, note: "a ; is missing"},
		{name: "a missing ; and a comment", global: "debug = true # yes\n# more\nquiet=true", want: func(c *config.Config) any { return []bool{c.Global.Debug, c.Global.Quiet} }, value: []bool{true, true}},
		{name: "a missing ; before }", mapper: "ignorecase = true", want: func(c *config.Config) any { return c.Mappers[0].Values.Bool("ignorecase") }, value: true, kind: finding.NoteTolerated, note: "a ; is missing"},
		{name: "a ; too many", global: "debug = true;;", want: func(c *config.Config) any { return c.Global.Debug }, value: true, kind: finding.NoteTolerated, note: "a ; too many"},
		{name: "a quoted value", module: `token_type = "Health card";`, want: func(c *config.Config) any { return c.Module.TokenType }, value: "Health card"},
		{name: "no escapes in quotes", module: `token_type = "a\";`, want: func(c *config.Config) any { return c.Module.TokenType }, value: `a\`},
		{name: "# in a word is data", module: "module = /lib/a#b.so;", want: func(c *config.Config) any { return c.Module.Path }, value: "/lib/a#b.so"},
		{name: "# in quotes is data", module: `module = "/lib/#b.so";`, want: func(c *config.Config) any { return c.Module.Path }, value: "/lib/#b.so"},
		{name: "= in a value", module: "environment = SOFTHSM2_CONF=/etc/s.conf, A=b=c;", want: func(c *config.Config) any { return strings.Join(c.Module.Environment, " ") }, value: "SOFTHSM2_CONF=/etc/s.conf A=b=c"},
		{name: "braces in a value", global: "pin_pattern = [0-9]{6};", want: func(c *config.Config) any {
			return []bool{c.Global.PINPattern.MatchString("123456"), c.Global.PINPattern.MatchString("1234567")}
		}, value: []bool{true, false}},
		{name: "a } glued to a value closes the block", mapper: "mapfile = none;}\nmapper uid { ignorecase = true", want: func(c *config.Config) any { return len(c.Mappers) }, value: 1},
		{name: "a value with } behind", mapper: "debug = true} mapper uid {", want: func(c *config.Config) any { return c.Mappers[0].Debug }, value: true, kind: finding.NoteDifferent, note: "as a part of"},
		{name: "a list of quoted words", global: `screen_savers = "a", "b";`, want: func(c *config.Config) any { return strings.Join(c.Global.ScreenSavers, " ") }, value: "a b"},
		{name: "a list in one pair of quotes", global: `screen_savers = "a, b";`, want: func(c *config.Config) any { return strings.Join(c.Global.ScreenSavers, " ") }, value: "a b", kind: finding.NoteDifferent, note: "one word"},
		{name: "a list over several lines", global: "screen_savers = a,\n  b # two\n  , c;", want: func(c *config.Config) any { return strings.Join(c.Global.ScreenSavers, " ") }, value: "a b c"},
		{name: "a list given twice is added up", global: "screen_savers = a;\nscreen_savers = b;", want: func(c *config.Config) any { return strings.Join(c.Global.ScreenSavers, " ") }, value: "a b", kind: finding.NoteTolerated, note: "added up"},
		{name: "a scalar given twice keeps the first", module: "token_type = A;\ntoken_type = B;", want: func(c *config.Config) any { return c.Module.TokenType }, value: "A", kind: finding.NoteTolerated, note: "the first one counts"},
		{name: "an empty value is the default", module: "token_type = ;", want: func(c *config.Config) any { return c.Module.TokenType }, value: "Smart card"},
		{name: "an empty value, then one", module: "token_type = ;\ntoken_type = B;", want: func(c *config.Config) any { return c.Module.TokenType }, value: "B"},
		{name: "a comma too many", global: "screen_savers = a, , b, ;", want: func(c *config.Config) any { return strings.Join(c.Global.ScreenSavers, " ") }, value: "a b", kind: finding.NoteTolerated, note: "a comma too many"},
		{name: "a number in hexadecimal", module: "slot_num = 0x10;", want: func(c *config.Config) any { return c.Module.SlotNum }, value: 16},
		{name: "a number in octal", module: "slot_num = 010;", want: func(c *config.Config) any { return c.Module.SlotNum }, value: 8},
		{name: "CR line ends", global: "debug = true;\r\nquiet = true;\r", want: func(c *config.Config) any { return c.Global.Quiet }, value: true},
		{name: "file:// before ca_dir", module: "ca_dir = file:///etc/ca;", want: func(c *config.Config) any { return c.Module.CADir }, value: "/etc/ca", kind: finding.NoteDifferent, note: "relative"},
		{name: "a mapfile by its path", mapper: "mapfile = /etc/map;", want: func(c *config.Config) any { return c.Mappers[0].Values.String("mapfile") }, value: "file:///etc/map", kind: finding.NoteDifferent, note: "without file://"},
		{name: "a mapfile with one slash", mapper: "mapfile = file:/etc/map;", want: func(c *config.Config) any { return c.Mappers[0].Values.String("mapfile") }, value: "file:///etc/map"},
		{name: "no mapfile", mapper: `mapfile = "none";`, want: func(c *config.Config) any { return c.Mappers[0].Values.String("mapfile") }, value: ""},
		{name: "an old mapper's shared object", mapper: "module = /lib/pam_pkcs11/uid_mapper.so;", want: func(c *config.Config) any { return c.Mappers[0].Type }, value: "uid"},
		{name: "a mapper of a type", mapper: "type = subject;", want: func(c *config.Config) any { return c.Mappers[0].Name + c.Mappers[0].Type }, value: "cnsubject"},
		{name: "purposes by name", module: "eku = clientAuth, 1.2.3;", want: func(c *config.Config) any { return strings.Join(c.Module.EKU.Required, " ") }, value: "1.3.6.1.5.5.7.3.2 1.2.3"},
		{name: "chain", module: "partial_chain = true; v1_anchors = true; min_rsa_bits = 1024; clock_skew = 300; required_policies = 1.2.3, 2.999; required_policies_match = all; expiry_warning_days = 14;",
			want: func(c *config.Config) any { return fmt.Sprint(c.Module.Chain) }, value: "{true true false 1024 5m0s [1.2.3 2.999] true 14}"},
		{name: "lists", module: "cert_policy = ca, crl_auto; crl_scope = leaf; crl_grace = 3600; crl_max_size = 1; proxy = http://proxy:3128;\ncrl_url = http://h/a.crl, \"ldap://h/cn=a,o=b?certificateRevocationList\", file:///a/b.crl;",
			want: func(c *config.Config) any { return fmt.Sprint(c.Module.CRL, c.Module.Proxy) }, value: "{true 1h0m0s [http://h/a.crl ldap://h/cn=a,o=b?certificateRevocationList file:///a/b.crl] 1048576 [] []}http://proxy:3128"},
		{name: "purposes ignored", module: "eku = ignore;", want: func(c *config.Config) any { return fmt.Sprint(c.Module.EKU.Ignore, c.Module.EKU.Required) }, value: "true []"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c := parsed(t, minimal(row.global, row.module, row.mapper))
			if got := row.want(c); fmt.Sprint(got) != fmt.Sprint(row.value) {
				t.Errorf("got %v, want %v", got, row.value)
			}
			if row.note != "" && !hasNote(c.Notes, row.kind, row.note) {
				t.Errorf("no note %v with %q in %v", row.kind, row.note, c.Notes)
			}
		})
	}
}

func TestBlocks(t *testing.T) {
	rows := []struct {
		name, text string
		note       string
	}{
		{"no blank before {", "pam_pkcs11{ use_pkcs11_module=soft; use_mappers=cn;\npkcs11_module soft{module=/a.so;}mapper cn{}}", "blank before {"},
		{"block names in any case", "PAM_PKCS11 { use_pkcs11_module = SOFT; PKCS11_Module soft { } }", ""},
		{"several names", "pam_pkcs11 { pkcs11_module default, soft other { } }", "a block has one name"},
		{"a quoted name", "pam_pkcs11 { pkcs11_module \"default\" { } }", ""},
		{"a second block of a name", "pam_pkcs11 { pkcs11_module default { } pkcs11_module default { token_type = x; } }", "second block"},
		{"other blocks in the file", "pkcs11_eventmgr { x = y; }\npam_pkcs11 { pkcs11_module default { } }", "is not read"},
		{"settings outside", "debug = true;\npam_pkcs11 { pkcs11_module default { } }", "outside the block"},
		{"a byte order mark", "\xef\xbb\xbfpam_pkcs11 { pkcs11_module default { } }", "byte order mark"},
		{"a comment in Latin-1", "# Jos\xe9\npam_pkcs11 { pkcs11_module default { } }", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c := parsed(t, row.text)
			if c.Module.Name == "" || c.Module.TokenType != "Smart card" {
				t.Errorf("module %+v", c.Module)
			}
			if row.note != "" && !slices.ContainsFunc(c.Notes, func(n finding.Note) bool { return strings.Contains(n.Text, row.note) }) {
				t.Errorf("no note with %q in %v", row.note, c.Notes)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	c := parsed(t, "pam_pkcs11 { use_mappers = cn, mail; pkcs11_module default { } }")
	m := c.Module
	if m.Path != "/etc/pam_pkcs11/pkcs11_module.so" || m.CADir != "/etc/pam_pkcs11/cacerts" || m.CRLDir != "/etc/pam_pkcs11/crls" || m.TokenType != "Smart card" {
		t.Errorf("module %+v", m)
	}
	if (m.Policy != config.Policy{CA: true, Signature: true}) {
		t.Errorf("policy %+v", m.Policy)
	}
	g := c.Global
	if g.EmptyPIN != "error" || g.ForwardPIN != "off" || g.RemoteLogin != "refuse" || g.ForeignCard != "refuse" || !g.RequirePIN || !g.AskCertificate ||
		g.VerifyTimeout.Seconds() != 10 || g.WaitForCardTimeout.Seconds() != 60 || g.UnverifiedNames || g.NullOK || g.AllowUnknownUser || g.PINPattern != nil {
		t.Errorf("global %+v", g)
	}
	if len(c.Mappers) != 2 || c.Mappers[0].Line != 0 || !c.Mappers[1].Values.Bool("ignorecase") || c.Mappers[0].Values.Set("mapfile") {
		t.Errorf("mappers %+v", c.Mappers)
	}
}

// Two files read one after the other do not influence each other (the C module kept what one line said).
func TestNoStateBetweenFiles(t *testing.T) {
	one := parsed(t, minimal("card_only = true; debug = true;", "cert_policy = ca, crl_auto;", "ignorecase = true;"))
	two := parsed(t, minimal("", "", ""))
	if !one.Global.CardOnly || two.Global.CardOnly || two.Global.Debug || two.Module.Policy.CRL != "" || two.Mappers[0].Values.Bool("ignorecase") {
		t.Errorf("second file %+v", two)
	}
}

func TestCertmapRules(t *testing.T) {
	c := parsed(t, `pam_pkcs11 { use_mappers = ad; pkcs11_module default { }
mapper ad { type = certmap;
  rule first { priority = 1; match = "<ISSUER>^CN=CA$"; map = "(uid={subject_rfc822_name.short_name})"; domains = a.example, b.example; }
  rule { match = "<SUBJECT>.*"; } } }`)
	rules := c.Mappers[0].Rules
	if len(rules) != 2 || rules[0].Name != "first" || rules[0].Values.Int("priority") != 1 || rules[0].Values.String("match") != "<ISSUER>^CN=CA$" ||
		len(rules[0].Values.List("domains")) != 2 || rules[1].Name != "line 4" || rules[1].Values.Int("priority") != -1 {
		t.Errorf("rules %+v", rules)
	}
}

func TestUnknownKeyStopsATest(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a key that the schema does not have was read")
		}
	}()
	parsed(t, minimal("", "", "")).Mappers[0].Values.String("no_such_key")
}

func TestNewMapper(t *testing.T) {
	m, err := config.NewMapper("users", "generic", map[string][]string{"mapfile": {"file:///etc/m"}, "ignorecase": {"true"}})
	if err != nil || m.Type != "generic" || m.Values.String("mapfile") != "file:///etc/m" || !m.Values.Bool("ignorecase") || m.Values.String("cert_item") != "cn" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := config.NewMapper("x", "nomapper", nil); err == nil {
		t.Error("made a mapper of an unknown type")
	}
}
