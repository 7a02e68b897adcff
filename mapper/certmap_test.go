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
		{"the rule's name is the user", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"the rule's name is the user, matched", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "alice", "alice", ""},
		{"another user", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "bob", "", "no"},
		{"another certificate", `rule alice { match = "<SUBJECT>Alice"; }`, "plain", "alice", "", "nothing usable"},
		{"the default matching rule", `rule bob { }`, "plain", "", "bob", ""},
		{"the default matching rule wants clientAuth", `rule bob { }`, "nul", "", "", "nothing usable"},
		{"a user in parentheses", `rule x { match = "<SUBJECT>Alice"; map = "(bob)"; }`, "full", "", "bob", ""},
		{"a template in parentheses", `rule x { map = "({subject_rfc822_name.short_name})"; }`, "full", "", "alice", ""},
		{"a template of LDAPU1", `rule x { map = "LDAPU1:({subject_dn_component.uid})"; }`, "full", "", "alice", ""},
		{"a template that the certificate lacks", `rule x { map = "({subject_rfc822_name.short_name})"; }`, "plain", "", "", "no"},
		{"a text with NUL", `rule x { match = "<ISSUER>."; map = "({subject_nt_principal.short_name})"; }`, "nul", "root", "", "no"},
		{"a user that is no account", `rule mallory { match = "<SUBJECT>Alice"; }`, "full", "", "", "no account"},
		{"root is nobody's to name", `rule root { match = "<SUBJECT>Alice"; }`, "full", "root", "", "below UID_MIN"},
		{"the lowest number decides", `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"a number comes before none", `rule bob { match = "<SUBJECT>Alice"; } rule alice { priority = 7; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"zero is the highest", `rule bob { priority = 1; match = "<SUBJECT>Alice"; } rule alice { priority = 0; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"the first rule that matches ends the search", `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "", "", "no"},
		{"a rule that does not match is passed over", `rule bob { priority = 1; match = "<SUBJECT>Bob"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"equal numbers, two users: the first, and the other beside it", `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`, "full", "", "bob", ""},
		{"equal numbers, two users, one is asked about", `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`, "full", "bob", "bob", ""},
		{"equal numbers, one user twice", `rule alice { match = "<SUBJECT>Alice"; } rule x { match = "<ISSUER>My-CA"; map = "(alice)"; }`, "full", "", "alice", ""},
		{"a higher number, asked for by name", `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "bob", "bob", ""},
		{"a higher number that does not match", `rule bob { priority = 2; match = "<SUBJECT>Bob"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "bob", "", "no"},
		{"a higher number behind one that names nobody", `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "alice", "alice", ""},
		{"a higher number is no way to root", `rule root { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "root", "", "below UID_MIN"},
		{"domains do not count without a directory", `rule alice { match = "<SUBJECT>Alice"; domains = other.example; }`, "full", "", "alice", ""},
		{"other letters", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "Alice", "", "no"},
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
		{"the default mapping rule", `rule x { }`, alice, "", "alice", ""},
		{"the default mapping rule, matched", `rule x { }`, alice, "alice", "alice", ""},
		{"the default mapping rule, another user", `rule x { }`, alice, "bob", "", "no"},
		{"the default mapping rule, no such certificate", `rule x { }`, bob, "", "", "no"},
		{"mail", `rule x { map = "(mail={subject_rfc822_name})"; }`, bob, "", "bob", ""},
		{"serial number of Active Directory", `rule x { map = "LDAPU1:(altSecurityIdentities=X509:<I>{issuer_dn!ad_x500}<SR>{serial_number!hex_ur})"; }`, alice, "", "alice", ""},
		{"by mail, where the certificate would do too", `rule x { map = "(|(userCertificate={cert!bin})(description={subject_rfc822_name}))"; }`, bob, "", "bob", ""},
		{"two entries", `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`, alice, "", "", "more than one user"},
		{"two entries, one is asked about", `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`, alice, "carol", "carol", ""},
		{"two rules of a number, one entry", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`, bob, "", "bob", ""},
		{"two rules of a number, two entries", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`, alice, "", "", "more than one user"},
		{"a local rule and a directory", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`, bob, "", "bob", ""},
		{"a local rule and a directory that differ: both", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`, alice, "", "bob", ""},
		{"a higher number of a directory", `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`, alice, "alice", "alice", ""},
		{"a higher number of a directory, another user", `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`, alice, "carol", "", "no"},
		{"a local rule behind a directory", `rule x { priority = 1; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; } rule x2 { priority = 2; match = "<ISSUER>."; map = "(bob)"; }`, alice, "bob", "bob", ""},
		{"a star", `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`, star, "", "", "no"},
		{"a star, matched", `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`, star, "alice", "", "no"},
		{"domains with this one", `domain = a.example; rule x { domains = b.example, A.example; }`, alice, "", "alice", ""},
		{"domains without this one", `domain = c.example; rule x { domains = b.example, a.example; }`, alice, "", "", "nothing usable"},
		{"no domains", `domain = c.example; rule x { }`, alice, "", "alice", ""},
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
