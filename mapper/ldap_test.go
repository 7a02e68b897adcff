package mapper_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/activedirectory"
	"pam_pkcs11/mapper/internal/mappertest"
)

// ldapAccounts is an account database in which the named people exist, from uid 2001 on, root below UID_MIN.
type ldapAccounts []string

func (a ldapAccounts) Lookup(name string) (*accounts.Account, error) {
	switch {
	case name == "root":
		return &accounts.Account{Name: name}, nil
	case slices.Contains(a, name):
		return &accounts.Account{Name: name, UID: uint32(2001 + slices.Index(a, name))}, nil
	}
	return nil, accounts.ErrNoAccount
}

func (a ldapAccounts) All(yield func(accounts.Account) bool) error {
	for i, n := range a {
		if !yield(accounts.Account{Name: n, UID: uint32(2001 + i)}) {
			return nil
		}
	}
	return nil
}

func (a ldapAccounts) UIDMin() uint32 { return 1000 }

var ldapPeople = ldapAccounts{"alice", "bob", "carol", "dora", "erin"}

// settings of a block: key and value in turn; the same key again makes a list.
func ldapBlock(t testing.TB, typ string, settings ...string) config.Mapper {
	t.Helper()
	all := map[string][]string{}
	for i := 0; i < len(settings); i += 2 {
		all[settings[i]] = append(all[settings[i]], settings[i+1])
	}
	if all["base"] == nil {
		all["base"] = []string{"ou=People," + slapdtest.Suffix}
	}
	m, err := config.NewMapper("directory", typ, all)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ldapChain(t testing.TB, o mapper.Options, blocks ...config.Mapper) *mapper.Chain {
	t.Helper()
	if o.Accounts == nil {
		o.Accounts = ldapPeople
	}
	if testing.Verbose() && o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c, err := mapper.New(blocks, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ldapContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// verdict asks a chain: "alice" for a yes, "" for a no, and the mapper's own words.
func verdict(t testing.TB, c *mapper.Chain, cert *certinfo.Certificate, user string) (string, string) {
	t.Helper()
	r, words := resultOf(t, c, cert, user)
	if r.User != "" && r.Origin != mapper.OriginDirectory {
		t.Errorf("origin %s", r.Origin)
	}
	return r.User, words
}

// verdictOf is verdict for answers of any origin.
func verdictOf(t testing.TB, c *mapper.Chain, cert *certinfo.Certificate, user string) (string, string) {
	t.Helper()
	r, words := resultOf(t, c, cert, user)
	return r.User, words
}

func resultOf(t testing.TB, c *mapper.Chain, cert *certinfo.Certificate, user string) (mapper.Result, string) {
	t.Helper()
	ask := func() (mapper.Result, error) { return c.Find(ldapContext(t), mapper.Checked{Cert: cert}, true) }
	if user != "" {
		ask = func() (mapper.Result, error) { return c.Match(ldapContext(t), mapper.Checked{Cert: cert}, user, true) }
	}
	r, err := ask()
	if err != nil && !errors.Is(err, mapper.ErrNoMatch) {
		t.Fatal(err)
	}
	var words []string
	for _, d := range r.Decisions {
		words = append(words, d.Verdict)
	}
	return r, strings.Join(words, "; ")
}

func binaryLine(attribute string, value []byte) string {
	return attribute + ":: " + base64.StdEncoding.EncodeToString(value)
}

// ldapWorld is a directory with people and their certificates.
type ldapWorld struct {
	server                      *slapdtest.Server
	ca                          *testca.CA
	alice, bob, foreign, umlaut *certinfo.Certificate
	evil                        map[string]*certinfo.Certificate
}

func newLDAPWorld(t *testing.T) *ldapWorld {
	ca := testca.NewRoot(`Example "CA", Ltd.`)
	accented := testca.NewRoot("Società CA")
	w := &ldapWorld{ca: ca, evil: map[string]*certinfo.Certificate{}}
	alice := ca.Leaf("Alice Example", testca.SAN(testca.Email("alice@example.com"), testca.UPN("alice@EXAMPLE.COM")))
	bob := ca.Leaf("Bob (Affiliate)", testca.SAN(testca.Email("bob@example.com"), testca.Email("robert@example.com")))
	umlaut := accented.Leaf("Dora", testca.SAN(testca.Email("dora@example.com")))
	w.alice, w.bob, w.umlaut = mappertest.Parsed(t, alice), mappertest.Parsed(t, bob), mappertest.Parsed(t, umlaut)
	w.foreign = mappertest.Parsed(t, ca.Leaf("Nobody Here", testca.SAN(testca.Email("nobody@example.com"))))
	sid, err := activedirectory.ParseSID(mappertest.SID)
	if err != nil {
		t.Fatal(err)
	}
	for name, cn := range map[string]string{"star": "*", "paren": "*)(uid=*", "injection": "x)(|(uid=*", "backslash": `\2a`, "nul": "Alice Example\x00x"} {
		w.evil[name] = mappertest.Parsed(t, ca.Leaf("x", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, []byte(cn))))), testca.SAN(testca.Email("x@example.com"))))
	}
	w.server = slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com", "description: Alice Example", binaryLine("userCertificate;binary", alice.DER), "userPrincipalName: alice@EXAMPLE.COM")+
		slapdtest.Person("bob", 2002, "uid: robert", "mail: bob@example.com", "description: Bob (Affiliate)", binaryLine("userCertificate;binary", bob.DER), binaryLine("userCertificate;binary", ca.Leaf("old bob").DER))+
		slapdtest.Person("carol", 2003, "mail: shared@example.com", binaryLine("objectSid", sid.Binary()), "sAMAccountName: carol")+
		slapdtest.Person("erin", 2005, "mail: shared@example.com")+
		slapdtest.Person("dora", 2004, "mail: dora@example.com", binaryLine("userCertificate;binary", umlaut.DER)))
	return w
}

func TestLDAPMapper(t *testing.T) {
	w := newLDAPWorld(t)
	two := mappertest.Parsed(t, w.ca.Leaf("x", testca.SAN(testca.Email("shared@example.com"))))
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(slapdtest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bind := []string{"binddn", slapdtest.AdminDN, "passwd", slapdtest.Password}
	cases := []struct {
		name     string
		settings []string
		cert     *certinfo.Certificate
		user     string // "" finds
		want     string // "" is a no
		says     string // part of the verdict
	}{
		{name: "the certificate, found", cert: w.alice, want: "alice"},
		{name: "the certificate, matched", cert: w.alice, user: "alice", want: "alice"},
		{name: "the certificate of another user", cert: w.alice, user: "bob", says: "no"},
		{name: "an unknown certificate, found", cert: w.foreign, says: "no"},
		{name: "an unknown certificate, matched", cert: w.foreign, user: "alice", says: "no"},
		{name: "one of two certificates, two logins of which one is an account", cert: w.bob, want: "bob"},
		{name: "the second value of uid", cert: w.bob, user: "robert", says: "no"},
		{
			name:     "uid_attribute with two values, one of them in the name",
			settings: []string{"uid_attribute", "uid"}, cert: w.bob, want: "bob",
		},
		{
			name:     "uid_attribute with two values, the other one",
			settings: []string{"uid_attribute", "uid"}, cert: w.bob, user: "robert", says: "no",
		},
		{
			name: "uid_attribute", settings: []string{"uid_attribute", "uid"}, cert: w.alice,
			want: "alice",
		},
		{
			name:     "uid_attribute that is not there",
			settings: []string{"uid_attribute", "employeeNumber"}, cert: w.alice,
			says: "does not say its login",
		},
		{
			name: "an issuer that OpenLDAP cannot compare, matched", cert: w.umlaut, user: "dora",
			want: "dora",
		},
		{name: "an issuer that OpenLDAP cannot compare, found", cert: w.umlaut, want: "dora"},
		{
			name: "exact", settings: []string{"certificate_match", "exact"}, cert: w.alice,
			want: "alice",
		},
		{
			name: "exact, matched", settings: []string{"certificate_match", "exact"}, cert: w.alice,
			user: "alice", want: "alice",
		},
		{
			name:     "filter, which OpenLDAP cannot",
			settings: []string{"certificate_match", "filter"}, cert: w.alice, says: "no",
		},
		{
			name: "compare, found", settings: []string{"certificate_match", "compare"},
			cert: w.umlaut, want: "dora",
		},
		{
			name: "compare, matched", settings: []string{"certificate_match", "compare"},
			cert: w.bob, user: "bob", want: "bob",
		},
		{
			name: "compare, another user", settings: []string{"certificate_match", "compare"},
			cert: w.bob, user: "alice", says: "no",
		},
		{
			name:     "attribute with ;binary",
			settings: []string{"attribute", "userCertificate;binary"}, cert: w.alice, want: "alice",
		},
		{
			name:     "attribute with ;binary, matched",
			settings: []string{"attribute", "userCertificate;binary"}, cert: w.alice, user: "alice",
			want: "alice",
		},
		{
			name: "attribute_map", settings: []string{"attribute_map", "mail=email"}, cert: w.alice,
			want: "alice",
		},
		{
			name: "attribute_map, matched", settings: []string{"attribute_map", "mail=email"},
			cert: w.alice, user: "alice", want: "alice",
		},
		{
			name: "attribute_map, another user", settings: []string{"attribute_map", "mail=email"},
			cert: w.alice, user: "bob", says: "no",
		},
		{
			name:     "attribute_map with two values",
			settings: []string{"attribute_map", "mail=email", "certificate_match", "off"},
			cert:     w.bob, user: "bob", want: "bob",
		},
		{
			name:     "attribute_map, and",
			settings: []string{"attribute_map", "mail=email&description=cn", "certificate_match", "off"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "attribute_map, and, one does not hold",
			settings: []string{"attribute_map", "mail=email&description=subject", "certificate_match", "off"},
			cert:     w.alice, says: "no",
		},
		{
			name:     "attribute_map, in turn",
			settings: []string{"attribute_map", "mail=kpn", "attribute_map", "mail=cn", "attribute_map", "mail=email", "certificate_match", "off"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "attribute_map, an item that the certificate lacks",
			settings: []string{"attribute_map", "mail=kpn", "certificate_match", "off"},
			cert:     w.alice, says: "nothing usable",
		},
		{
			name:     "attribute_map, parentheses in a name",
			settings: []string{"attribute_map", "description=cn", "certificate_match", "off"},
			cert:     w.bob, user: "bob", want: "bob",
		},
		{
			name:     "attribute_map, the old way to write cn",
			settings: []string{"attribute_map", "description=c", "certificate_match", "off"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "attribute_map, cert",
			settings: []string{"attribute_map", "userCertificate=cert", "certificate_match", "off"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "attribute_map, upn",
			settings: []string{"attribute_map", "userPrincipalName=upn", "certificate_match", "off"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "the certificate after attribute_map",
			settings: []string{"attribute_map", "mail=cn"}, cert: w.alice, want: "alice",
		},
		{
			name:     "two entries fit",
			settings: []string{"attribute_map", "mail=email", "certificate_match", "off"},
			cert:     two, says: "more than one user",
		},
		{
			name:     "two entries fit, one is the user's",
			settings: []string{"attribute_map", "mail=email", "certificate_match", "off"},
			cert:     two, user: "erin", want: "erin",
		},
		{name: "scope 0", settings: []string{"scope", "0"}, cert: w.alice, says: "no"},
		{
			name: "scope 2", settings: []string{"scope", "2", "base", slapdtest.Suffix},
			cert: w.alice, want: "alice",
		},
		{
			name:     "a base that is not there",
			settings: []string{"base", "ou=Nowhere," + slapdtest.Suffix}, cert: w.alice,
			says: "base does not exist",
		},
		{name: "simple bind", settings: bind, cert: w.alice, want: "alice"},
		{
			name:     "binddn without password, which is anonymous",
			settings: []string{"binddn", slapdtest.AdminDN}, cert: w.alice, want: "alice",
		},
		{
			name: "wrong password", settings: []string{"binddn", slapdtest.AdminDN, "passwd", "x"},
			cert: w.alice, says: "Invalid Credentials",
		},
		{
			name:     "passwd_file",
			settings: []string{"binddn", slapdtest.AdminDN, "passwd_file", passwordFile},
			cert:     w.alice, want: "alice",
		},
		{name: "a login in other letters", cert: w.alice, user: "Alice", says: "no"},
		{name: "a login with a blank", cert: w.alice, user: "alice ", says: "no"},
		{name: "a login of stars", cert: w.alice, user: "*", says: "no"},
		{name: "a login that closes the filter", cert: w.alice, user: "alice)(uid=*", says: "no"},
		{
			name: "filter without parentheses", settings: []string{"filter", "uid=%s"},
			cert: w.alice, user: "alice", want: "alice",
		},
		{
			name:     "the old default, which lacked a parenthesis",
			settings: []string{"filter", "(&(objectClass=posixAccount)(uid=%s)"}, cert: w.alice,
			user: "alice", want: "alice",
		},
		{
			name: "filter by mail", settings: []string{"filter", "(mail=%s@example.com)"},
			cert: w.alice, says: "uid_attribute",
		},
		{
			name: "filter by mail, matched", settings: []string{"filter", "(mail=%s@example.com)"},
			cert: w.alice, user: "alice", says: "uid_attribute",
		},
		{
			name:     "filter by mail, the login in the name",
			settings: []string{"filter", "(mail=%s@example.com)", "uid_attribute", "uid"},
			cert:     w.alice, want: "alice",
		},
		{
			name:     "filter by mail, the login in the name, matched",
			settings: []string{"filter", "(mail=%s@example.com)", "uid_attribute", "uid"},
			cert:     w.alice, user: "alice", want: "alice",
		},
		{
			name:     "filter without the login",
			settings: []string{"filter", "(objectClass=posixAccount)", "uid_attribute", "uid"},
			cert:     w.alice, user: "alice", want: "alice",
		},
		{
			name:     "filter without the login, another user",
			settings: []string{"filter", "(objectClass=posixAccount)", "uid_attribute", "uid"},
			cert:     w.alice, user: "bob", says: "no",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", w.server.LDAP}, c.settings...)...))
			got, words := verdict(t, chain, c.cert, c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
	t.Run("no certificate text opens the filter", func(t *testing.T) {
		for name, cert := range w.evil {
			for _, user := range []string{"", "alice", "bob", "root"} {
				for _, element := range []string{"description=cn", "uid=cn", "cn=cn&uid=cn", "description=subject"} {
					chain := ldapChain(t, mapper.Options{AllowUnknownUser: true}, ldapBlock(t, "ldap", "uri", w.server.LDAP, "attribute_map", element))
					if got, words := verdict(t, chain, cert, user); got != "" {
						t.Errorf("%s, %s: logs in as %s (%s)", name, element, got, words)
					}
				}
			}
		}
	})
}

func TestLDAPConfigurationErrors(t *testing.T) {
	cases := map[string][]string{
		"filter with two %s":         {"filter", "(|(uid=%s)(mail=%s))"},
		"filter with %d":             {"filter", "(uid=%d)"},
		"filter that is none":        {"filter", "(uid=%s))"},
		"%s for an attribute":        {"filter", "(%s=x)"},
		"filter without login":       {"filter", "(objectClass=posixAccount)"},
		"login in a substring":       {"filter", "(uid=*%s*)"},
		"approximate login":          {"filter", "(uid~=%s)"},
		"URI that is none":           {"uri", "http://x"},
		"eleven servers":             {"uri", strings.Repeat("ldap://a ", 11)},
		"EXTERNAL and binddn alone":  {"binddn", "cn=x", "sasl_mech", "EXTERNAL"},
		"password without binddn":    {"passwd", "x"},
		"both passwords":             {"binddn", "cn=x", "passwd", "x", "passwd_file", "/x"},
		"binddn and EXTERNAL":        {"binddn", "cn=x", "passwd", "x", "sasl_mech", "EXTERNAL"},
		"certificate without key":    {"tls_cert", "/x"},
		"nothing to search for":      {"certificate_match", "off"},
		"attribute that is none":     {"attribute", "a=b"},
		"uid_attribute that is none": {"uid_attribute", "a)(b"},
	}
	for name, settings := range cases {
		if _, err := mapper.New([]config.Mapper{ldapBlock(t, "ldap", settings...)}, mapper.Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func nilLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// BenchmarkFindAmongTenThousand is what a find without uid_attribute adds to a login, the start of the
// process left out.
func BenchmarkFindAmongTenThousand(b *testing.B) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice")
	cert := mappertest.Parsed(b, leaf)
	var people strings.Builder
	for i := range 10_000 {
		people.WriteString(slapdtest.Person(fmt.Sprintf("user%d", i), 3000+i))
	}
	people.WriteString(slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", leaf.DER)))
	s := slapdtest.Start(b, people.String())
	block := ldapBlock(b, "ldap", "uri", s.LDAP, "binddn", slapdtest.AdminDN, "passwd", slapdtest.Password)
	for b.Loop() {
		if got, words := verdict(b, ldapChain(b, mapper.Options{Logger: nilLogger()}, block), cert, ""); got != "alice" {
			b.Fatal(words)
		}
	}
}
