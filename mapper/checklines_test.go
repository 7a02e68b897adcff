package mapper_test

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapfile"
	"pam_pkcs11/mapper/internal/mappertest"
)

func TestLinesThatNeverMatch(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Serial(1, 0xaf))
	sha1, sha256 := certtext.Colons(cert.Fingerprint(certtext.Digests["sha1"])), certtext.Colons(cert.Fingerprint(certtext.Digests["sha256"]))
	for _, c := range []struct {
		typ      string
		settings map[string][]string
		line     string
		want     string // part of the fault, "" is none
	}{
		{"cn", nil, "A -> alice", ""}, {"cn", nil, "# A->alice", ""}, {"cn", nil, "", ""}, {"cn", nil, "A\t->\talice", ""},
		{"cn", nil, "A->alice", "expected KEY, a blank"}, {"cn", nil, "A ->", "expected KEY, a blank"}, {"cn", nil, "A alice", "no arrow"},
		{"cn", nil, `"A B" -> alice`, "quotes"}, {"cn", nil, `A -> "alice"`, "quotes"},
		{"cn", nil, "A -> ghost", `no account "ghost"`}, {"cn", nil, `^\(a\)\1$ -> alice`, "back-references"}, {"cn", nil, "^[a$ -> alice", "expression"},
		{"generic", set("use_getpwent", "true"), "A -> Alice Example", ""},
		{"digest", nil, sha256 + " -> alice", ""}, {"digest", nil, strings.ReplaceAll(sha1, ":", "") + " -> alice", ""},
		{"digest", nil, "SHA1 Fingerprint=" + sha1 + " -> alice", ""}, {"digest", nil, "sha256 Fingerprint=" + sha1 + " -> alice", "20 octets; sha256 has 32"},
		{"digest", set("algorithm", "sha256"), sha1 + " -> alice", "20 octets; sha256 has 32"}, {"digest", nil, sha1[:29] + " -> alice", "10 octets"},
		{"digest", nil, strings.ReplaceAll(sha1, ":", " ") + " -> alice", "no fingerprint"}, {"digest", nil, "alice -> alice", "no fingerprint"},
		{"subject", nil, "/O=Example/CN=Alice -> alice", ""}, {"subject", nil, "CN=Alice, O=Example -> alice", ""},
		{"subject", nil, "subject=CN=Alice,O=Example -> alice", "leave"}, {"subject", nil, "C = IT, O = Example, CN = A -> alice", "nameopt RFC2253"},
		{"subject", nil, "Alice Example -> alice", "no distinguished name"},
		{"serial", nil, "0x1AF CN=CA -> alice", ""}, {"serial", nil, "0x1AF -> alice", "one issuer"}, {"serial", nil, "zz CN=CA -> alice", "no serial number"},
		{"serial", set("issuer", "CN=CA"), "01:AF -> alice", ""},
		{"cn", nil, "A\tB -> alice", "control character"}, {"cn", nil, "Andr\xe9 -> alice", "not UTF-8"}, {"upn", nil, "a\tb@c -> alice", "control character"},
		{"cn", nil, "A  B -> alice", ""}, {"uid", nil, "a b -> alice", ""}, {"krb", nil, "a b@C -> alice", ""},
		{"upn", nil, "al ice@example.com -> alice", "has a blank"}, {"upn", nil, "alice@example.com -> alice", ""},
		{"generic", set("cert_item", "upn"), "al ice@example.com -> alice", "has a blank"},
		{"subject", nil, "CN=Alice,  O=Example -> alice", "blanks"}, {"subject", nil, "CN=Alice,OU=A, O=Example -> alice", "blanks"},
		{"subject", nil, "CN=Alice ,O=Example -> alice", `write "CN=Alice,O=Example"`}, {"subject", nil, "/O=Example/CN=Alice  B -> alice", ""},
		{"subject", set("ignorecase", "true"), "cn=alice , o=example -> alice", "blanks"}, {"subject", set("ignorecase", "true"), "cn=alice, o=example -> alice", ""},
		{"generic", set("cert_item", "subject"), "CN=Alice ,O=Example -> alice", "blanks"}, {"subject", nil, `CN=\ Alice,O=Example -> alice`, ""},
		{"serial", nil, "0x1AF  CN=CA -> alice", "not several"}, {"serial", nil, "0x1AF CN=CA ,O=E -> alice", "blanks"}, {"serial", nil, "0x1AF CN=CA, O=E -> alice", ""},
		{"serial", set("issuer", "CN=CA"), "0001AF -> alice", "not how the number"}, {"serial", set("issuer", "CN=CA"), "0x01:af -> alice", ""},
		{"serial", set("issuer", "CN=CA"), "01AF -> alice", ""}, {"serial", set("issuer", "CN=CA"), "0123 -> alice", ""}, {"serial", set("issuer", "CN=CA"), "-0x1 -> alice", ""},
		{"serial", set("issuer", "CN=CA"), "01 AF -> alice", "distinguished name"}, {"serial", set("issuer", "CN=CA"), "0 -> alice", ""},
		{"generic", set("cert_item", "serial"), "01:AF -> alice", ""}, {"generic", set("cert_item", "serial"), "431 -> alice", "written as 01:AF"},
		{"generic", set("cert_item", "serial"), "01:af -> alice", "written as 01:AF"}, {"generic", set("cert_item", "serial", "ignorecase", "true"), "01:af -> alice", ""},
		{"mail", nil, "alice@example.com -> alice", ""}, {"mail", nil, "Alice Example -> alice", "no mail address"},
	} {
		b := block(t, c.typ, []string{"# first", c.line}, c.settings)
		faults := mapper.CheckMapfiles(t.Context(), []config.Mapper{b}, mapper.Options{Accounts: mappertest.Accounts})
		faults = slices.DeleteFunc(faults, func(f mapper.LineFault) bool { return f.Note })
		switch {
		case c.want == "" && len(faults) > 0:
			t.Errorf("%s: %q: %v", c.typ, c.line, faults)
		case c.want != "" && (len(faults) != 1 || faults[0].Line != 2 || !strings.Contains(faults[0].Text, c.want)):
			t.Errorf("%s: %q: %v, want %q", c.typ, c.line, faults, c.want)
		}
	}
}

func TestLinesOfAFile(t *testing.T) {
	lines := []string{"A -> alice", "B -> bob", "A -> alice", "A -> bob"}
	faults := mapper.CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", lines, nil)}, mapper.Options{Accounts: mappertest.Accounts})
	if len(faults) != 1 || faults[0].Line != 3 || faults[0].Text != "the same as line 1" {
		t.Errorf("%v", faults)
	}
	many := strings.Split(strings.Repeat("x\n", mapfile.MaxLineFaults+7), "\n")
	faults = mapper.CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", many, nil)}, mapper.Options{Accounts: mappertest.Accounts})
	if n := len(faults); n != mapfile.MaxLineFaults+1 || faults[n-1].Text != "7 more lines like these" {
		t.Errorf("%d: %v", n, faults[n-1])
	}
	if faults := mapper.CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", nil, nil), certmapBlock(t, "rule a { }"), block(t, "null", nil, nil)}, mapper.Options{}); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}

// TestLinesReadAsMeant: a note for each file, with the first lines of each way to write one.
func TestLinesReadAsMeant(t *testing.T) {
	cert := mappertest.Certificate(t)
	print := "SHA256 Fingerprint=" + certtext.Colons(cert.Fingerprint(certtext.Digests["sha256"])) + " -> alice"
	const all = "7 lines are read as they are meant: a tab for a blank at the arrow (lines 1, 4, 9 and 1 more); " +
		"several blanks at the arrow (lines 5 and 6); blanks behind the commas of a name (lines 8 and 9)"
	for _, c := range []struct {
		typ   string
		lines []string
		want  string
	}{
		{"cn", []string{"A -> alice", "# B\t-> alice", "^B$ -> alice", "A->B -> alice", ""}, ""},
		{"cn", []string{"A -> alice", "A\t->\tbob"}, "a line is read as it is meant: a tab for a blank at the arrow (line 2)"},
		{"cn", []string{"A  -> alice", "^A.*$   -> bob"}, "2 lines are read as they are meant: several blanks at the arrow (lines 1 and 2)"},
		{"cn", []string{"A->B\t-> alice", "A ->  bob "}, "2 lines are read as they are meant: a tab for a blank at the arrow (line 1); several blanks at the arrow (line 2)"},
		{"digest", []string{print}, "a line is read as it is meant: a fingerprint as openssl x509 -fingerprint prints it (line 1)"},
		{"subject", []string{"CN=A,O=B -> alice", "CN=A, O=B -> bob", "/O=B, C/CN=A -> alice", `CN=A\, O=B -> alice`},
			"a line is read as it is meant: blanks behind the commas of a name (line 2)"},
		{"serial", []string{"431 CN=A -> alice", "0x1AF CN=A -> bob", "01:AF CN=A -> kay", "0x01:AF CN=A, O=B -> alice", "01AF CN=A -> smith", "-01:AF CN=A -> bob"},
			"2 lines are read as they are meant: blanks behind the commas of a name (line 4); 0x before pairs of digits with colons (line 4); " +
				"hexadecimal digits without 0x and colons (line 5)"},
		{"subject", []string{"CN=1\t-> a", "CN=2 -> a", "CN=3\t->a b -> c", "CN=4 \t -> a", "CN=5  -> a", "CN=6 ->  a", "CN=7 -> a", "CN=8, O=x -> a", "CN=9, O=x\t-> a", "CN=0\t -> a"}, all},
	} {
		options := mapper.Options{Accounts: mappertest.Accounts, AllowUnknownUser: true}
		got := ""
		for _, f := range mapper.CheckMapfiles(t.Context(), []config.Mapper{block(t, c.typ, c.lines, nil)}, options) {
			if f.Note && f.Line == 0 {
				got += f.Text
			}
		}
		if got != c.want {
			t.Errorf("%s: %q:\n got %s\nwant %s", c.typ, c.lines, got, c.want)
		}
	}
}
