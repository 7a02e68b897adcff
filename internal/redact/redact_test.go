package redact

import (
	"strings"
	"testing"
)

// TestFile: what is taken out of files, and what stays.
func TestFile(t *testing.T) {
	for text, want := range map[string]string{
		"passwd = hunter2;":                               "passwd = <secret>;",
		`passwd = "hunter 2; } #x";`:                      `passwd = <secret>`,
		`passwd="hunter2`:                                 `passwd=<secret>`,
		"passwd_file = /etc/x;":                           "passwd_file = /etc/x;",
		"# passwd hunter2":                                "#",
		"debug = true; # for alice":                       "debug = true; #",
		`pin_pattern = "[0-9]+";`:                         `pin_pattern = "[0-9]+";`,
		`binddn = "cn=admin,dc=example";`:                 `binddn = <name-1>;`,
		`base = "ou=People,dc=example,dc=org";`:           `base = "ou=<name-1>,dc=<name-2>,dc=<name-3>";`,
		`filter = "(&(uid=%s)(objectClass=x))";`:          `filter = "(&(uid=%s)(objectClass=x))";`,
		`uri = "ldap://bob:pw@h.example/";`:               `uri = "ldap://<secret>@h.example/";`,
		`environment = "YKCS11_PIN=123456";`:              `environment = "YKCS11_PIN=<secret>;`,
		"auth required pam_radius.so secret=abc x=1":      "auth required pam_radius.so secret=<secret>",
		"auth required pam_succeed_if.so user = alice":    "auth required pam_succeed_if.so user = <user-1>",
		"auth required pam_succeed_if.so user != root":    "auth required pam_succeed_if.so user != root",
		"auth required pam_succeed_if.so user ingroup sc": "auth required pam_succeed_if.so user ingroup sc",
		"auth required pam_exec.so token=hunter2 x":       "auth required pam_exec.so token=<secret> x",
		"token_label = Alice;":                            "token_label = <name-1>;",
		"mapfile = file:///etc/pam_pkcs11/digest_mapping": "mapfile = file:///etc/pam_pkcs11/digest_mapping",
		"issuer = sha256:" + strings.Repeat("a1", 32):     "issuer = sha256:<number-1>",
	} {
		var r Redactor
		if got := r.File(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestText: placeholders are stable, and words are replaced whole.
func TestText(t *testing.T) {
	var r Redactor
	r.Add("user", "al")
	r.Add("user", "alice")
	r.Add("user", "root")
	r.Add("user", "x")
	got := r.Text("alice and al, not algebra; alice@example.org; root; serial 12:34:AB:CD, 1234567; alice's; ATR 3B F8 13")
	const want = "<user-2> and <user-1>, not algebra; <mail-1>; root; serial <number-1>, <number-2>; <user-2>'s; ATR 3B F8 13"
	if got != want {
		t.Errorf("%s", got)
	}
	if again := r.Text("alice, 1234567"); again != "<user-2>, <number-2>" {
		t.Errorf("%s", again)
	}
}

// TestWithNames: names stay, secrets go.
func TestWithNames(t *testing.T) {
	r := Redactor{WithNames: true}
	r.Add("user", "alice")
	if got := r.File("token_label = Alice; passwd = x; binddn = \"cn=alice\";"); got != "token_label = Alice; passwd = <secret>; binddn = cn=alice;" {
		t.Errorf("%s", got)
	}
}

// FuzzFile: a password behind its key does not come through, whatever stands around it.
func FuzzFile(f *testing.F) {
	f.Add("mapper ldap {\n", ";\n}")
	f.Add("# \"", "\"")
	f.Add("a = \"", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "QzQhunter2zQ"
		if strings.Contains(before+after, "zQ") {
			return
		}
		var r Redactor
		r.Add("user", "alice")
		if got := r.File(before + "\npasswd = " + secret + ";" + after); strings.Contains(got, secret) {
			t.Errorf("%q", got)
		}
	})
}
