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
		{"a line fits", "cn", nil, []string{"Alice Example -> alice", "alice example -> alice"}, alice, ""},
		{"none is near", "cn", nil, []string{"Bob Example -> bob", "# alice example -> alice", "", "x"}, alice, ""},
		{"case", "cn", nil, []string{"Bob -> bob", "alice Example -> alice"}, alice, "2: upper and lower case differ"},
		{"blanks", "cn", nil, []string{"Alice Exampl -> alice", "Alice  Example -> alice"}, alice, "2: the blanks differ"},
		{"no blanks at the arrow", "cn", nil, []string{"Alice Example->alice"}, alice, "1: the line is passed over: expected KEY, a blank, ->, a blank and LOGIN"},
		{"quotes", "cn", nil, []string{`"Alice Example" -> alice`}, alice, "1: the quotes are read as part of the text"},
		{"letters", "cn", nil, []string{"Alice Exampel -> alice"}, alice, "1: one character differs"},
		{"more letters", "cn", nil, []string{"Alize Exampl -> alice", "Alice Exampl -> alice"}, alice, "2: one character differs"},
		{"two letters", "cn", nil, []string{"Alize Exampl -> alice"}, alice, "1: 2 characters differ"},
		{"outside ASCII", "cn", nil, []string{"Jose Müller -> alice"}, testca.Subject("CN=José Muller"), "1: 2 characters differ"},
		{"an expression", "cn", nil, []string{"^alice Example$ -> alice"}, alice, ""},
		{"another number", "cn", nil, []string{"Person Number 2 -> bob"}, testca.Subject("CN=Person Number 1"), ""},
		{"a short text", "cn", nil, []string{"bob -> bob"}, testca.Subject("CN=rob"), ""},
		{"a user principal name", "upn", nil, []string{"alice@example.org -> alice", "alice@exmaple.com -> alice"}, upn, "2: one character differs"},
		{"by a generic mapper", "generic", set("cert_item", "upn", "ignorecase", "false"), []string{"Alice@example.com -> alice"}, upn, "1: upper and lower case differ"},
		{"with accounts", "generic", set("use_getpwent", "true", "ignorecase", "false"), []string{"ALICE EXAMPLE -> Alice Example"}, alice, "1: upper and lower case differ"},

		{"subject=", "subject", nil, []string{"subject=CN=Alice Example,O=Example,C=IT -> alice"}, alice, `1: "subject=" is no part of the name`},
		{"openssl's form", "subject", nil, []string{"C = IT, O = Example, CN = Alice Example -> alice"}, alice, "1: the same name with its parts in another order"},
		{"openssl's line", "subject", nil, []string{"subject=C = IT, O = Example, CN = Alice Example -> alice"}, alice, "1: the same name with its parts in another order"},
		{"another order", "subject", nil, []string{"C=IT,O=Example,CN=Alice Example -> alice"}, alice, "1: the same name with its parts in another order"},
		{"one line, the other way round", "subject", nil, []string{"/CN=Alice Example/O=Example/C=IT -> alice"}, alice, "1: the same name with its parts in another order"},
		{"another form", "subject", nil, []string{`CN="Alice Example",2.5.4.10=Example,C=IT -> alice`}, alice, "1: the same name, written in another way"},
		{"another organisation", "subject", nil, []string{"CN=Bob,O=Example,C=IT -> bob", "CN=Alice Example,O=Beispiel AG,C=IT -> alice"}, alice, "2: O=Beispiel AG, and the certificate has O=Example"},
		{"a part too many", "subject", nil, []string{"CN=Alice Example,OU=Sales Department,O=Example,C=IT -> alice"}, alice, "1: the certificate has no OU=Sales Department"},
		{"a part too few", "subject", nil, []string{"CN=Alice Example,C=IT -> alice"}, alice, "1: the certificate has O=Example too"},
		{"two parts", "subject", nil, []string{"CN=Alice Example,O=Beispiel AG,C=CH -> alice"}, alice, ""},
		{"another person", "subject", nil, []string{"CN=Robert Miller,O=Example,C=IT -> bob"}, alice, ""},

		{"another issuer", "serial", nil, []string{"0x1AF CN=Another CA -> alice"}, number, "1: the number is the certificate's, the issuer's name is not"},
		{"the issuer in another order", "serial", nil, []string{"431 C=IT,O=Example,CN=Example CA -> alice"}, number, "1: the same name with its parts in another order"},
		{"another number of the issuer", "serial", nil, []string{"432 " + caRFC4514 + " -> bob"}, number, ""},
		{"no mapfile", "cn", nil, nil, alice, ""},
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
