package mapper

import (
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

// namesOf is a name service that knows accounts by further names, as one with a directory does.
type namesOf struct {
	accounts.Static
	further map[string]accounts.Account
	fault   string // name that it fails for
	asked   *int
}

func (n namesOf) Lookup(name string) (*accounts.Account, error) {
	if n.asked != nil {
		*n.asked++
	}
	if name == n.fault {
		return nil, errors.New("the name service does not answer")
	}
	for _, as := range []string{name, strings.ToLower(name)} {
		if a, ok := n.further[as]; ok {
			return &a, nil
		}
	}
	return n.Static.Lookup(name)
}

// directoryUsers knows dave by four names. A local user has one more that reads like his, and the directory an account with
// the number of somebody else.
func directoryUsers() namesOf {
	dave := accounts.Account{Name: "dave", UID: 21009, Home: "/home/dave"}
	return namesOf{
		Static: accounts.Static{Accounts: []accounts.Account{{Name: "erin", UID: 21010}, {Name: "Local", UID: 1000}}},
		further: map[string]accounts.Account{
			"dave": dave, "dave@example.org": dave, `example\dave`: dave,
			"dave2": {Name: "dave2", UID: 21009},
			"local": {Name: "Local", UID: 21011},
		},
	}
}

func TestPersonIsAnAccount(t *testing.T) {
	for _, c := range []struct {
		typed, name string
		want        bool
	}{
		{"dave", "dave", true}, {"Dave", "dave", true}, {"dave", "DAVE", true}, {"dave@example.org", "dave", true},
		{`EXAMPLE\dave`, "dave@EXAMPLE.ORG", true}, {"dave", `EXAMPLE\dave`, true},
		{"dave", "erin", false}, {"dave", "", false},
		{"dave", "dave2", false},                                // the number is not enough
		{"local", "Local", true},                                // the same name service, the same entry
		{"nobody", "Nobody", false}, {"nobody", "nobody", true}, // texts
	} {
		if got := newPerson(directoryUsers(), c.typed).is(c.name); got != c.want {
			t.Errorf("%q is %q: %v, want %v", c.typed, c.name, got, c.want)
		}
		if got := accounts.Same(directoryUsers(), c.typed, c.name); got != c.want {
			t.Errorf("accounts.Same(%q, %q): %v, want %v", c.typed, c.name, got, c.want)
		}
	}
}

// TestAccountsOfOneNameDiffer: an entry's name is looked up too, since another service may have an account of that name.
func TestAccountsOfOneNameDiffer(t *testing.T) {
	source := namesOf{
		Static:  accounts.Static{Accounts: []accounts.Account{{Name: "dave", UID: 1000}}},
		further: map[string]accounts.Account{"dave@example.org": {Name: "dave", UID: 21009}},
	}
	p := newPerson(source, "dave@example.org")
	if p.is("dave") || len(p.names()) != 1 {
		t.Errorf("the local dave is taken for the directory's: %q", p.names())
	}
}

// TestPersonLooksUpLittle: the same word needs no look-up, and no name is asked for twice or without end.
func TestPersonLooksUpLittle(t *testing.T) {
	asked := 0
	source := directoryUsers()
	source.asked = &asked
	p := newPerson(source, "dave")
	if !p.is("dave") || asked != 0 {
		t.Errorf("%d look-ups for the same word", asked)
	}
	for range 10 {
		p.is("erin")
	}
	if asked != 2 {
		t.Errorf("%d look-ups, want 2", asked)
	}
	for i := range 1000 {
		p.is(strings.Repeat("x", i+1))
	}
	if asked > maxNames+2 {
		t.Errorf("%d look-ups", asked)
	}
	source.fault = "erin"
	if newPerson(source, "dave").is("erin") || newPerson(source, "erin").is("dave") {
		t.Error("a look-up that fails makes two names one account")
	}
}

// TestTypedNames: whatever the mapper has and the user types, they are the same account.
func TestTypedNames(t *testing.T) {
	cert := certificate(t, testca.Subject("CN=dave"),
		testca.SAN(testca.Email("dave@example.org"), testca.UPN("dave@example.org")))
	sum := colons(cert.Fingerprint(digests["sha256"]))
	blocks := map[string]config.Mapper{
		"cn":        block(t, "cn", nil, nil),
		"cn, lines": block(t, "cn", []string{`dave -> EXAMPLE\dave`}, nil),
		"digest":    block(t, "digest", []string{sum + " -> dave"}, nil),
		"serial":    block(t, "serial", []string{"0x" + cert.SerialHex("") + " " + caOneLine + " -> dave@example.org"}, nil),
		"subject":   block(t, "subject", []string{"CN=dave -> dave"}, nil),
		"mail":      block(t, "mail", nil, nil),
		"upn":       block(t, "upn", nil, nil),
		"pwent":     block(t, "pwent", nil, nil),
		"generic":   block(t, "generic", nil, map[string][]string{"use_getpwent": {"true"}}),
		"null":      block(t, "null", nil, map[string][]string{"default_match": {"true"}, "default_user": {"dave"}}),
	}
	blocks["certmap"] = certmapBlock(t, `rule dave { match = "<SUBJECT>CN=dave"; }`)
	for name, b := range blocks {
		c, err := New([]config.Mapper{b}, Options{Accounts: directoryUsers()})
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range []string{"dave", "Dave", "dave@example.org", `EXAMPLE\dave`} {
			r, err := c.Match(t.Context(), Checked{Cert: cert}, typed, true)
			if err != nil || r.User != typed {
				t.Errorf("%s: %s is %q: %v", name, typed, r.User, err)
			}
		}
		for _, typed := range []string{"erin", "dave2", "davy", ""} {
			if r, err := c.Match(t.Context(), Checked{Cert: cert}, typed, true); err == nil {
				t.Errorf("%s: %q gets in: %+v", name, typed, r)
			}
		}
	}
}

// TestDirectoryOfTypedNames: an entry has one login, and the user types another name of the same account.
func TestDirectoryOfTypedNames(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Dave")
	s := slapdtest.Start(t, slapdtest.Person("dave", 21009, binaryLine("userCertificate;binary", leaf.DER))+slapdtest.Person("erin", 21010))
	for _, how := range []string{"auto", "compare", "exact"} {
		c := ldapChain(t, Options{Accounts: directoryUsers()}, ldapBlock(t, "ldap", "uri", s.LDAP, "certificate_match", how))
		for typed, want := range map[string]string{"dave": "dave", "Dave": "Dave", `EXAMPLE\dave`: `EXAMPLE\dave`, "erin": "", "dave2": ""} {
			if got, words := verdict(t, c, ldapCertificate(t, leaf), typed); got != want {
				t.Errorf("%s: %s is %q (%s)", how, typed, got, words)
			}
		}
	}
}

// TestDirectoryIsAskedForTheAccount: its entry has the account's name, whatever was typed.
func TestDirectoryIsAskedForTheAccount(t *testing.T) {
	f, err := newUserFilter("(&(objectClass=posixAccount)(uid=%s))", false)
	if err != nil {
		t.Fatal(err)
	}
	p := newPerson(directoryUsers(), `EXAMPLE\dave`)
	want := `(|(&(objectClass=posixAccount)(uid=EXAMPLE\5cdave))(&(objectClass=posixAccount)(uid=dave)))`
	if got := f.ofAny(p.names()); got != want {
		t.Errorf("%s", got)
	}
	if got := f.ofAny(newPerson(directoryUsers(), "dave").names()); got != "(&(objectClass=posixAccount)(uid=dave))" {
		t.Errorf("%s", got)
	}
}
