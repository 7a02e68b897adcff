package mappertest

import (
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// The cases of this file follow sss-certmap(5) keyword by keyword and template by template, and
// then what its users ran into.

// CertmapCertificates are the certificates that the cases are about.
func CertmapCertificates(t testing.TB) map[string]*certinfo.Certificate {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("C=IT", "ST=Lazio", "O=Example", "OU=PKI", "CN=My-CA")))
	full := ca.Leaf("x",
		testca.Subject("DC=DOMAIN", "DC=MY", "OU=People", "OU=Staff",
			"emailAddress=alice@mail.example", "UID=alice", "CN=Alice Example"),
		testca.Serial(0x2b, 0, 0, 0, 0, 0x11, 0xac, 0, 0, 0, 0, 0x12),
		testca.SubjectKeyID(1, 2, 0x0a, 0xff),
		testca.SID(SID),
		testca.KeyUsage(true, testca.DigitalSignature|testca.KeyEncipherment),
		testca.ExtKeyUsage(false, testca.ClientAuth, testca.SmartcardLogon, "1.3.6.1.5.2.3.4"),
		testca.SAN(
			testca.UPN("alice@MY.AD.REALM"),
			testca.Principal("MY.PKINIT.REALM", "alice", "admin"),
			testca.Other("1.2.3.4", testca.UTF8("a test value")),
			testca.Other("1.2.3.5", testca.TLV(4, []byte("123"))),
			testca.Email("alice@email.domain"),
			testca.Email("second@email.domain"),
			testca.DNS("alice.my.dns.domain"),
			testca.TLV(0xa3, testca.UTF8("x400")),
			testca.Directory(testca.DN("DC=com", "O=Directory", "CN=Alice D")),
			testca.TLV(0xa5, testca.UTF8("edi")),
			testca.URI("URN:example:alice"),
			testca.IP(192, 168, 7, 9),
			testca.RegisteredID("1.2.3.4.5")))

	// Without a key usage, and with a serial number whose first octet is zero.
	plain := ca.Leaf("x",
		testca.Subject("CN=bob"),
		testca.Serial(0, 0x80, 1),
		testca.Without("2.5.29.15"))

	// With several attributes in one relative name, and characters that filters and names escape.
	odd := ca.Leaf("x",
		testca.RawSubject(testca.Name(
			testca.RDN(testca.ParseAttribute("C=IT")),
			testca.RDN(testca.Attribute("2.5.4.9", 0x0c, []byte("Main Street"))),
			testca.RDN(testca.ParseAttribute("ST=Lazio"), testca.ParseAttribute("L=Roma")),
			testca.RDN(testca.ParseAttribute("UID=1337"), testca.ParseAttribute("CN=Carol, X. (Affiliate)")))),
		testca.SAN(testca.Email("*)(uid=*@evil.example"), testca.Principal("REALM", "carol")),
		testca.ExtKeyUsage(false, testca.AnyExtKeyUsage),
		testca.KeyUsage(true, testca.NonRepudiation))

	// What C code would read as "root".
	nul := ca.Leaf("x",
		testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, []byte("root\x00.example"))))),
		testca.SAN(testca.Email("root\x00@example.com"), testca.UPN("root\x00@X")),
		testca.Without("2.5.29.37"))
	umlaut := ca.Leaf("x", testca.Subject("O=Società", "CN=Zoë"))

	certs := map[string]*certinfo.Certificate{}
	for name, c := range map[string]*testca.Cert{"full": full, "plain": plain, "odd": odd, "nul": nul, "umlaut": umlaut} {
		certs[name] = Parsed(t, c)
	}
	return certs
}
