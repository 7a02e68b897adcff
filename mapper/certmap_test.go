package mapper_test

import (
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// certmapBlock reads a block with rules from configuration text.
func certmapBlock(t testing.TB, body string) config.Mapper {
	t.Helper()
	conf, err := config.Parse("test.conf", []byte("pam_pkcs11 { use_mappers = rules; pkcs11_module default { }\nmapper rules { type = certmap;\n"+body+"\n} }"), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return conf.Mappers[0]
}

func TestCertmapOfLocalUsers(t *testing.T) {
	certs := mappertest.CertmapCertificates(t)
	cases := []struct{ name, body, cert, user, want, says string }{
		{
			name: "the rule's name is the user", body: `rule alice { match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "the rule's name is the user, matched",
			body: `rule alice { match = "<SUBJECT>Alice"; }`, cert: "full", user: "alice",
			want: "alice",
		},
		{
			name: "another user", body: `rule alice { match = "<SUBJECT>Alice"; }`, cert: "full",
			user: "bob", says: "no",
		},
		{
			name: "another certificate", body: `rule alice { match = "<SUBJECT>Alice"; }`,
			cert: "plain", user: "alice", says: "nothing usable",
		},
		{name: "the default matching rule", body: `rule bob { }`, cert: "plain", want: "bob"},
		{
			name: "the default matching rule wants clientAuth", body: `rule bob { }`, cert: "nul",
			says: "nothing usable",
		},
		{
			name: "a user in parentheses",
			body: `rule x { match = "<SUBJECT>Alice"; map = "(bob)"; }`, cert: "full", want: "bob",
		},
		{
			name: "a template in parentheses",
			body: `rule x { map = "({subject_rfc822_name.short_name})"; }`, cert: "full",
			want: "alice",
		},
		{
			name: "a template of LDAPU1",
			body: `rule x { map = "LDAPU1:({subject_dn_component.uid})"; }`, cert: "full",
			want: "alice",
		},
		{
			name: "a template that the certificate lacks",
			body: `rule x { map = "({subject_rfc822_name.short_name})"; }`, cert: "plain",
			says: "no",
		},
		{
			name: "a text with NUL",
			body: `rule x { match = "<ISSUER>."; map = "({subject_nt_principal.short_name})"; }`,
			cert: "nul", user: "root", says: "no",
		},
		{
			name: "a user that is no account", body: `rule mallory { match = "<SUBJECT>Alice"; }`,
			cert: "full", says: "no account",
		},
		{
			name: "root is nobody's to name", body: `rule root { match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "root", says: "below UID_MIN",
		},
		{
			name: "the lowest number decides",
			body: `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "a number comes before none",
			body: `rule bob { match = "<SUBJECT>Alice"; } rule alice { priority = 7; match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "zero is the highest",
			body: `rule bob { priority = 1; match = "<SUBJECT>Alice"; } rule alice { priority = 0; match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "the first rule that matches ends the search",
			body: `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`,
			cert: "full", says: "no",
		},
		{
			name: "a rule that does not match is passed over",
			body: `rule bob { priority = 1; match = "<SUBJECT>Bob"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "equal numbers, two users: the first, and the other beside it",
			body: `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`,
			cert: "full", want: "bob",
		},
		{
			name: "equal numbers, two users, one is asked about",
			body: `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "bob", want: "bob",
		},
		{
			name: "equal numbers, one user twice",
			body: `rule alice { match = "<SUBJECT>Alice"; } rule x { match = "<ISSUER>My-CA"; map = "(alice)"; }`,
			cert: "full", want: "alice",
		},
		{
			name: "a higher number, asked for by name",
			body: `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "bob", want: "bob",
		},
		{
			name: "a higher number that does not match",
			body: `rule bob { priority = 2; match = "<SUBJECT>Bob"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "bob", says: "no",
		},
		{
			name: "a higher number behind one that names nobody",
			body: `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "alice", want: "alice",
		},
		{
			name: "a higher number is no way to root",
			body: `rule root { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`,
			cert: "full", user: "root", says: "below UID_MIN",
		},
		{
			name: "domains do not count without a directory",
			body: `rule alice { match = "<SUBJECT>Alice"; domains = other.example; }`, cert: "full",
			want: "alice",
		},
		{
			name: "other letters", body: `rule alice { match = "<SUBJECT>Alice"; }`, cert: "full",
			user: "Alice", says: "no",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, mapper.Options{}, certmapBlock(t, c.body))
			got, words := verdictOf(t, chain, certs[c.cert], c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

func TestCertmapOfADirectory(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	alice := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")), testca.Serial(1, 2, 3))
	bob := ca.Leaf("Bob", testca.SAN(testca.Email("bob@example.com")))
	star := ca.Leaf("*", testca.SAN(testca.URI("x:*")))
	server := slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com", "altSecurityIdentities: X509:<I>C=IT,O=Example,CN=Example CA<SR>030201", binaryLine("userCertificate;binary", alice.DER))+
		slapdtest.Person("bob", 2002, "mail: bob@example.com", "description: bob@example.com")+slapdtest.Person("carol", 2003, "description: alice@example.com"))
	head := fmt.Sprintf("uri = %q; base = %q; ", server.LDAP, "ou=People,"+slapdtest.Suffix)
	cases := []struct {
		name, body string
		cert       *testca.Cert
		user, want string
		says       string
	}{
		{name: "the default mapping rule", body: `rule x { }`, cert: alice, want: "alice"},
		{
			name: "the default mapping rule, matched", body: `rule x { }`, cert: alice,
			user: "alice", want: "alice",
		},
		{
			name: "the default mapping rule, another user", body: `rule x { }`, cert: alice,
			user: "bob", says: "no",
		},
		{
			name: "the default mapping rule, no such certificate", body: `rule x { }`, cert: bob,
			says: "no",
		},
		{
			name: "mail", body: `rule x { map = "(mail={subject_rfc822_name})"; }`, cert: bob,
			want: "bob",
		},
		{
			name: "serial number of Active Directory",
			body: `rule x { map = "LDAPU1:(altSecurityIdentities=X509:<I>{issuer_dn!ad_x500}<SR>{serial_number!hex_ur})"; }`,
			cert: alice, want: "alice",
		},
		{
			name: "by mail, where the certificate would do too",
			body: `rule x { map = "(|(userCertificate={cert!bin})(description={subject_rfc822_name}))"; }`,
			cert: bob, want: "bob",
		},
		{
			name: "two entries",
			body: `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`,
			cert: alice, says: "more than one user",
		},
		{
			name: "two entries, one is asked about",
			body: `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`,
			cert: alice, user: "carol", want: "carol",
		},
		{
			name: "two rules of a number, one entry",
			body: `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`,
			cert: bob, want: "bob",
		},
		{
			name: "two rules of a number, two entries",
			body: `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`,
			cert: alice, says: "more than one user",
		},
		{
			name: "a local rule and a directory",
			body: `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`,
			cert: bob, want: "bob",
		},
		{
			name: "a local rule and a directory that differ: both",
			body: `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`,
			cert: alice, want: "bob",
		},
		{
			name: "a higher number of a directory",
			body: `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`,
			cert: alice, user: "alice", want: "alice",
		},
		{
			name: "a higher number of a directory, another user",
			body: `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`,
			cert: alice, user: "carol", says: "no",
		},
		{
			name: "a local rule behind a directory",
			body: `rule x { priority = 1; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; } rule x2 { priority = 2; match = "<ISSUER>."; map = "(bob)"; }`,
			cert: alice, user: "bob", want: "bob",
		},
		{
			name: "a star", body: `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`,
			cert: star, says: "no",
		},
		{
			name: "a star, matched",
			body: `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`, cert: star,
			user: "alice", says: "no",
		},
		{
			name: "domains with this one",
			body: `domain = a.example; rule x { domains = b.example, A.example; }`, cert: alice,
			want: "alice",
		},
		{
			name: "domains without this one",
			body: `domain = c.example; rule x { domains = b.example, a.example; }`, cert: alice,
			says: "nothing usable",
		},
		{name: "no domains", body: `domain = c.example; rule x { }`, cert: alice, want: "alice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, mapper.Options{}, certmapBlock(t, head+c.body))
			got, words := verdictOf(t, chain, mappertest.Parsed(t, c.cert), c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

func TestCertmapErrorsSayWhere(t *testing.T) {
	for body, want := range map[string]string{
		"\n\n rule bad { match = \"<SUBJECT>(a)\\1\"; }": "test.conf:5:2: rule bad: match: <SUBJECT>: back-references are not supported",
		"rule bad { map = \"(uid={no})\"; }":             "test.conf:3:1: rule bad: map: {no}: there is no such template",
		"rule bad { map = \"(uid={subject_uri})\"; }":    "no server is configured",
		"uri = \"ldap://x\"; rule bad { domains = a; }":  "does not say its own",
		"":             "there is no block rule",
		"rule a/b { }": "no login",
	} {
		_, err := mapper.New([]config.Mapper{certmapBlock(t, body)}, mapper.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}
