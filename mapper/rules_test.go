package mapper_test

import (
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/mappertest"
)

// What rules and mapfiles can have in them that is odd (a mapfile's own grammar is TestMapfile's).

func TestOddMapfiles(t *testing.T) {
	many := strings.Repeat("a", 4000)
	rows := []row{
		{"CRLF", "cn", nil, []string{"A -> alice\r", "B -> bob\r"}, testca.Subject("CN=B"), "", "bob", ""},
		{"byte order mark before the key", "cn", nil, []string{"\ufeffA -> alice"}, testca.Subject("CN=A"), "", "alice", ""},
		{"byte order mark in the text", "cn", nil, []string{"\ufeffA -> alice"}, testca.Subject("CN=\ufeffA"), "", "", ""},
		{"byte order mark in the middle", "cn", nil, []string{"B -> bob", "\ufeffA -> alice"}, testca.Subject("CN=A"), "", "", ""},
		{"UTF-16", "cn", nil, []string{"\xff\xfeA\x00 \x00-\x00>\x00 \x00a\x00"}, testca.Subject("CN=A"), "", "", ""},
		{"duplicate keys: the first", "cn", nil, []string{"A -> alice", "A -> bob", "A -> root"}, testca.Subject("CN=A"), "", "alice", ""},
		{"duplicate keys: the second, asked for by name", "cn", nil, []string{"A -> alice", "A -> root"}, testca.Subject("CN=A"), "root", "root", "mapfile"},
		{"duplicate keys: no third", "cn", nil, []string{"A -> alice", "A -> root"}, testca.Subject("CN=A"), "toor", "", ""},
		{"two certificates of one user", "cn", nil, []string{"A -> alice", "B -> alice"}, testca.Subject("CN=B"), "alice", "alice", ""},
		{"login with a blank", "cn", nil, []string{"A -> alice root"}, testca.Subject("CN=A"), "alice", "", ""},
		{"login with a colon", "cn", nil, []string{"A -> alice:x:0:0"}, testca.Subject("CN=A"), "", "", "no account"},
		{"tab for a blank", "cn", nil, []string{"A\t->\talice"}, testca.Subject("CN=A"), "", "alice", "mapfile"},
		{"tab for a blank, without regard to case", "cn", set("ignorecase", "true"), []string{"a \t-> \talice"}, testca.Subject("CN=A"), "", "alice", "mapfile"},
		{"no blanks round the arrow", "cn", nil, []string{"A->alice", "A ->alice", "A-> alice"}, testca.Subject("CN=A"), "", "", ""},
		{"an arrow between blanks comes before one between tabs", "cn", nil, []string{"A\t->\talice -> bob"}, testca.Subject("CN=A"), "", "", ""},
		{"blanks behind the commas of a name", "subject", nil, []string{"CN=A, O=Example, C=IT -> alice"}, testca.Subject("C=IT", "O=Example", "CN=A"), "", "alice", "mapfile"},
		{"a blank that is the value's", "subject", nil, []string{"CN=A, O=Example -> alice"}, testca.Subject("O= Example", "CN=A"), "", "", ""},
		{"a comma of a value", "subject", nil, []string{`CN=A\,B, O=Example -> alice`}, testca.Subject("O=Example", "CN=A,B"), "", "alice", "mapfile"},
		{"two blanks before the arrow", "cn", nil, []string{"A  -> alice"}, testca.Subject("CN=A"), "", "alice", "mapfile"},
		{"two blanks before the arrow, of which one is the key's", "cn", nil, []string{"A  -> alice"}, testca.Subject("CN=A "), "", "alice", "mapfile"},
		{"an expression and two blanks", "cn", nil, []string{"^A*$  -> alice"}, testca.Subject("CN=A"), "", "alice", "mapfile"},
		{"uid 0 by a line", "cn", nil, []string{"A -> toor"}, testca.Subject("CN=A"), "toor", "toor", "mapfile"},
		{"uid 0 by a line is no other uid 0", "cn", nil, []string{"A -> toor"}, testca.Subject("CN=A"), "root", "", ""},
		{"a system account by a line", "cn", nil, []string{"A -> daemon"}, testca.Subject("CN=A"), "", "daemon", ""},
		{"nobody by a line", "cn", nil, []string{"A -> nobody"}, testca.Subject("CN=A"), "", "nobody", ""},
		{"nested stars", "cn", nil, []string{`^\(\(a*\)*\)*b$ -> alice`, many + " -> bob"}, testca.Subject("CN=" + many), "", "bob", ""},
		{"alternatives of the same", "cn", nil, []string{`^\(a\|a\|aa\)*b$ -> alice`, many + " -> bob"}, testca.Subject("CN=" + many), "", "bob", ""},
		{"nested intervals", "cn", nil, []string{`^\(\(a\{1,999\}\)\{1,999\}\)\{1,999\}b$ -> alice`, many + " -> bob"}, testca.Subject("CN=" + many), "", "bob", ""},
		{"an expression of 4 KiB and more", "cn", nil, []string{"^" + many + many + ".*$ -> alice", many + " -> bob"}, testca.Subject("CN=" + many), "", "bob", ""},
		{"back-reference", "cn", nil, []string{`^\(a*\)\1$ -> alice`, many + " -> bob"}, testca.Subject("CN=" + many), "", "bob", ""},
		{"expression with syntax of Go's", "cn", nil, []string{`(^(?i)alice$) -> bob`, `^\pL*$ -> bob`, `^alice\z$ -> bob`}, testca.Subject("CN=alice"), "", "", ""},
		{"everybody", "cn", nil, []string{"^.*$ -> nobody"}, testca.Subject("CN=\u2028"), "", "", "control"},
		{"everybody, but root by none", "cn", nil, []string{"^.*$ -> nobody"}, testca.Subject("CN=root"), "root", "", ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			started, allowed := time.Now(), slowtest.Allowance()
			got, verdict := ask(t, chain(t, block(t, r.typ, r.lines, r.settings)), mappertest.Certificate(t, r.cert), r.user)
			if got != r.want || !strings.Contains(verdict, r.why) {
				t.Errorf("got %q (%s), want %q (%s)", got, verdict, r.want, r.why)
			}
			if took := time.Since(started); took > 10*time.Second+allowed() {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestNullLast: a null mapper that matches, behind others, makes nobody more than nobody.
func TestNullLast(t *testing.T) {
	c := chain(t, block(t, "cn", []string{"A -> alice"}, nil), block(t, "null", nil, set("default_match", "true")))
	for _, k := range []struct{ cn, user, want string }{
		{"A", "", "alice"}, {"A", "alice", "alice"}, {"A", "bob", ""}, {"x", "", "nobody"}, {"x", "nobody", "nobody"}, {"x", "alice", ""}, {"x", "root", ""}, {"nobody", "", "nobody"},
	} {
		if got, verdict := ask(t, c, mappertest.Certificate(t, testca.Subject("CN="+k.cn)), k.user); got != k.want {
			t.Errorf("%s for %q: %q (%s), want %q", k.cn, k.user, got, verdict, k.want)
		}
	}
}
