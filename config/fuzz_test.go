package config_test

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/scconf"
)

// shape is what a tree says, without places and comments.
func shape(b *scconf.Block) string {
	var s strings.Builder
	for _, it := range b.Items {
		s.WriteString("[" + it.Key.Text)
		for _, n := range it.Names {
			s.WriteString("|" + n.Text)
		}
		for _, v := range it.Values {
			s.WriteString("=" + v.Text)
		}
		if it.Block != nil {
			s.WriteString("{" + shape(it.Block) + "}")
		}
		s.WriteString("]")
	}
	return s.String()
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{minimal("debug=on", "slot_num = 0x1;", "mapfile = \"none\""), "pam_pkcs11{a b,c{d=e}}", "a = \"b\n", "}{", "a=b}}", "# c\n\n\na # d\n= {} ;",
		serviceFile("card_others = optional; card_forbidden_groups = \"domain admins\";", "cert_policy = ca, ocsp_on;", "card_only = true; card_required_users = a, b; eku = clientAuth;"),
		serviceFile("foreign_card = skip", "", "foreign_card = refuse } service x y, z { card_others = required; verify_timeout = 1;"),
		"\xef\xbb\xbfx = y;;", "a { b { c {", "x = [0-9]{6}};", "k \"n\"{v==;}", "a = b\x00;", "a\"b = c\"d;", "a = ,,b,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := config.Parse("f", []byte(text), nil); err == nil {
			servicesAreStrict(t, c)
		}
		config.CheckData("f", []byte(text))
		tree, err := scconf.ParseFile("f", []byte(text))
		if err != nil {
			return
		}
		out := tree.Format()
		if len(out) > scconf.MaxFileSize {
			return
		}
		again, err := scconf.ParseFile("f", out)
		if err != nil {
			t.Fatalf("%v\n%q\nwritten for\n%q", err, out, text)
		}
		if shape(again) != shape(tree) || string(again.Format()) != string(out) {
			t.Fatalf("%q\nreads otherwise than\n%q", out, text)
		}
	})
}

// servicesAreStrict: a file that is read lets nothing in by a service block that it keeps out without it.
func servicesAreStrict(t *testing.T, c *config.Config) {
	for _, s := range c.Services() {
		with, err := c.ForService(s.Name)
		if err != nil {
			t.Errorf("service %q of a sound file: %v", s.Name, err)
			continue
		}
		for _, rule := range config.ServiceRules() {
			if rule.Looser != nil && rule.Looser(&with.Global, &c.Global) {
				t.Errorf("service %q: %s is looser than in the file", s.Name, rule.Key)
			}
		}
		for i, m := range with.Modules {
			for _, key := range config.LooserKeys(m, c.Modules[i]) {
				t.Errorf("service %q: %s is looser than in the file", s.Name, key)
			}
		}
	}
}

func FuzzArguments(f *testing.F) {
	f.Add("debug\ncert_policy=none,ca\nslot_num=0x3")
	f.Add("config_file=/a\npkcs11_module=/x\nuse_authtok")
	f.Add("skip_foreign\nempty_pin=fallback\nempty_pin=error")
	f.Add("cert_policy= , ,ca\n=\nnullok=\nca_dir=file:///x")
	f.Fuzz(func(t *testing.T, text string) {
		a, _, err := config.ParseArguments(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		if !strings.HasPrefix(a.ConfigFile, "/") {
			t.Errorf("configuration file %q", a.ConfigFile)
		}
		_, _ = config.Parse("f", []byte("pam_pkcs11 { pkcs11_module default { } }"), a)
	})
}
