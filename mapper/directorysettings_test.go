package mapper_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// fileBlock reads the block of a mapper m from configuration text; its settings begin in line 3.
func fileBlock(t testing.TB, typ, settings string) config.Mapper {
	t.Helper()
	text := "pam_pkcs11 { use_mappers = m; pkcs11_module default { }\nmapper m { type = " + typ + ";\n" + settings + "\n} }"
	conf, err := config.Parse("test.conf", []byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return conf.Mappers[0]
}

// TestSettingErrorsSayWhere: what only the mapper can judge has its place all the same.
func TestSettingErrorsSayWhere(t *testing.T) {
	const server = "uri = ldap://h; base = \"dc=x\";\n"
	for _, c := range []struct{ typ, settings, want string }{
		{"ldap", server + `filter = "(objectClass=x)";`, "test.conf:4:10: mapper m: filter has no %s"},
		{"ldap", server + `filter = "(uid=%d)";`, "test.conf:4:10: mapper m: filter: a percent sign"},
		{"ldap", server + `filter = "(uid=%s))";`, "test.conf:4:10: mapper m: filter "},
		{"ldap", server + `filter = "(|(uid=%s)(mail=%s))";`, "test.conf:4:10: mapper m: filter compares %s in more than one way, and uid_attribute"},
		{"ldap", server + `filter = "(|(mail=%s@a)(mail=%s@b))";`, "test.conf:4:10: mapper m: filter compares %s in more than one way"},
		{"ldap", server + `filter = "(cn=%s %s)";`, "test.conf:4:10: mapper m: filter compares %s in more than one way"},
		{"ldap", server + `filter = "(|` + strings.Repeat("(uid=%s)", 33) + `)";`, "test.conf:4:10: mapper m: filter has %s 33 times, at most 32"},
		{"ldap", server + `uid_attribute = "a)(b";`, "test.conf:4:17: mapper m: uid_attribute"},
		{"ldap", server + `attribute = "a=b";`, "test.conf:4:13: mapper m: attribute = "},
		{"ldap", server + `certificate_match = off;`, "test.conf:4:21: mapper m: certificate_match = off without attribute_map"},
		{"ldap", "uri = http://x;", "test.conf:3:7: mapper m: "},
		{"ldap", "ldaphost = \"a b\";", "test.conf:3:12: mapper m: "},
		{"ldap", server + "passwd_file = /x;", "test.conf:4:15: mapper m: a password without binddn"},
		{"ldap", server + "passwd = x;", "test.conf:4:10: mapper m: a password without binddn"},
		{"ldap", server + "binddn = \"cn=x\"; sasl_mech = EXTERNAL;", "test.conf:4:30: mapper m: sasl_mech = EXTERNAL and binddn"},
		{"ldap", server + "binddn = \"cn=x\"; passwd = x; passwd_file = /x;", "test.conf:4:44: mapper m: passwd and passwd_file"},
		{"ldap", server + "tls_cert = /x;", "test.conf:4:12: mapper m: tls_cert and tls_key"},
		{"certmap", "rule x { map = \"(uid={subject_uri})\"; }", "test.conf:3:1: rule x: map: no server is configured"},
		{"certmap", "", "test.conf:2:1: mapper m: there is no block rule NAME"},
		{"openssh", " keyfile = /etc/keys;", "test.conf:3:12: mapper m: keyfile = /etc/keys: a path for all users"},
	} {
		_, err := mapper.New([]config.Mapper{fileBlock(t, c.typ, c.settings)}, mapper.Options{})
		var placed *config.Error
		if !errors.As(err, &placed) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %s: %v, want %s", c.typ, c.settings, err, c.want)
		}
	}
}

// TestSeveralBases: every base is searched, and more than one entry of any of them is nobody's proof.
func TestSeveralBases(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	leaf := func(name string) *testca.Cert { return ca.Leaf(name, testca.SAN(testca.Email(name+"@example.com"))) }
	alice := leaf("alice")
	const staff, guests = "ou=People," + slapdtest.Suffix, "ou=Guests," + slapdtest.Suffix
	moved := func(name string, uid int, lines ...string) string {
		return strings.ReplaceAll(slapdtest.Person(name, uid, lines...), "ou=People,", "ou=Guests,")
	}
	server := slapdtest.Start(t, "dn: "+guests+"\nobjectClass: organizationalUnit\nou: Guests\n\n"+
		slapdtest.Person("alice", 2001, "mail: alice@example.com", "description: both@example.com", binaryLine("userCertificate;binary", alice.DER))+
		moved("bob", 2002, "mail: bob@example.com", "description: both@example.com")+
		slapdtest.Person("carol", 2003, "mail: twice@example.com")+moved("carol", 2003, "mail: twice@example.com"))
	both := fmt.Sprintf("base = %q, %q;", staff, guests)
	tree := fmt.Sprintf("base = %q, %q; scope = sub;", slapdtest.Suffix, guests)
	const byMail = "attribute_map = \"mail=email\"; certificate_match = off;"
	const either = "attribute_map = \"description=email\"; certificate_match = off;"
	for _, c := range []struct {
		name, settings string
		cert           *testca.Cert
		user, want     string
		says           string
	}{
		{name: "the first base", settings: both + byMail, cert: alice, want: "alice"},
		{name: "the second base", settings: both + byMail, cert: leaf("bob"), want: "bob"},
		{
			name: "the second base, matched", settings: both + byMail, cert: leaf("bob"),
			user: "bob", want: "bob",
		},
		{
			name: "the second base, another user", settings: both + byMail, cert: leaf("bob"),
			user: "alice", says: "no",
		},
		{
			name: "the second base alone", settings: fmt.Sprintf("base = %q;", staff) + byMail,
			cert: leaf("bob"), says: "no",
		},
		{
			name:     "the other way round",
			settings: fmt.Sprintf("base = %q, %q;", guests, staff) + byMail, cert: alice,
			want: "alice",
		},
		{name: "the certificate itself", settings: both, cert: alice, want: "alice"},
		{
			name: "one entry of each base", settings: both + either, cert: leaf("both"),
			says: "more than one user",
		},
		{
			name: "one entry of each base, one is the user's", settings: both + either,
			cert: leaf("both"), user: "bob", want: "bob",
		},
		{
			name: "one login in both bases", settings: both + byMail, cert: leaf("twice"),
			says: "more than one user",
		},
		{
			name: "one login in both bases, matched", settings: both + byMail, cert: leaf("twice"),
			user: "carol", says: "more than one user",
		},
		{
			name: "bases one inside the other", settings: tree + byMail, cert: leaf("bob"),
			want: "bob",
		},
		{
			name:     "one base twice",
			settings: fmt.Sprintf("base = %q, %q;", guests, guests) + byMail, cert: leaf("bob"),
			want: "bob",
		},
		{
			name:     "the next element of attribute_map",
			settings: both + "attribute_map = \"description=email\", \"mail=email\"; certificate_match = off;",
			cert:     leaf("bob"), want: "bob",
		},
		{
			name:     "referrals are asked for all bases",
			settings: both + byMail + "referrals = true;", cert: leaf("bob"), want: "bob",
		},
		{
			name: "every certificate is compared", settings: both + "certificate_match = compare;",
			cert: alice, want: "alice",
		},
		{
			name:     "several attributes",
			settings: both + byMail + "filter = \"(|(uid=%s)(cn=%s))\"; uid_attribute = uid;",
			cert:     leaf("bob"), user: "bob", want: "bob",
		},
		{
			name:     "several attributes, nobody given",
			settings: both + byMail + "filter = \"(|(uid=%s)(cn=%s))\"; uid_attribute = uid;",
			cert:     leaf("bob"), want: "bob",
		},
		{
			name:     "several attributes, the name is no login",
			settings: both + byMail + "filter = \"(|(uid=%s)(mail=%s@example.com))\"; uid_attribute = uid;",
			cert:     leaf("twice"), user: "twice", says: "no",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, mapper.Options{Accounts: append(ldapAccounts{"twice"}, ldapPeople...)}, fileBlock(t, "ldap", fmt.Sprintf("uri = %q;", server.LDAP)+c.settings))
			got, words := verdict(t, chain, mappertest.Parsed(t, c.cert), c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
	t.Run("certmap", func(t *testing.T) {
		block := fileBlock(t, "certmap", fmt.Sprintf("uri = %q;", server.LDAP)+both+`rule x { map = "(mail={subject_rfc822_name})"; }`)
		if got, words := verdict(t, ldapChain(t, mapper.Options{}, block), mappertest.Parsed(t, leaf("bob")), ""); got != "bob" {
			t.Errorf("got %q (%s)", got, words)
		}
	})
}
