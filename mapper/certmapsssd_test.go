package mapper_test

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// TestGNUEscapesInMapfiles: the old module compiled a mapfile's expressions with the same library.
func TestGNUEscapesInMapfiles(t *testing.T) {
	for _, c := range []struct {
		line, cn string
		want     bool
	}{
		{`^\w\+\s\w\+$`, "Alice Example", true},
		{`^\w\+$`, "Alice Example", false},
		{`^.*\bExample\b$`, "Alice Example", true},
		{`^.*\bxample\b$`, "Alice Example", false},
		{`^Alice\SExample$`, "Alice Example", false},
		{`^Alice\@example\,x$`, "Alice@example,x", true},
		{`(^\w+\s\w+$)`, "Alice Example", true},
		{`(^\w+\W\<E\w+$)`, "Alice Example", true},
		{`^\b*Alice$`, "Alice", false}, // a repetition of nothing: the line is left out
		{`^\b\{1,2\}Alice$`, "Alice", false},
		{`^\d*Alice$`, "Alice", false},
	} {
		got, verdict := ask(t, chain(t, block(t, "cn", []string{c.line + " -> alice"}, nil)), mappertest.Certificate(t, testca.Subject("CN="+c.cn)), "")
		if (got == "alice") != c.want {
			t.Errorf("%s for %s: %q (%s)", c.line, c.cn, got, verdict)
		}
	}
}

// TestCertmapRulesSayWhere: what cannot be said refuses the rule with the place where it stands.
func TestCertmapRulesSayWhere(t *testing.T) {
	for rule, want := range map[string]string{
		`<SUBJECT>\<.*`: `"\<" is not defined`,
		`<SUBJECT>\d`:   `"\d" is not defined`,
		`<SAN:p>x`:      "pkinitSAN, Principal begin so",
		`<SAN:>x`:       "it is empty",
		`<SAN:upn>x`:    "expected otherName, rfc822Name",
	} {
		_, err := mapper.New([]config.Mapper{certmapBlock(t, "\n rule bad { match = \""+rule+"\"; }")}, mapper.Options{})
		if err == nil || !strings.Contains(err.Error(), "test.conf:4:2: rule bad: match: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
}
