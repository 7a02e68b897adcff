package certmap

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
	"pam_pkcs11/mapper/internal/posix"
)

// Rules as they are written for SSSD: names in any case and abbreviated, escapes of GNU's library, octets in
// Base64.

// sssdCerts are the certificates that TestCertmapReadsSSSD is about.
func sssdCerts(t testing.TB) map[string]*certinfo.Certificate {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("O=Example", "CN=My CA")))
	leaf := func(options ...testca.Option) *certinfo.Certificate {
		return mappertest.Parsed(t, ca.Leaf("x", options...))
	}
	return map[string]*certinfo.Certificate{
		"tu1": leaf(testca.Subject("CN=Test User 1"), testca.SAN(testca.UPN("tu1@ad.devel"), testca.Email("test.user@example.com")),
			testca.KeyUsage(true, testca.DigitalSignature), testca.ExtKeyUsage(false, testca.ClientAuth, testca.SmartcardLogon)),
		"krb": leaf(testca.Subject("O=Example", "CN=DOE.JANE.1234567890"), testca.SAN(testca.Principal("AD.DEVEL", "jane"), testca.DNS("host.example.com")),
			testca.KeyUsage(true, testca.NonRepudiation), testca.ExtKeyUsage(false, "1.3.6.1.5.2.3.4")),
		"many": leaf(testca.Subject("CN=admin_2"), testca.SAN(testca.Other("1.2.3.4", testca.TLV(4, []byte("\x00\x01tail"))), testca.URI("urn:x:1"),
			testca.IP(10, 0, 0, 1), testca.RegisteredID("1.2.3.4.5"), testca.TLV(0xa3, testca.UTF8("x400")), testca.TLV(0xa5, testca.UTF8("edi")),
			testca.Directory(testca.DN("O=Directory"))), testca.Without("2.5.29.37")),
		"bare": leaf(testca.Subject("CN=a.b")),
	}
}

func TestCertmapReadsSSSD(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	cases := []struct {
		rule, meaning string
		yes           string // certificates that match, blanks between
	}{
		{"<KU>digitalsignature", "a key usage without regard to case", "tu1 bare many"},
		{"<KU>NONREPUDIATION", "all capitals", "krb"},
		{"<KU>DigitalSignature , crlsign", "a list of them", ""},
		{"<EKU>clientauth", "an extended key usage without regard to case", "tu1 bare"},
		{"<EKU>MSSCLOGIN,CLIENTAUTH", "two of them", "tu1 bare"},
		{"<EKU>PkInit", "Kerberos's, by its short name", "krb"},
		{"<EKU>kpclientauth", "the same by its other name", "krb"},

		{"<SAN:pkinitSAN>^jane@AD", "the Kerberos principal, by the whole name", "krb"},
		{"<SAN:pkinitSAN>tu1", "which is not Microsoft's", ""},
		{"<SAN:pkinit>^jane@AD", "as the manual page abbreviates it", "krb"},
		{"<SAN:PKINITsan>^jane@AD", "in any case", "krb"},
		{"<SAN:nt>^tu1@ad", "an abbreviation of ntPrincipalName", "tu1"},
		{"<SAN:NTPRINCIPALNAME>^tu1@ad", "in any case", "tu1"},
		{"<SAN:principal>^(tu1|jane)@", "either principal", "tu1 krb"},
		{"<SAN:dnsName>^host\\.", "dNSName in another case", "krb"},
		{"<SAN:dns>^host\\.", "abbreviated", "krb"},
		{"<SAN:RFC822NAME>test.user", "rfc822Name in another case", "tu1"},
		{"<SAN:rfc822>test.user", "abbreviated", "tu1"},
		{"<SAN:rfc822Name>tu1", "which is not the principal name", ""},
		{"<SAN:URIS>urn", "longer than the name is no abbreviation", "refused"},
		{"<SAN:uniform>^urn:x:1$", "an abbreviation of uniformResourceIdentifier", "many"},
		{"<SAN:ipaddress>^10\\.", "iPAddress in another case", "many"},
		{"<SAN:registeredid>^1\\.2\\.", "registeredID in another case", "many"},
		{"<SAN:directoryname>O=Directory", "directoryName in another case", "many"},
		{"<SAN:directory>O=Directory", "abbreviated", "many"},
		{"<SAN:r>x", "rfc822Name or registeredID", "refused"},
		{"<SAN:d>x", "dNSName or directoryName", "refused"},
		{"<SAN:p>x", "pkinitSAN or Principal", "refused"},
		{"<SAN:>x", "an empty abbreviation", "refused"},
		{"<SAN:pkinitSANs>x", "more than a name", "refused"},
		{"<SAN:upn>x", "no beginning of a name", "refused"},

		{"<SAN:otherName>" + b64("tu1@ad.devel"), "the text of the principal name", "tu1"},
		{"<SAN:othername>" + b64("\x0c\x0ctu1@ad.devel"), "with its tag and length", "tu1"},
		{"<SAN:otherName>" + b64("\x0c\x0ctu1@ad.develx"), "which it does not hold", ""},
		{"<SAN:otherName>" + b64("tu1@ad.deve"), "a part of it", "tu1"},
		{"<SAN:otherName>" + b64("ad.devel"), "the end of it", "tu1"},
		{"<SAN:otherName>" + b64("123"), "nobody's", ""},
		{"<SAN:otherName>" + b64("\x00\x01tail"), "octets that are no text", "many"},
		{"<SAN:otherName>" + b64("\x00\x01tail and more"), "longer than the value", ""},
		{"<SAN:otherName>" + b64("\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03"), "the object identifier alone is not the value", ""},
		{"<SAN:x400Address>" + b64("400"), "a part of an address", "many"},
		{"<SAN:ediPartyName>" + b64("edi"), "a part of a name", "many"},
		{"<SAN:ediPartyName>" + b64("edit"), "more than a name", ""},
		{"<SAN:otherName>", "nothing", "refused"},

		{`<SUBJECT>^CN=\w+$`, "letters, digits and _", "many"},
		{`<SUBJECT>^CN=Test\sUser\s1$`, "blanks", "tu1"},
		{`<SUBJECT>^CN=\S+$`, "no blank in it", "krb many bare"},
		{`<SUBJECT>^CN=[^,]*\W[^,]*$`, "something that is no letter", "tu1 krb bare"},
		{`<SUBJECT>\bUser\b`, "a word of its own", "tu1"},
		{`<SUBJECT>\bser\b`, "a part of a word", ""},
		{`<SUBJECT>\Bser\b`, "the end of a word", "tu1"},
		{`<SUBJECT>\<User\>`, "a word of its own", "tu1"},
		{`<SUBJECT>\<Use\>`, "a part of a word", ""},
		{`<SUBJECT>\<admin`, "the beginning of a word", "many"},
		{`<SUBJECT>\w\>$`, "a word at the end", "tu1 krb many bare"},
		{"<SUBJECT>\\`CN=admin_2\\'", "the beginning and the end of the text", "many"},
		{`<SUBJECT>CN\=DOE\.JANE\.[0-9]{10}\,O`, "signs behind a backslash are themselves", "krb"},
		{`<SAN>tu1\@ad`, "so is the at sign", "tu1"},
		{`<SUBJECT>^CN=[\w]+$`, "in brackets a backslash is itself", ""},
		{`<SUBJECT>\d`, "GNU's library takes it for the letter d, its writer for a digit", "refused"},
		{`<SUBJECT>\n`, "no escape of POSIX's or GNU's", "refused"},
		{`<SUBJECT>\p{L}`, "Go's", "refused"},
		{`<SUBJECT>\A`, "Go's", "refused"},
		{`<SUBJECT>\>`, "the end of what?", "refused"},
		{`<SUBJECT>\<.`, "Go's engine cannot say it", "refused"},
		{`<SUBJECT>\<a*b`, "nor this", "refused"},
		{`<SUBJECT>.\>`, "nor this", "refused"},
		{`<SUBJECT>a*\>`, "nor this", "refused"},
		{`<SUBJECT>\b*`, "a repetition of nothing", "refused"},
		{`<SUBJECT>\b+`, "a repetition of nothing", "refused"},
		{`<SUBJECT>(\w+) \1`, "a back-reference", "refused"},

		{"<subject>x", "keywords are in capitals, as SSSD wants them", "refused"},
		{":<SUBJECT>^CN=admin_2$", "an empty type is the default one", "many"},
	}
	certs := sssdCerts(t)
	for _, c := range cases {
		r, err := parseMatch(c.rule)
		if err != nil || c.yes == "refused" {
			if (err != nil) != (c.yes == "refused") {
				t.Errorf("%s (%s): %v", c.rule, c.meaning, err)
			}
			continue
		}
		for name, cert := range certs {
			want := slices.Contains(strings.Fields(c.yes), name)
			if r.matches(cert) != want {
				t.Errorf("%s (%s): %s matches: %t", c.rule, c.meaning, name, !want)
			}
		}
	}
	t.Logf("%d rules", len(cases))
}

func TestCertmapReadsSSSDTemplates(t *testing.T) {
	cert := mappertest.CertmapCertificates(t)["full"]
	for template, want := range map[string]string{
		"serial_number!HEX":       "2b0000000011ac0000000012",
		"serial_number!HEX_U":     "2B0000000011AC0000000012",
		"serial_number!hex_U":     "2B0000000011AC0000000012",
		"serial_number!HEX_UC":    "2B:00:00:00:00:11:AC:00:00:00:00:12",
		"serial_number!HEX_CU":    "2B:00:00:00:00:11:AC:00:00:00:00:12",
		"serial_number!Hex_ucR":   "12:00:00:00:00:AC:11:00:00:00:00:2B",
		"serial_number!DEC":       "13307855422322812145769644050",
		"subject_key_id!HEX_UC":   "01:02:0A:FF",
		"cert!SHA256_CU":          certtext.Colons(cert.Fingerprint(certHashes["sha256"])),
		"cert!Sha512_U":           strings.ToUpper(hex.EncodeToString(cert.Fingerprint(certHashes["sha512"]))),
		"cert!sha1_c":             strings.ToLower(certtext.Colons(cert.Fingerprint(certHashes["sha1"]))),
		"subject_dn_component.Ou": "Staff",
		"serial_number!HEXU":      "refused",
		"serial_number!_CU":       "refused",
		"serial_number!HEX_X":     "refused",
		"serial_number!DEC_U":     "refused",
		"subject_key_id!DEC":      "refused",
		"cert!SHA256U":            "refused",
		"SERIAL_NUMBER":           "refused",
		"cert!BIN":                "refused",
	} {
		tmpl, err := parseTemplate(template, true)
		if err != nil {
			if want != "refused" {
				t.Errorf("{%s}: %v", template, err)
			}
			continue
		}
		if value, ok := tmpl.values(cert); !ok || string(value) != want {
			t.Errorf("{%s}: %q, want %q", template, value, want)
		}
	}
}

// TestCertmapExpressionsAreLinear: what takes other engines longer than a login lasts, or more memory than there
// is, is matched or refused.
func TestCertmapExpressionsAreLinear(t *testing.T) {
	cert := mappertest.Parsed(t, testca.NewRoot("x").Leaf("x", testca.Subject("CN="+strings.Repeat("a", 4000))))
	for rule, refused := range map[string]bool{
		"<SUBJECT>^CN=((a*)*)*b$":                                   false,
		"<SUBJECT>^CN=(a|a|aa)*b$":                                  false,
		`<SUBJECT>^CN=(\w*\w*)*\W$`:                                 false,
		`<SUBJECT>(\ba*)*\>\'b`:                                     true, // the end of what?
		"<SUBJECT>^CN=(((a{1,255}){1,255}){1,255}){1,255}b$":        true,
		"<SUBJECT>" + strings.Repeat("(a|", 1500) + "b":             true,
		"<SUBJECT>" + strings.Repeat("(", 2000) + "a":               true,
		"<SAN:otherName>" + strings.Repeat("QUFB", 4000):            false,
		"<SUBJECT>" + strings.Repeat(`\w`, posix.MaxExpression/2+1): true,
	} {
		r, err := parseMatch(rule)
		if (err != nil) != refused {
			t.Errorf("%.60s: %v", rule, err)
		}
		if err == nil && r.matches(cert) {
			t.Errorf("%.60s matches", rule)
		}
	}
}
