package mapper_test

import (
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// namedByCN is an entry whose login does not stand in its name, as in Active Directory; number "" leaves uidNumber out.
func namedByCN(cn string, number string, lines ...string) string {
	text := fmt.Sprintf("dn: cn=%s,ou=People,%s\nobjectClass: inetOrgPerson\nobjectClass: user\n", cn, slapdtest.Suffix)
	if number != "" {
		text += "objectClass: posixAccount\ngidNumber: 1\nhomeDirectory: /\nuidNumber: " + number + "\n"
	}
	text += fmt.Sprintf("cn: %s\nsn: %s\n", cn, cn)
	return text + strings.Join(lines, "\n") + "\n\n"
}

// blockText writes settings, key and value in turn, as a block has them.
func blockText(settings []string) string {
	var b strings.Builder
	for i := 0; i < len(settings); i += 2 {
		fmt.Fprintf(&b, "%s = %q;\n", settings[i], settings[i+1])
	}
	return b.String()
}

// TestWhoeverWritesHisOwnEntryIsNobodyElse: mallory, who may write any attribute of his own entry but not rename it, adds a
// value that is another's, or puts it in place of his own, and comes with his own good certificate.
func TestWhoeverWritesHisOwnEntryIsNobodyElse(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	mallory := ca.Leaf("Mallory", testca.SAN(testca.Email("mallory@example.com")))
	cert := mappertest.Parsed(t, mallory)
	held := binaryLine("userCertificate;binary", mallory.DER)
	people := accounts.Static{Accounts: []accounts.Account{{Name: "root"}, {Name: "mallory", UID: 2001}, {Name: "oracle", UID: 2002}, {Name: "local", UID: 2003}}}
	directoryOracle := slapdtest.Person("oracle", 2002, "mail: oracle@example.com", "employeeType: oracle")
	ways := map[string]struct {
		typ      string
		settings []string
		written  string // attribute that mallory writes, with a %s
		byUID    bool   // entries are named by their logins
	}{
		"default filter":                   {"ldap", nil, "uid: %s", true},
		"uid_attribute in the name":        {"ldap", []string{"uid_attribute", "uid"}, "uid: %s", true},
		"filter on mail":                   {"ldap", []string{"filter", "(mail=%s@example.com)"}, "mail: %s@example.com", true},
		"filter on mail, login in a name":  {"ldap", []string{"filter", "(mail=%s@example.com)", "uid_attribute", "uid"}, "mail: %s@example.com", true},
		"uid_attribute":                    {"ldap", []string{"uid_attribute", "employeeType"}, "employeeType: %s", true},
		"uid_attribute and its filter":     {"ldap", []string{"filter", "(employeeType=%s)", "uid_attribute", "employeeType"}, "employeeType: %s", true},
		"attribute_map":                    {"ldap", []string{"attribute_map", "description=email", "certificate_match", "off"}, "uid: %s", true},
		"attribute_map and filter on mail": {"ldap", []string{"attribute_map", "description=email", "filter", "(mail=%s@example.com)"}, "mail: %s@example.com", true},
		"compare":                          {"ldap", []string{"certificate_match", "compare"}, "uid: %s", true},
		"certmap":                          {"certmap", nil, "uid: %s", true},
		"certmap, filter on mail":          {"certmap", []string{"filter", "(mail=%s@example.com)"}, "mail: %s@example.com", true},
		"certmap, uid_attribute":           {"certmap", []string{"uid_attribute", "employeeType", "filter", "(employeeType=%s)"}, "employeeType: %s", true},
		"named by cn":                      {"ldap", []string{"uid_attribute", "employeeType", "filter", "(employeeType=%s)"}, "employeeType: %s", false},
		"sAMAccountName":                   {"ldap", []string{"active_directory", "true", "filter", "(sAMAccountName=%s)"}, "sAMAccountName: %s", false},
	}
	type story struct {
		name, victim, base string
		typ                string
		settings           []string
	}
	var stories []story
	ldif := ""
	for name, way := range ways {
		for _, victim := range []string{"oracle", "local", "root"} {
			for _, replaces := range []bool{false, true} {
				var lines []string
				if own := fmt.Sprintf(way.written, "mallory"); !replaces && own != "uid: mallory" && !strings.HasPrefix(own, "sAM") {
					lines = append(lines, own)
				}
				lines = append(lines, fmt.Sprintf(way.written, victim), "description: mallory@example.com", held)
				entry := namedByCN("Mallory", "2001", append(lines, "uid: mallory")...)
				if way.byUID {
					entry = slapdtest.Person("mallory", 2001, lines...)
				}
				ou := fmt.Sprintf("ou=story%d,ou=People,", len(stories))
				ldif += fmt.Sprintf("dn: %s%s\nobjectClass: organizationalUnit\n\n", ou, slapdtest.Suffix)
				ldif += strings.ReplaceAll(directoryOracle+entry, "ou=People,", ou)
				stories = append(stories, story{
					name:   fmt.Sprintf("%s, %s, replaces %t", name, victim, replaces),
					victim: victim, base: ou + slapdtest.Suffix, typ: way.typ,
					settings: way.settings,
				})
			}
		}
	}
	s := slapdtest.Start(t, ldif)
	for _, c := range stories {
		t.Run(c.name, func(t *testing.T) {
			settings := append([]string{"uri", s.LDAP, "base", c.base}, c.settings...)
			block := ldapBlock(t, "ldap", settings...)
			if c.typ == "certmap" {
				block = certmapBlock(t, blockText(settings)+`rule all { match = "<SUBJECT>."; map = "(userCertificate;binary={cert!bin})"; }`)
			}
			chain := ldapChain(t, mapper.Options{Accounts: people}, block)
			for _, user := range []string{c.victim, ""} {
				if got, words := verdict(t, chain, cert, user); got != "" && got != "mallory" {
					t.Errorf("asked for %q: logs in as %s (%s)", user, got, words)
				}
			}
		})
	}
}

// TestLoginsThatAreNotInTheName: with uid_attribute an entry that is named otherwise has its login, if that is the only
// one, and nobody else's, and the account has its number.
func TestLoginsThatAreNotInTheName(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	alice, bob, carol, dora := ca.Leaf("Alice"), ca.Leaf("Bob"), ca.Leaf("Carol"), ca.Leaf("Dora")
	held := func(c *testca.Cert) string { return binaryLine("userCertificate;binary", c.DER) }
	s := slapdtest.Start(t, namedByCN("Alice", "2001", "uid: alice-nt", "employeeType: alice", held(alice))+
		namedByCN("Bob", "2077", "uid: bob-nt", "employeeType: bob", held(bob))+
		namedByCN("Carol", "", "employeeType: carol", held(carol))+
		namedByCN("Dora", "2004", "uid: dora-nt", "employeeType: dora", held(dora))+
		namedByCN("Dora Two", "2014", "uid: dora2", "employeeType: dora"))
	for _, c := range []struct {
		name       string
		cert       *testca.Cert
		user, want string
		says       string
	}{
		{name: "found", cert: alice, want: "alice"},
		{name: "matched", cert: alice, user: "alice", want: "alice"},
		{name: "another user", cert: alice, user: "carol", says: "no"},
		{
			name: "another number", cert: bob, user: "bob",
			says: `uidNumber "2077" of cn=Bob,ou=People,dc=example,dc=com is not that of the account "bob", 2002`,
		},
		{name: "another number, found", cert: bob, says: "uidNumber"},
		{name: "no number", cert: carol, user: "carol", want: "carol"},
		{name: "two entries", cert: dora, says: "more than one user fits"},
		{name: "two entries, matched", cert: dora, user: "dora", says: "more than one user fits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", s.LDAP, "filter", "(employeeType=%s)", "uid_attribute", "employeeType"))
			if got, words := verdict(t, chain, mappertest.Parsed(t, c.cert), c.user); got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
	t.Run("a number is that of the account that is logged in to", func(t *testing.T) {
		s := slapdtest.Start(t, namedByCN("Mallory", "2077", "uid: mallory", "employeeType: BOB", held(bob)))
		chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", s.LDAP, "filter", "(employeeType=%s)", "uid_attribute", "employeeType", "ignorecase", "true"))
		if got, words := verdict(t, chain, mappertest.Parsed(t, bob), "bob"); got != "" || !strings.Contains(words, "uidNumber") {
			t.Errorf("got %q (%s)", got, words)
		}
	})
	t.Run("the explanation warns", func(t *testing.T) {
		chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", s.LDAP, "filter", "(employeeType=%s)", "uid_attribute", "employeeType"))
		all, err := chain.Explain(ldapContext(t), mapper.Checked{Cert: mappertest.Parsed(t, alice)}, "", true)
		if err != nil || !strings.Contains(fmt.Sprint(all), "whoever may write employeeType may log in as anybody") {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// TestWhatANameCostsIsNothing: a login that stands in the entry's name is found with the searches of the questions alone.
func TestWhatANameCostsIsNothing(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	s := slapdtest.StartLogged(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", leaf.DER)))
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", s.LDAP, "certificate_match", "exact", "uid_attribute", "uid"))
	for _, user := range []string{"", "alice"} {
		if got, words := verdict(t, chain, mappertest.Parsed(t, leaf), user); got != "alice" {
			t.Errorf("got %q (%s)", got, words)
		}
	}
	// slapd writes a line when it comes to it.
	slowtest.Until(t, "the results of two searches", func() bool {
		return strings.Count(s.Log(), " SEARCH RESULT ") >= 2
	})
	if n := strings.Count(s.Log(), " SRCH base="); n != 2 {
		t.Errorf("%d searches for two questions:\n%s", n, s.Log())
	}
}

// TestEveryRefusalNamesItsCure: a filter that compares what does not name the login is refused with the key to write.
func TestEveryRefusalNamesItsCure(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com", binaryLine("userCertificate;binary", leaf.DER)))
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", s.LDAP, "filter", "(mail=%s@example.com)"))
	_, err := chain.Match(ldapContext(t), mapper.Checked{Cert: mappertest.Parsed(t, leaf)}, "alice", true)
	if mapper.Restore(err) != "uid_attribute = ATTRIBUTE, the one that names the login" {
		t.Errorf("%v: %q", err, mapper.Restore(err))
	}
}

// TestAnEntryHasOneLogin: whatever values an entry has, the login is the one of its name.
func TestAnEntryHasOneLogin(t *testing.T) {
	cert := expecting(t)
	for dn, want := range map[string]string{
		"uid=alice,ou=People": "alice", "UID=alice": "alice", "userid=alice": "alice", "cn=x+uid=alice": "alice", "uid=bob": "", "cn=alice": "", "cn=x,uid=alice": "", "uid=Alice": "",
	} {
		uri := slapdtest.Hostile(t, searching(dn, "uid", "alice"))
		chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", uri, "attribute_map", "mail=email", "certificate_match", "off"))
		if got, words := verdict(t, chain, cert, "alice"); got != want {
			t.Errorf("%s: got %q (%s)", dn, got, words)
		}
	}
}
