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
		`environment = "YKCS11_PIN=123456";`:              `environment = "YKCS11_PIN=<secret>";`,
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

// TestSecretsThatHide: none comes through, with names and without, and neither does what a message quotes of it later.
func TestSecretsThatHide(t *testing.T) {
	const secret = "Hunter2x"
	for _, text := range []string{
		"passwd =\n  \"Hunter2x\";",
		"passwd = a}Hunter2x;",
		"passwd = a;Hunter2x;",
		`passwd = "a"Hunter2x;`,
		"passwd = \"a\",\n  \"Hunter2x\";",
		`passwd "Hunter2x";`,
		"passwd: Hunter2x",
		"auth required pam_radius.so secret=a;Hunter2x",
		"auth required pam_radius.so secret=\\\n  Hunter2x",
		"auth required pam_x.so [secret=a; Hunter2x]",
		"auth required pam_x.so [token=a Hunter2x]",
		"auth required pam_x.so token=a;Hunter2x",
		"auth required pam_x.so debug#Hunter2x",
		"auth required pam_exec.so /bin/x --password Hunter2x",
		"auth required pam_exec.so /bin/x -p Hunter2x",
		"auth required pam_exec.so /bin/x Authorization: Bearer Hunter2x",
		`uri = "ldap://bob:a/Hunter2x@h.example/";`,
		`uri = "ldap://bob:a@Hunter2x@h.example/";`,
		`uri = "ldap://h.example/?token=Hunter2x&x=y";`,
		"proxy = bob:a$Hunter2x@proxy.example:3128;",
		`environment = "X=1", "MODULE_CODE_WORD=a b Hunter2x";`,
		"-----BEGIN RSA PRIVATE KEY-----\nHunter2x\n-----END RSA PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY-----\nHunter2x", // cut off
		"key\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCHunter2xKcwggSj/AgEAAoIBAQC7\n",
		"alice:$y$j9T$Hunter2x$abc:19000:0",
		"pass\u200bwd = Hunter2x;",
		"p\x00a\x00s\x00s\x00w\x00d\x00=\x00Hunter2x",
	} {
		for _, withNames := range []bool{false, true} {
			r := Redactor{WithNames: withNames}
			if got := r.File(text); strings.Contains(got, secret) {
				t.Errorf("%q: %q", text, got)
			}
		}
	}

	r := Redactor{WithNames: true}
	r.File(`passwd "Hunter2x";`)
	if got := r.Text(`line 1: "Hunter2x" where = is due`); got != `line 1: "<secret>" where = is due` {
		t.Error(got)
	}
}

// TestNamesThatHide: neither does a name that is known, or stands where names stand.
func TestNamesThatHide(t *testing.T) {
	for _, text := range []string{
		"<alice>",
		"ALICE",
		"Alice.",
		"auth required pam_succeed_if.so ruser = liddell",
		"auth required pam_succeed_if.so user in root:liddell",
		"auth required pam_succeed_if.so user =~ liddell*",
		`card_required_users = root, liddell;`,
		"card_forbidden_users = \"x\",\n \"liddell\";",
		"token_label = Mary liddell;",
		"default_user = liddell;",
		`binddn = cn=Mary\, liddell;`,
		"subject CN = Mary Liddell, O = Wonderland",
		`cn=Mary\, liddell`,
		"cn=O'liddell",
		"2.5.4.3=liddell",
		"/home/liddell/x",
		"reader ABCD12345liddell",
	} {
		var r Redactor
		r.Add("user", "alice")
		if got := strings.ToLower(r.File(text)); strings.Contains(got, "alice") || strings.Contains(got, "liddell") {
			t.Errorf("%q: %q", text, got)
		}
	}

	var r Redactor
	if got := r.Text(visible("\x1b]0;x\a \u202e")); got != "?]0;x? " {
		t.Errorf("%q", got)
	}
}

// TestWithNames: names stay, secrets go.
func TestWithNames(t *testing.T) {
	r := Redactor{WithNames: true}
	r.Add("user", "alice")
	if got := r.File("token_label = Alice; passwd = x; binddn = \"cn=alice\";"); got != "token_label = Alice; passwd = <secret>; binddn = \"cn=alice\";" {
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

func TestSetting(t *testing.T) {
	r := &Redactor{WithNames: true}
	for _, row := range []struct {
		key, value, want string
	}{
		{"passwd", "swordfish", Secret},
		{"passwd", "with # and ; and more", Secret},
		{"passwd_file", "/etc/secret", "/etc/secret"},
		{"pin_pattern", "[0-9]{6}", "[0-9]{6}"},
		{"uri", "ldaps://me:hunter2@example.org", "ldaps://" + Secret + "@example.org"},
		{"environment", "TOKEN_PIN=1234567", "TOKEN_PIN=" + Secret},
		{"environment", "SOFTHSM2_CONF=/etc/softhsm2.conf", "SOFTHSM2_CONF=/etc/softhsm2.conf"},
		{"filter", "(&(objectClass=posixAccount)(uid=%s))", "(&(objectClass=posixAccount)(uid=%s))"},
		{"binddn", "cn=a # b", "cn=a # b"},
		{"use_mappers", "pwent", "pwent"},
	} {
		if got := r.Setting(row.key, []string{row.value}); len(got) != 1 || got[0] != row.want {
			t.Errorf("%s = %s: %q, want %q", row.key, row.value, got, row.want)
		}
	}
}
