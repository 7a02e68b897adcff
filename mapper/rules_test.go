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
		{
			name: "CRLF", typ: "cn", lines: []string{"A -> alice\r", "B -> bob\r"},
			cert: testca.Subject("CN=B"), want: "bob",
		},
		{
			name: "byte order mark before the key", typ: "cn", lines: []string{"\ufeffA -> alice"},
			cert: testca.Subject("CN=A"), want: "alice",
		},
		{
			name: "byte order mark in the text", typ: "cn", lines: []string{"\ufeffA -> alice"},
			cert: testca.Subject("CN=\ufeffA"),
		},
		{
			name: "byte order mark in the middle", typ: "cn",
			lines: []string{"B -> bob", "\ufeffA -> alice"}, cert: testca.Subject("CN=A"),
		},
		{
			name: "UTF-16", typ: "cn", lines: []string{"\xff\xfeA\x00 \x00-\x00>\x00 \x00a\x00"},
			cert: testca.Subject("CN=A"),
		},
		{
			name: "duplicate keys: the first", typ: "cn",
			lines: []string{"A -> alice", "A -> bob", "A -> root"}, cert: testca.Subject("CN=A"),
			want: "alice",
		},
		{
			name: "duplicate keys: the second, asked for by name", typ: "cn",
			lines: []string{"A -> alice", "A -> root"}, cert: testca.Subject("CN=A"), user: "root",
			want: "root", why: "mapfile",
		},
		{
			name: "duplicate keys: no third", typ: "cn", lines: []string{"A -> alice", "A -> root"},
			cert: testca.Subject("CN=A"), user: "toor",
		},
		{
			name: "two certificates of one user", typ: "cn",
			lines: []string{"A -> alice", "B -> alice"}, cert: testca.Subject("CN=B"),
			user: "alice", want: "alice",
		},
		{
			name: "login with a blank", typ: "cn", lines: []string{"A -> alice root"},
			cert: testca.Subject("CN=A"), user: "alice",
		},
		{
			name: "login with a colon", typ: "cn", lines: []string{"A -> alice:x:0:0"},
			cert: testca.Subject("CN=A"), why: "no account",
		},
		{
			name: "tab for a blank", typ: "cn", lines: []string{"A\t->\talice"},
			cert: testca.Subject("CN=A"), want: "alice", why: "mapfile",
		},
		{
			name: "tab for a blank, without regard to case", typ: "cn",
			settings: set("ignorecase", "true"), lines: []string{"a \t-> \talice"},
			cert: testca.Subject("CN=A"), want: "alice", why: "mapfile",
		},
		{
			name: "no blanks round the arrow", typ: "cn",
			lines: []string{"A->alice", "A ->alice", "A-> alice"}, cert: testca.Subject("CN=A"),
		},
		{
			name: "an arrow between blanks comes before one between tabs", typ: "cn",
			lines: []string{"A\t->\talice -> bob"}, cert: testca.Subject("CN=A"),
		},
		{
			name: "blanks behind the commas of a name", typ: "subject",
			lines: []string{"CN=A, O=Example, C=IT -> alice"},
			cert:  testca.Subject("C=IT", "O=Example", "CN=A"), want: "alice", why: "mapfile",
		},
		{
			name: "a blank that is the value's", typ: "subject",
			lines: []string{"CN=A, O=Example -> alice"}, cert: testca.Subject("O= Example", "CN=A"),
		},
		{
			name: "a comma of a value", typ: "subject",
			lines: []string{`CN=A\,B, O=Example -> alice`},
			cert:  testca.Subject("O=Example", "CN=A,B"), want: "alice", why: "mapfile",
		},
		{
			name: "two blanks before the arrow", typ: "cn", lines: []string{"A  -> alice"},
			cert: testca.Subject("CN=A"), want: "alice", why: "mapfile",
		},
		{
			name: "two blanks before the arrow, of which one is the key's", typ: "cn",
			lines: []string{"A  -> alice"}, cert: testca.Subject("CN=A "), want: "alice",
			why: "mapfile",
		},
		{
			name: "an expression and two blanks", typ: "cn", lines: []string{"^A*$  -> alice"},
			cert: testca.Subject("CN=A"), want: "alice", why: "mapfile",
		},
		{
			name: "uid 0 by a line", typ: "cn", lines: []string{"A -> toor"},
			cert: testca.Subject("CN=A"), user: "toor", want: "toor", why: "mapfile",
		},
		{
			name: "uid 0 by a line is no other uid 0", typ: "cn", lines: []string{"A -> toor"},
			cert: testca.Subject("CN=A"), user: "root",
		},
		{
			name: "a system account by a line", typ: "cn", lines: []string{"A -> daemon"},
			cert: testca.Subject("CN=A"), want: "daemon",
		},
		{
			name: "nobody by a line", typ: "cn", lines: []string{"A -> nobody"},
			cert: testca.Subject("CN=A"), want: "nobody",
		},
		{
			name: "nested stars", typ: "cn",
			lines: []string{`^\(\(a*\)*\)*b$ -> alice`, many + " -> bob"},
			cert:  testca.Subject("CN=" + many), want: "bob",
		},
		{
			name: "alternatives of the same", typ: "cn",
			lines: []string{`^\(a\|a\|aa\)*b$ -> alice`, many + " -> bob"},
			cert:  testca.Subject("CN=" + many), want: "bob",
		},
		{
			name: "nested intervals", typ: "cn",
			lines: []string{`^\(\(a\{1,999\}\)\{1,999\}\)\{1,999\}b$ -> alice`, many + " -> bob"},
			cert:  testca.Subject("CN=" + many), want: "bob",
		},
		{
			name: "an expression of 4 KiB and more", typ: "cn",
			lines: []string{"^" + many + many + ".*$ -> alice", many + " -> bob"},
			cert:  testca.Subject("CN=" + many), want: "bob",
		},
		{
			name: "back-reference", typ: "cn",
			lines: []string{`^\(a*\)\1$ -> alice`, many + " -> bob"},
			cert:  testca.Subject("CN=" + many), want: "bob",
		},
		{
			name: "expression with syntax of Go's", typ: "cn",
			lines: []string{`(^(?i)alice$) -> bob`, `^\pL*$ -> bob`, `^alice\z$ -> bob`},
			cert:  testca.Subject("CN=alice"),
		},
		{
			name: "everybody", typ: "cn", lines: []string{"^.*$ -> nobody"},
			cert: testca.Subject("CN=\u2028"), why: "control",
		},
		{
			name: "everybody, but root by none", typ: "cn", lines: []string{"^.*$ -> nobody"},
			cert: testca.Subject("CN=root"), user: "root",
		},
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
