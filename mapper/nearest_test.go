package mapper_test

import (
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

// nearestOf is what Nearest says of a block's mapfile, "LINE: WHY" or "".
func nearestOf(t *testing.T, typ string, lines []string, settings map[string][]string, cert *certinfo.Certificate) string {
	t.Helper()
	explained, err := chain(t, block(t, typ, lines, settings)).Explain(t.Context(), mapper.Checked{Cert: cert}, "", true)
	if err != nil || len(explained) != 1 {
		t.Fatal(explained, err)
	}
	near := explained[0].Nearest(t.Context())
	if near == nil {
		return ""
	}
	if explained[0].User != "" || near.File == "" || near.Text == "" || !strings.Contains(lines[near.Line-1], near.Key) {
		t.Errorf("%+v beside %+v", near, explained[0])
	}
	return fmt.Sprintf("%d: %s", near.Line, near.Why)
}

func TestNearestLine(t *testing.T) {
	alice := testca.Subject("C=IT", "O=Example", "CN=Alice Example")
	upn := testca.SAN(testca.UPN("alice@example.com"))
	number := testca.Serial(1, 0xaf)
	for _, c := range []struct {
		name     string
		typ      string
		settings map[string][]string
		lines    []string
		cert     testca.Option
		want     string
	}{
		{
			name: "a line fits", typ: "cn",
			lines: []string{"Alice Example -> alice", "alice example -> alice"}, cert: alice,
		},
		{
			name: "none is near", typ: "cn",
			lines: []string{"Bob Example -> bob", "# alice example -> alice", "", "x"}, cert: alice,
		},
		{
			name: "case", typ: "cn", lines: []string{"Bob -> bob", "alice Example -> alice"},
			cert: alice, want: "2: upper and lower case differ",
		},
		{
			name: "blanks", typ: "cn",
			lines: []string{"Alice Exampl -> alice", "Alice  Example -> alice"}, cert: alice,
			want: "2: the blanks differ",
		},
		{
			name: "no blanks at the arrow", typ: "cn", lines: []string{"Alice Example->alice"},
			cert: alice,
			want: "1: the line is passed over: expected KEY, a blank, ->, a blank and LOGIN",
		},
		{
			name: "quotes", typ: "cn", lines: []string{`"Alice Example" -> alice`}, cert: alice,
			want: "1: the quotes are read as part of the text",
		},
		{
			name: "letters", typ: "cn", lines: []string{"Alice Exampel -> alice"}, cert: alice,
			want: "1: one character differs",
		},
		{
			name: "more letters", typ: "cn",
			lines: []string{"Alize Exampl -> alice", "Alice Exampl -> alice"}, cert: alice,
			want: "2: one character differs",
		},
		{
			name: "two letters", typ: "cn", lines: []string{"Alize Exampl -> alice"}, cert: alice,
			want: "1: 2 characters differ",
		},
		{
			name: "outside ASCII", typ: "cn", lines: []string{"Jose Müller -> alice"},
			cert: testca.Subject("CN=José Muller"), want: "1: 2 characters differ",
		},
		{
			name: "an expression", typ: "cn", lines: []string{"^alice Example$ -> alice"},
			cert: alice,
		},
		{
			name: "another number", typ: "cn", lines: []string{"Person Number 2 -> bob"},
			cert: testca.Subject("CN=Person Number 1"),
		},
		{
			name: "a short text", typ: "cn", lines: []string{"bob -> bob"},
			cert: testca.Subject("CN=rob"),
		},
		{
			name: "a user principal name", typ: "upn",
			lines: []string{"alice@example.org -> alice", "alice@exmaple.com -> alice"}, cert: upn,
			want: "2: one character differs",
		},
		{
			name: "by a generic mapper", typ: "generic",
			settings: set("cert_item", "upn", "ignorecase", "false"),
			lines:    []string{"Alice@example.com -> alice"}, cert: upn,
			want: "1: upper and lower case differ",
		},
		{
			name: "with accounts", typ: "generic",
			settings: set("use_getpwent", "true", "ignorecase", "false"),
			lines:    []string{"ALICE EXAMPLE -> Alice Example"}, cert: alice,
			want: "1: upper and lower case differ",
		},

		{
			name: "subject=", typ: "subject",
			lines: []string{"subject=CN=Alice Example,O=Example,C=IT -> alice"}, cert: alice,
			want: `1: "subject=" is no part of the name`,
		},
		{
			name: "openssl's form", typ: "subject",
			lines: []string{"C = IT, O = Example, CN = Alice Example -> alice"}, cert: alice,
			want: "1: the same name with its parts in another order",
		},
		{
			name: "openssl's line", typ: "subject",
			lines: []string{"subject=C = IT, O = Example, CN = Alice Example -> alice"},
			cert:  alice, want: "1: the same name with its parts in another order",
		},
		{
			name: "another order", typ: "subject",
			lines: []string{"C=IT,O=Example,CN=Alice Example -> alice"}, cert: alice,
			want: "1: the same name with its parts in another order",
		},
		{
			name: "one line, the other way round", typ: "subject",
			lines: []string{"/CN=Alice Example/O=Example/C=IT -> alice"}, cert: alice,
			want: "1: the same name with its parts in another order",
		},
		{
			name: "another form", typ: "subject",
			lines: []string{`CN="Alice Example",2.5.4.10=Example,C=IT -> alice`}, cert: alice,
			want: "1: the same name, written in another way",
		},
		{
			name: "another organisation", typ: "subject",
			lines: []string{"CN=Bob,O=Example,C=IT -> bob", "CN=Alice Example,O=Beispiel AG,C=IT -> alice"},
			cert:  alice, want: "2: O=Beispiel AG, and the certificate has O=Example",
		},
		{
			name: "a part too many", typ: "subject",
			lines: []string{"CN=Alice Example,OU=Sales Department,O=Example,C=IT -> alice"},
			cert:  alice, want: "1: the certificate has no OU=Sales Department",
		},
		{
			name: "a part too few", typ: "subject",
			lines: []string{"CN=Alice Example,C=IT -> alice"}, cert: alice,
			want: "1: the certificate has O=Example too",
		},
		{
			name: "two parts", typ: "subject",
			lines: []string{"CN=Alice Example,O=Beispiel AG,C=CH -> alice"}, cert: alice,
		},
		{
			name: "another person", typ: "subject",
			lines: []string{"CN=Robert Miller,O=Example,C=IT -> bob"}, cert: alice,
		},

		{
			name: "another issuer", typ: "serial", lines: []string{"0x1AF CN=Another CA -> alice"},
			cert: number, want: "1: the number is the certificate's, the issuer's name is not",
		},
		{
			name: "the issuer in another order", typ: "serial",
			lines: []string{"431 C=IT,O=Example,CN=Example CA -> alice"}, cert: number,
			want: "1: the same name with its parts in another order",
		},
		{
			name: "another number of the issuer", typ: "serial",
			lines: []string{"432 " + caRFC4514 + " -> bob"}, cert: number,
		},
		{name: "no mapfile", typ: "cn", cert: alice},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nearestOf(t, c.typ, c.lines, c.settings, mappertest.Certificate(t, c.cert)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNearestFingerprint(t *testing.T) {
	cert := mappertest.Certificate(t)
	sum := certtext.Colons(cert.Fingerprint(certtext.Digests["sha1"]))
	for line, want := range map[string]string{
		strings.ReplaceAll(sum, ":", " "):                                                "1: the blanks differ",
		strings.Replace(sum, ":", "", 1):                                                 "1: one character differs",
		`"` + strings.ToLower(sum) + `"`:                                                 "1: the quotes are read as part of the text",
		certtext.Colons(mappertest.Certificate(t).Fingerprint(certtext.Digests["sha1"])): "",
	} {
		if got := nearestOf(t, "digest", []string{line + " -> alice"}, nil, cert); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}
