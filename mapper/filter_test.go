package mapper_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

// TestNoTextIsAnotherUser asks a real directory with texts of every kind: only who has the very text, but
// for case and blanks, which the directory does not tell apart, is found.
func TestNoTextIsAnotherUser(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	server := slapdtest.Start(t, slapdtest.Person("alice", 2001, "description: alice")+slapdtest.Person("bob", 2002, "description: bob"))
	chain, err := mapper.New([]config.Mapper{ldapBlock(t, "ldap", "uri", server.LDAP, "attribute_map", "description=cn", "certificate_match", "off"),
		ldapBlock(t, "ldap", "uri", server.LDAP, "attribute_map", "uid=cn&description=cn", "certificate_match", "off")}, mapper.Options{Accounts: ldapPeople})
	if err != nil {
		t.Fatal(err)
	}
	ctx := ldapContext(t)
	rapid.Check(t, func(t *rapid.T) {
		c, err := certinfo.Parse(ca.Leaf("x", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, mappertest.FilterOctets(t, "cn")))))).DER)
		if err != nil {
			t.Skip(err)
		}
		var text string
		if names := certtext.Usable(c.CommonNames()); len(names) > 0 {
			text = strings.ToLower(strings.TrimSpace(names[0]))
		}
		for _, user := range []string{"", "alice", "bob"} {
			var r mapper.Result
			if user == "" {
				r, err = chain.Find(ctx, mapper.Checked{Cert: c}, true)
			} else {
				r, err = chain.Match(ctx, mapper.Checked{Cert: c}, user, true)
			}
			if err == nil && r.User != text {
				t.Fatalf("%q logs in as %q: %v", text, r.User, r.Decisions)
			}
		}
	})
}
