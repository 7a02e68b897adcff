package mapper_test

import (
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

// TestTypedNames: whatever the mapper has and the user types, they are the same account.
func TestTypedNames(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Subject("CN=dave"),
		testca.SAN(testca.Email("dave@example.org"), testca.UPN("dave@example.org")))
	sum := certtext.Colons(cert.Fingerprint(certtext.Digests["sha256"]))
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
		c, err := mapper.New([]config.Mapper{b}, mapper.Options{Accounts: mappertest.DirectoryUsers()})
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range []string{"dave", "Dave", "dave@example.org", `EXAMPLE\dave`} {
			r, err := c.Match(t.Context(), mapper.Checked{Cert: cert}, typed, true)
			if err != nil || r.User != typed {
				t.Errorf("%s: %s is %q: %v", name, typed, r.User, err)
			}
		}
		for _, typed := range []string{"erin", "dave2", "davy", ""} {
			if r, err := c.Match(t.Context(), mapper.Checked{Cert: cert}, typed, true); err == nil {
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
		c := ldapChain(t, mapper.Options{Accounts: mappertest.DirectoryUsers()}, ldapBlock(t, "ldap", "uri", s.LDAP, "certificate_match", how))
		for typed, want := range map[string]string{"dave": "dave", "Dave": "Dave", `EXAMPLE\dave`: `EXAMPLE\dave`, "erin": "", "dave2": ""} {
			if got, words := verdict(t, c, mappertest.Parsed(t, leaf), typed); got != want {
				t.Errorf("%s: %s is %q (%s)", how, typed, got, words)
			}
		}
	}
}
