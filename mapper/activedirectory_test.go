package mapper_test

import (
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/activedirectory"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mappertest"
)

func TestActiveDirectory(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	other, _ := activedirectory.ParseSID("S-1-5-21-1004336348-1177238915-682003330-1105")
	carolSID, _ := activedirectory.ParseSID(mappertest.SID)
	// account is one person, known by the value that a function makes of the certificate.
	entries := ""
	number := 2000
	account := func(login string, more ...string) {
		number++
		entries += slapdtest.Person(login, number, append([]string{"sAMAccountName: " + login, "objectCategory: person"}, more...)...)
	}
	leaf := func(options ...testca.Option) *testca.Cert { return ca.Leaf("Somebody", options...) }
	value := func(c *testca.Cert, i int, weak bool) string {
		values, err := activedirectory.Identities(mappertest.Parsed(t, c), weak)
		if err != nil || i >= len(values) {
			t.Fatal(values, err)
		}
		return "altSecurityIdentities: " + string(values[i])
	}
	serial, ski, key := leaf(testca.Serial(1, 2, 3)), leaf(testca.SubjectKeyID(1, 2, 3, 4)), leaf()
	issuerSID, sid, uri := leaf(testca.SID("S-1-5-21-9-9-9-9")), leaf(testca.SID(mappertest.SID)), leaf(testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:"+mappertest.SID)))
	subject, issuerSubject := ca.Leaf("Weak Subject"), ca.Leaf("Weak Issuer and Subject")
	mail := ca.Leaf("Weak Mail", testca.SAN(testca.Email("weak@contoso.com")))
	upn := leaf(testca.SAN(testca.UPN("upn@contoso.com")))
	upnAndSID := leaf(testca.SAN(testca.UPN("upn@contoso.com")), testca.SID(other.Text))
	upnAndOtherSID := leaf(testca.SAN(testca.UPN("upn@contoso.com")), testca.SID(mappertest.SID))
	differ := leaf(testca.Serial(7, 7), testca.SID(mappertest.SID), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:"+other.Text)))
	stolen := leaf(testca.Serial(8, 8), testca.SID(other.Text))
	account("serial", value(serial, 0, false))
	account("ski", value(ski, 1, false))
	account("key", value(key, 1, false))
	account("issuersid", value(issuerSID, 4, false))
	account("subject", value(subject, 4, true))
	account("issuersubject", value(issuerSubject, 5, true))
	account("mail", value(mail, 6, true))
	account("upn", "userPrincipalName: upn@contoso.com", binaryLine("objectSid", other.Binary()))
	account("carol", binaryLine("objectSid", carolSID.Binary()), "altSecurityIdentities: X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>0707", "altSecurityIdentities: X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>0808")
	server := slapdtest.Start(t, entries)
	weak := []string{"allow_weak_mapping", "true"}
	cases := []struct {
		name     string
		cert     *testca.Cert
		settings []string
		user     string
		want     string
		says     string
	}{
		{name: "issuer and serial number", cert: serial, want: "serial"},
		{name: "issuer and serial number, matched", cert: serial, user: "serial", want: "serial"},
		{name: "issuer and serial number, another user", cert: serial, user: "ski", says: "no"},
		{name: "subject key identifier", cert: ski, want: "ski"},
		{name: "SHA-1 of the key", cert: key, want: "key"},
		{name: "issuer and SID", cert: issuerSID, want: "issuersid"},
		{name: "SID extension", cert: sid, want: "carol"},
		{name: "SID extension, matched", cert: sid, user: "carol", want: "carol"},
		{name: "SID extension, another user", cert: sid, user: "upn", says: "no"},
		{name: "SID in a URI", cert: uri, want: "carol"},
		{name: "subject", cert: subject, says: "only a weak mapping exists"},
		{name: "subject, weak", cert: subject, settings: weak, want: "subject"},
		{name: "issuer and subject", cert: issuerSubject, says: "only a weak mapping exists"},
		{
			name: "issuer and subject, weak", cert: issuerSubject, settings: weak,
			want: "issuersubject",
		},
		{name: "mail address", cert: mail, says: "only a weak mapping exists"},
		{name: "mail address, weak", cert: mail, settings: weak, want: "mail"},
		{name: "UPN", cert: upn, says: "only a weak mapping exists"},
		{name: "UPN, matched", cert: upn, user: "upn", says: "only a weak mapping exists"},
		{name: "UPN, weak", cert: upn, settings: weak, want: "upn"},
		{name: "UPN and SID", cert: upnAndSID, want: "upn"},
		{
			name: "UPN and SID, the SID alone is not searched for", cert: upnAndSID,
			settings: []string{"attribute_map", "userPrincipalName=upn"}, want: "upn",
		},
		{
			name: "UPN alone is searched for", cert: upn,
			settings: []string{"attribute_map", "userPrincipalName=upn"},
			says:     "only a weak mapping exists",
		},
		{name: "UPN and another's SID", cert: upnAndOtherSID, user: "upn", says: "another account"},
		{
			name: "UPN and another's SID, weak", cert: upnAndOtherSID, settings: weak, user: "upn",
			says: "another account",
		},
		{name: "two SIDs", cert: differ, says: "differing security identifiers"},
		{
			name: "two SIDs, matched and weak", cert: differ, settings: weak, user: "carol",
			says: "differing security identifiers",
		},
		{
			name: "a serial number of an account with another SID", cert: stolen, user: "carol",
			says: "another account",
		},
		{
			name: "a mapping without active_directory", cert: stolen,
			settings: []string{"active_directory", "false", "attribute_map", "altSecurityIdentities=altsecid"},
			user:     "carol", says: "another account",
		},
		{
			name: "issuer and serial number without active_directory", cert: serial,
			settings: []string{"active_directory", "false", "attribute_map", "altSecurityIdentities=altsecid"},
			want:     "serial",
		},
	}
	people := ldapAccounts{"serial", "ski", "key", "issuersid", "subject", "issuersubject", "mail", "upn", "carol"}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := append([]string{"uri", server.LDAP, "base", slapdtest.Suffix, "scope", "2"}, c.settings...)
			if !strings.Contains(strings.Join(c.settings, " "), "active_directory") {
				settings = append(settings, "active_directory", "true")
			}
			chain := ldapChain(t, mapper.Options{Accounts: people}, ldapBlock(t, "ldap", settings...))
			got, words := verdict(t, chain, mappertest.Parsed(t, c.cert), c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

// TestAWeakMappingNamesTheStrongOne: where names alone lead to the user's entry, the refusal has what to write instead.
func TestAWeakMappingNamesTheStrongOne(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	alice := mappertest.Parsed(t, ca.Leaf("Alice", testca.Subject("CN=Alice"), testca.Serial(1, 2, 3)))
	upn := mappertest.Parsed(t, ca.Leaf("Alice", testca.Serial(4, 5), testca.SAN(testca.UPN("alice@contoso.com"))))
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, "sAMAccountName: alice", "objectCategory: person", "userPrincipalName: alice@contoso.com", "altSecurityIdentities: X509:<S>CN=Alice")+
		slapdtest.Person("bob", 2002, "sAMAccountName: bob", "objectCategory: person"))
	block := ldapBlock(t, "ldap", "uri", s.LDAP, "base", slapdtest.Suffix, "active_directory", "true")
	for _, c := range []struct {
		cert *certinfo.Certificate
		user string
		says []string
	}{
		{alice, "", []string{"only a weak mapping", `"X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>030201"`, "allow_weak_mapping = true", "uid=alice,"}},
		{alice, "alice", []string{"only a weak mapping", "<SR>030201", "allow_weak_mapping = true"}},
		{upn, "alice", []string{"only a weak mapping", "<SR>0504", "userPrincipalName=upn"}},
		{alice, "bob", nil},
	} {
		chain := ldapChain(t, mapper.Options{}, block)
		cert := mapper.Checked{Cert: c.cert}
		_, err := chain.Find(ldapContext(t), cert, true)
		if c.user != "" {
			_, err = chain.Match(ldapContext(t), cert, c.user, true)
		}
		if !errors.Is(err, mapper.ErrNoMatch) || errors.Is(err, mapper.ErrUnavailable) || errors.Is(err, directory.ErrWeakMapping) != (c.says != nil) {
			t.Errorf("%q: %v", c.user, err)
		}
		for _, part := range c.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v does not say %s", c.user, err, part)
			}
		}
	}
}

// TestActiveDirectoryNamesEntriesByCN: logins are sAMAccountName, which no entry's name holds there.
func TestActiveDirectoryNamesEntriesByCN(t *testing.T) {
	leaf := testca.NewRoot("x").Leaf("Alice", testca.Serial(1, 2, 3))
	values, err := activedirectory.Identities(mappertest.Parsed(t, leaf), false)
	if err != nil {
		t.Fatal(err)
	}
	s := slapdtest.Start(t, namedByCN("Alice Example", "", "sAMAccountName: alice", "objectCategory: person", "altSecurityIdentities: "+string(values[0]))+
		namedByCN("Bob Example", "", "sAMAccountName: bob", "objectCategory: person"))
	block := ldapBlock(t, "ldap", "uri", s.LDAP, "base", slapdtest.Suffix, "active_directory", "true")
	for user, want := range map[string]string{"": "alice", "alice": "alice", "bob": "", "Alice Example": ""} {
		if got, words := verdict(t, ldapChain(t, mapper.Options{}, block), mappertest.Parsed(t, leaf), user); got != want {
			t.Errorf("%q: got %q (%s)", user, got, words)
		}
	}
}
