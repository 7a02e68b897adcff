package mapper

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

func TestSIDs(t *testing.T) {
	s, err := parseSID(testSID)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString("010500000000000515000000dcf4dc3b833d2b46828ba62800020000")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.binary(), want) || s.rid() != "512" || len(s.binary()) != 28 {
		t.Errorf("%x", s.binary())
	}
	if !s.is(want) || !s.is([]byte(testSID)) || s.is(want[:27]) || s.is(append(want, 0)) || s.is(nil) {
		t.Error("the comparison of identifiers is wrong")
	}
	if known, _ := parseSID("S-1-5-32-544"); !bytes.Equal(known.binary(), []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0}) {
		t.Errorf("S-1-5-32-544 is %x", known.binary())
	}
	for _, bad := range []string{"", "S-1", "S-1-5", "S-2-5-1", "S-1-5-", "S-1-5-4294967296", "S-1-281474976710656-1", "S-1-5--1", "s-1-5-1", "S-1-5" + strings.Repeat("-1", 16)} {
		if _, err := parseSID(bad); err == nil {
			t.Errorf("%q is an identifier", bad)
		}
	}
}

func TestAltSecurityIdentities(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	leaf := ca.Leaf("x", testca.Subject("DC=com", "DC=contoso", "CN=Alice, A."), testca.Serial(0x2b, 0, 0, 0, 0, 0x11, 0xac, 0, 0, 0, 0, 0x12),
		testca.SubjectKeyID(0x12, 0x34, 0xab), testca.SID(testSID), testca.SAN(testca.Email("alice@contoso.com")))
	cert := ldapCertificate(t, leaf)
	var key struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSPKI, &key); err != nil {
		t.Fatal(err)
	}
	bits, spki, whole := sha1.Sum(key.Bits.Bytes), sha1.Sum(cert.RawSPKI), sha1.Sum(cert.Raw)
	strong := []string{
		"X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>1200000000AC11000000002B", // Microsoft's own example
		"X509:<SKI>1234ab",
		"X509:<SHA1-PUKEY>" + hex.EncodeToString(bits[:]),
		"X509:<SHA1-PUKEY>" + hex.EncodeToString(spki[:]),
		"X509:<SHA1-PUKEY>" + hex.EncodeToString(whole[:]),
		"X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SID>" + testSID,
	}
	weak := []string{
		`X509:<S>DC=com,DC=contoso,CN="Alice, A."`,
		`X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<S>DC=com,DC=contoso,CN="Alice, A."`,
		"X509:<RFC822>alice@contoso.com",
	}
	for _, c := range []struct {
		weak bool
		want []string
	}{{false, strong}, {true, append(strong, weak...)}} {
		values, err := altSecurityIdentities(cert, c.weak)
		got := string(bytes.Join(values, []byte("\n")))
		if err != nil || got != strings.Join(c.want, "\n") {
			t.Errorf("weak %t: %v\n%s", c.weak, err, got)
		}
	}
	differ := ldapCertificate(t, ca.Leaf("x", testca.SID(testSID), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4"))))
	if values, err := altSecurityIdentities(differ, true); err == nil {
		t.Errorf("a certificate with two identifiers is known by %q", values)
	}
}

func TestActiveDirectory(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	other, _ := parseSID("S-1-5-21-1004336348-1177238915-682003330-1105")
	carolSID, _ := parseSID(testSID)
	// account is one person, known by the value that a function makes of the certificate.
	entries := ""
	number := 2000
	account := func(login string, more ...string) {
		number++
		entries += slapdtest.Person(login, number, append([]string{"sAMAccountName: " + login, "objectCategory: person"}, more...)...)
	}
	leaf := func(options ...testca.Option) *testca.Cert { return ca.Leaf("Somebody", options...) }
	value := func(c *testca.Cert, i int, weak bool) string {
		values, err := altSecurityIdentities(ldapCertificate(t, c), weak)
		if err != nil || i >= len(values) {
			t.Fatal(values, err)
		}
		return "altSecurityIdentities: " + string(values[i])
	}
	serial, ski, key := leaf(testca.Serial(1, 2, 3)), leaf(testca.SubjectKeyID(1, 2, 3, 4)), leaf()
	issuerSID, sid, uri := leaf(testca.SID("S-1-5-21-9-9-9-9")), leaf(testca.SID(testSID)), leaf(testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:"+testSID)))
	subject, issuerSubject := ca.Leaf("Weak Subject"), ca.Leaf("Weak Issuer and Subject")
	mail := ca.Leaf("Weak Mail", testca.SAN(testca.Email("weak@contoso.com")))
	upn := leaf(testca.SAN(testca.UPN("upn@contoso.com")))
	upnAndSID := leaf(testca.SAN(testca.UPN("upn@contoso.com")), testca.SID(other.text))
	upnAndOtherSID := leaf(testca.SAN(testca.UPN("upn@contoso.com")), testca.SID(testSID))
	differ := leaf(testca.Serial(7, 7), testca.SID(testSID), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:"+other.text)))
	stolen := leaf(testca.Serial(8, 8), testca.SID(other.text))
	account("serial", value(serial, 0, false))
	account("ski", value(ski, 1, false))
	account("key", value(key, 1, false))
	account("issuersid", value(issuerSID, 4, false))
	account("subject", value(subject, 4, true))
	account("issuersubject", value(issuerSubject, 5, true))
	account("mail", value(mail, 6, true))
	account("upn", "userPrincipalName: upn@contoso.com", binaryLine("objectSid", other.binary()))
	account("carol", binaryLine("objectSid", carolSID.binary()), "altSecurityIdentities: X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>0707", "altSecurityIdentities: X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>0808")
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
		{"issuer and serial number", serial, nil, "", "serial", ""},
		{"issuer and serial number, matched", serial, nil, "serial", "serial", ""},
		{"issuer and serial number, another user", serial, nil, "ski", "", "no"},
		{"subject key identifier", ski, nil, "", "ski", ""},
		{"SHA-1 of the key", key, nil, "", "key", ""},
		{"issuer and SID", issuerSID, nil, "", "issuersid", ""},
		{"SID extension", sid, nil, "", "carol", ""},
		{"SID extension, matched", sid, nil, "carol", "carol", ""},
		{"SID extension, another user", sid, nil, "upn", "", "no"},
		{"SID in a URI", uri, nil, "", "carol", ""},
		{"subject", subject, nil, "", "", "only a weak mapping exists"},
		{"subject, weak", subject, weak, "", "subject", ""},
		{"issuer and subject", issuerSubject, nil, "", "", "only a weak mapping exists"},
		{"issuer and subject, weak", issuerSubject, weak, "", "issuersubject", ""},
		{"mail address", mail, nil, "", "", "only a weak mapping exists"},
		{"mail address, weak", mail, weak, "", "mail", ""},
		{"UPN", upn, nil, "", "", "only a weak mapping exists"},
		{"UPN, matched", upn, nil, "upn", "", "only a weak mapping exists"},
		{"UPN, weak", upn, weak, "", "upn", ""},
		{"UPN and SID", upnAndSID, nil, "", "upn", ""},
		{"UPN and SID, the SID alone is not searched for", upnAndSID, []string{"attribute_map", "userPrincipalName=upn"}, "", "upn", ""},
		{"UPN alone is searched for", upn, []string{"attribute_map", "userPrincipalName=upn"}, "", "", "only a weak mapping exists"},
		{"UPN and another's SID", upnAndOtherSID, nil, "upn", "", "another account"},
		{"UPN and another's SID, weak", upnAndOtherSID, weak, "upn", "", "another account"},
		{"two SIDs", differ, nil, "", "", "differing security identifiers"},
		{"two SIDs, matched and weak", differ, weak, "carol", "", "differing security identifiers"},
		{"a serial number of an account with another SID", stolen, nil, "carol", "", "another account"},
		{"a mapping without active_directory", stolen, []string{"active_directory", "false", "attribute_map", "altSecurityIdentities=altsecid"}, "carol", "", "another account"},
		{"issuer and serial number without active_directory", serial, []string{"active_directory", "false", "attribute_map", "altSecurityIdentities=altsecid"}, "", "serial", ""},
	}
	people := ldapAccounts{"serial", "ski", "key", "issuersid", "subject", "issuersubject", "mail", "upn", "carol"}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := append([]string{"uri", server.LDAP, "base", slapdtest.Suffix, "scope", "2"}, c.settings...)
			if !strings.Contains(strings.Join(c.settings, " "), "active_directory") {
				settings = append(settings, "active_directory", "true")
			}
			chain := ldapChain(t, Options{Accounts: people}, ldapBlock(t, "ldap", settings...))
			got, words := verdict(t, chain, ldapCertificate(t, c.cert), c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

// TestAWeakMappingNamesTheStrongOne: where names alone lead to the user's entry, the refusal has what to write instead.
func TestAWeakMappingNamesTheStrongOne(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	alice := ldapCertificate(t, ca.Leaf("Alice", testca.Subject("CN=Alice"), testca.Serial(1, 2, 3)))
	upn := ldapCertificate(t, ca.Leaf("Alice", testca.Serial(4, 5), testca.SAN(testca.UPN("alice@contoso.com"))))
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
		chain := ldapChain(t, Options{}, block)
		cert := Checked{Cert: c.cert}
		_, err := chain.Find(ldapContext(t), cert, true)
		if c.user != "" {
			_, err = chain.Match(ldapContext(t), cert, c.user, true)
		}
		if !errors.Is(err, ErrNoMatch) || errors.Is(err, ErrUnavailable) || errors.Is(err, errWeakMapping) != (c.says != nil) {
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
	values, err := altSecurityIdentities(ldapCertificate(t, leaf), false)
	if err != nil {
		t.Fatal(err)
	}
	s := slapdtest.Start(t, namedByCN("Alice Example", "", "sAMAccountName: alice", "objectCategory: person", "altSecurityIdentities: "+string(values[0]))+
		namedByCN("Bob Example", "", "sAMAccountName: bob", "objectCategory: person"))
	block := ldapBlock(t, "ldap", "uri", s.LDAP, "base", slapdtest.Suffix, "active_directory", "true")
	for user, want := range map[string]string{"": "alice", "alice": "alice", "bob": "", "Alice Example": ""} {
		if got, words := verdict(t, ldapChain(t, Options{}, block), ldapCertificate(t, leaf), user); got != want {
			t.Errorf("%q: got %q (%s)", user, got, words)
		}
	}
}
