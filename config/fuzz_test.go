package config

import (
	"strings"
	"testing"

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
		"\xef\xbb\xbfx = y;;", "a { b { c {", "x = [0-9]{6}};", "k \"n\"{v==;}", "a = b\x00;", "a\"b = c\"d;", "a = ,,b,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = Parse("f", []byte(text), nil)
		CheckData("f", []byte(text))
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

func FuzzArguments(f *testing.F) {
	f.Add("debug\ncert_policy=none,ca\nslot_num=0x3")
	f.Add("config_file=/a\npkcs11_module=/x\nuse_authtok")
	f.Add("cert_policy= , ,ca\n=\nnullok=\nca_dir=file:///x")
	f.Fuzz(func(t *testing.T, text string) {
		a, _, err := ParseArguments(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		if !strings.HasPrefix(a.ConfigFile, "/") {
			t.Errorf("configuration file %q", a.ConfigFile)
		}
		_, _ = Parse("f", []byte("pam_pkcs11 { pkcs11_module default { } }"), a)
	})
}
