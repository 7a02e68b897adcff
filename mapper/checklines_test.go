package mapper

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/testca"
)

func TestLinesThatNeverMatch(t *testing.T) {
	cert := certificate(t, testca.Serial(1, 0xaf))
	sha1, sha256 := colons(cert.Fingerprint(digests["sha1"])), colons(cert.Fingerprint(digests["sha256"]))
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
		{"mail", nil, "alice@example.com -> alice", ""}, {"mail", nil, "Alice Example -> alice", "no mail address"},
	} {
		b := block(t, c.typ, []string{"# first", c.line}, c.settings)
		faults := CheckMapfiles(t.Context(), []config.Mapper{b}, Options{Accounts: testAccounts})
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
	faults := CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", lines, nil)}, Options{Accounts: testAccounts})
	if len(faults) != 1 || faults[0].Line != 3 || faults[0].Text != "the same as line 1" {
		t.Errorf("%v", faults)
	}
	many := strings.Split(strings.Repeat("x\n", maxLineFaults+7), "\n")
	faults = CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", many, nil)}, Options{Accounts: testAccounts})
	if n := len(faults); n != maxLineFaults+1 || faults[n-1].Text != "7 more lines like these" {
		t.Errorf("%d: %v", n, faults[n-1])
	}
	if faults := CheckMapfiles(t.Context(), []config.Mapper{block(t, "cn", nil, nil), certmapBlock(t, "rule a { }"), block(t, "null", nil, nil)}, Options{}); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}

// FuzzLineCheck: a line that is no fault is one that a login reads, whatever stands in it.
func FuzzLineCheck(f *testing.F) {
	for _, line := range []string{"A -> alice", "SHA1 Fingerprint=AB:CD -> a", "subject=C = IT -> a", "0x1 CN=A -> a", "^a$ -> b", `"" -> ""`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, typ := range []string{"cn", "digest", "subject", "serial", "mail"} {
			b, err := config.NewMapper(typ, typ, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := newLineCheck(b, Options{AllowUnknownUser: true}, "f")
			trimmed := strings.Trim(line, " \t\r")
			if _, _, ok := splitLine([]byte(line)); c.judge([]byte(line)) == "" && !ok && trimmed != "" && trimmed[0] != '#' {
				t.Errorf("%s: %q is passed over without a word", typ, line)
			}
		}
	})
}
