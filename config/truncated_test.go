package config_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// sameMeaning compares all of two configurations that decides about a login.
func sameMeaning(a, b *config.Config) bool {
	one, two := *a, *b
	one.Notes, two.Notes = nil, nil
	return cmp.Equal(one, two,
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmp.Comparer(func(x, y *regexp.Regexp) bool { return fmt.Sprint(x) == fmt.Sprint(y) }),
		cmp.Comparer(func(x, y *schema.Table) bool { return (x == nil) == (y == nil) && (x == nil || x.Type == y.Type) }))
}

// wholeFiles are valid files that between them use every form of the grammar.
func wholeFiles(t *testing.T) map[string]string {
	example, err := os.ReadFile("../pam_pkcs11.conf.example")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"our example":     string(example),
		"Debian":          string(readDebianExample(t)),
		"an old example":  string(testdata(t, "old-example-0.6.9.conf")),
		"Ubuntu":          string(testdata(t, "ubuntu-guide.conf")),
		"STIG":            string(testdata(t, "stig-offline.conf")),
		"Red Hat":         string(testdata(t, "redhat-guide.conf")),
		"a word with }":   "pam_pkcs11 {\npkcs11_module default { }\npin_pattern = a}b;\n}\n",
		"glued braces":    "pam_pkcs11 {\npkcs11_module default { token_type = a}\nmapper cn { ignorecase = true}}\n",
		"missing ;":       minimal("debug = true\nquiet = true", "token_type = \"a b\"\nslot_num = 1", "ignorecase = true"),
		"lists":           minimal("screen_savers = a,\n  \"b c\" # two\n  , d;", "cert_policy = ca, signature, crl_auto;", ""),
		"rules":           "pam_pkcs11 { use_mappers = c; pkcs11_module default { }\nmapper c { type = certmap; rule a { match = \"<KU>digitalSignature\"; } } }",
		"more blocks":     "debug = true;\npam_pkcs11 { pkcs11_module default { } }\npkcs11_eventmgr { daemon = true; event a { action = b, \"c d\"; } }\nx = y, z;\n# end",
		"no newline":      "pam_pkcs11 { pkcs11_module default { } }",
		"byte order mark": "\xef\xbb\xbfpam_pkcs11 {\r\npkcs11_module default {\r\n}\r\n}\r\n",
	}
}

// A file that was cut off anywhere, by a full disk or a copy that broke off, is refused, or nothing
// that counts is missing.
func TestEveryPrefixIsRefusedOrMeansTheWhole(t *testing.T) {
	for name, text := range wholeFiles(t) {
		t.Run(name, func(t *testing.T) {
			whole, err := config.Parse("f.conf", []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(text) {
				prefix := []byte(text[:n])
				if _, err := scconf.ParseFile("f.conf", prefix); err != nil {
					continue
				}
				part, err := config.Parse("f.conf", prefix, nil)
				if err == nil && !sameMeaning(part, whole) {
					t.Fatalf("cut after %d bytes it is read, and means something else:\n%s", n, prefix)
				}
			}
		})
	}
}

// The error has the place of what is open, innermost first, and is the only one.
func TestTruncatedFilesNameWhatIsOpen(t *testing.T) {
	rows := []struct {
		name, text, want string
	}{
		{"a block of the module", "pam_pkcs11 {\n  pkcs11_module default {\n    slot_num = 1;\n",
			`f.conf:2:3: the file ends before the } of the block pkcs11_module "default"`},
		{"the outer block", "pam_pkcs11 {\n  pkcs11_module default { }\n",
			`f.conf:1:1: the file ends before the } of the block pam_pkcs11`},
		{"a comment in a block", "pam_pkcs11 {\n  pkcs11_module default { }\n# the e",
			`f.conf:1:1: the file ends before the } of the block pam_pkcs11`},
		{"a value", "pam_pkcs11 {\n  pkcs11_module default {\n    cert_policy = ca, crl_au",
			`f.conf:3:5: the file ends inside the value of "cert_policy"`},
		{"a value before its ;", "pam_pkcs11 {\n  pkcs11_module default {\n    cert_policy = ca\n",
			`f.conf:3:5: the file ends inside the value of "cert_policy"`},
		{"a value after a comma", "pam_pkcs11 {\n  pkcs11_module default {\n    cert_policy = ca, # and\n",
			`f.conf:3:5: the file ends inside the value of "cert_policy"`},
		{"no value", "pam_pkcs11 {\n  card_only =", `f.conf:2:3: the file ends inside the value of "card_only"`},
		{"a quoted value", "pam_pkcs11 {\n  pkcs11_module default {\n    token_type = \"Smart ca",
			`f.conf:3:18: the file ends inside a quoted word`},
		{"a quoted name", "pam_pkcs11 {\n  pkcs11_module \"defa", `f.conf:2:17: the file ends inside a quoted word`},
		{"a key", "pam_pkcs11 {\n  card_on", `f.conf:2:3: the file ends after "card_on"`},
		{"a name", "pam_pkcs11 {\n  mapper c", `f.conf:2:3: the file ends after "mapper"`},
		{"a } that may be a part of the value", "pam_pkcs11 {\n  pkcs11_module default { }\n  pin_pattern = a}",
			`f.conf:3:3: the file ends inside the value of "pin_pattern"`},
		{"a setting behind the block", "pam_pkcs11 { pkcs11_module default { } }\nx = y\n",
			`f.conf:2:1: the file ends inside the value of "x"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := config.Parse("f.conf", []byte(row.text), nil)
			var all finding.Errors
			if !errors.As(err, &all) || !strings.HasPrefix(all[0].Error(), row.want) {
				t.Fatalf("error %v\n want %s", err, row.want)
			}
			if len(all) != 1 || !strings.Contains(all[0].Hint, "cut off") {
				t.Errorf("%d errors, hint %q: %v", len(all), all[0].Hint, all)
			}

			report := config.CheckData("f.conf", []byte(row.text))
			var out strings.Builder
			if err := report.WriteText(&out); err != nil {
				t.Fatal(err)
			}
			if report.OK() || !strings.Contains(out.String(), "Errors (every login is refused):\n  "+row.want) {
				t.Errorf("config check says\n%s", out.String())
			}
		})
	}
}

func FuzzPrefix(f *testing.F) {
	for _, s := range []string{
		"pam_pkcs11 {\npkcs11_module default { }\npin_pattern = a}b;\n}\n",
		"pam_pkcs11 {\npkcs11_module default { token_type = \"a\"}\nmapper cn { ignorecase = true}}\n# c",
		"x = y, z;pam_pkcs11{pkcs11_module default{slot_num=1 token_type = a,}}y{z",
	} {
		f.Add(s, uint16(len(s)-3))
	}
	f.Fuzz(func(t *testing.T, text string, n uint16) {
		if int(n) >= len(text) {
			return
		}
		whole, err := config.Parse("f", []byte(text), nil)
		if err != nil {
			return
		}
		part, err := config.Parse("f", []byte(text[:n]), nil)
		if err == nil && !sameMeaning(part, whole) {
			t.Fatalf("%q\nmeans something else than\n%q", text[:n], text)
		}
	})
}
