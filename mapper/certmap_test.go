package mapper

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

// The cases of this file follow sss-certmap(5) keyword by keyword and template by template, and then
// what its users ran into.

// certmapCerts are the certificates that the cases are about.
func certmapCerts(t testing.TB) map[string]*certinfo.Certificate {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("C=IT", "ST=Lazio", "O=Example", "OU=PKI", "CN=My-CA")))
	full := ca.Leaf("x", testca.Subject("DC=DOMAIN", "DC=MY", "OU=People", "OU=Staff", "emailAddress=alice@mail.example", "UID=alice", "CN=Alice Example"),
		testca.Serial(0x2b, 0, 0, 0, 0, 0x11, 0xac, 0, 0, 0, 0, 0x12), testca.SubjectKeyID(1, 2, 0x0a, 0xff), testca.SID(testSID),
		testca.KeyUsage(true, testca.DigitalSignature|testca.KeyEncipherment), testca.ExtKeyUsage(false, testca.ClientAuth, testca.SmartcardLogon, "1.3.6.1.5.2.3.4"),
		testca.SAN(testca.UPN("alice@MY.AD.REALM"), testca.Principal("MY.PKINIT.REALM", "alice", "admin"), testca.Other("1.2.3.4", testca.UTF8("a test value")),
			testca.Other("1.2.3.5", testca.TLV(4, []byte("123"))), testca.Email("alice@email.domain"), testca.Email("second@email.domain"),
			testca.DNS("alice.my.dns.domain"), testca.TLV(0xa3, testca.UTF8("x400")), testca.Directory(testca.DN("DC=com", "O=Directory", "CN=Alice D")),
			testca.TLV(0xa5, testca.UTF8("edi")), testca.URI("URN:example:alice"), testca.IP(192, 168, 7, 9), testca.RegisteredID("1.2.3.4.5")))
	plain := ca.Leaf("x", testca.Subject("CN=bob"), testca.Serial(0, 0x80, 1), testca.Without("2.5.29.15"))
	odd := ca.Leaf("x", testca.RawSubject(testca.Name(
		testca.RDN(testca.ParseAttribute("C=IT")), testca.RDN(testca.Attribute("2.5.4.9", 0x0c, []byte("Main Street"))), testca.RDN(testca.ParseAttribute("ST=Lazio"), testca.ParseAttribute("L=Roma")),
		testca.RDN(testca.ParseAttribute("UID=1337"), testca.ParseAttribute("CN=Carol, X. (Affiliate)")))),
		testca.SAN(testca.Email("*)(uid=*@evil.example"), testca.Principal("REALM", "carol")), testca.ExtKeyUsage(false, testca.AnyExtKeyUsage), testca.KeyUsage(true, testca.NonRepudiation))
	nul := ca.Leaf("x", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, []byte("root\x00.example"))))), testca.SAN(testca.Email("root\x00@example.com"), testca.UPN("root\x00@X")), testca.Without("2.5.29.37"))
	umlaut := ca.Leaf("x", testca.Subject("O=Società", "CN=Zoë"))
	certs := map[string]*certinfo.Certificate{}
	for name, c := range map[string]*testca.Cert{"full": full, "plain": plain, "odd": odd, "nul": nul, "umlaut": umlaut} {
		certs[name] = ldapCertificate(t, c)
	}
	return certs
}

func TestCertmapMatches(t *testing.T) {
	certs := certmapCerts(t)
	cases := []struct {
		rule string
		yes  string // certificates that match, blanks between
	}{
		{"<SUBJECT>.*,DC=MY,DC=DOMAIN", "full"},
		{"<SUBJECT>,DC=MY,DC=DOMAIN$", "full"},
		{"<SUBJECT>^CN=Alice Example,UID=alice,", "full"},
		{"<SUBJECT>^CN=alice", ""},
		{"<SUBJECT>^CN=bob$", "plain"},
		{"<SUBJECT>bob", "plain"},
		{"<SUBJECT>OU=Staff,OU=People", "full"},
		{"<SUBJECT>OU=People,OU=Staff", ""},
		{"<SUBJECT>emailAddress=alice@mail.example", "full"},
		{"<SUBJECT>STREET=Main Street", "odd"},
		{"<SUBJECT>street=Main Street", ""},
		{`<SUBJECT>CN=Carol\\, X\. \(Affiliate\)`, "odd"},
		{`<SUBJECT>UID=1337\+CN=Carol`, "odd"},
		{"<SUBJECT>ST=Lazio[+]L=Roma", "odd"},
		{"<SUBJECT>CN=root", ""},
		{"<SUBJECT>CN=#", "nul"},
		{"<SUBJECT>Società", "umlaut"},
		{"<SUBJECT>^CN=Zo.,O", "umlaut"},
		{"<SUBJECT>^CN=[[:alpha:]]+$", "plain"},
		{"<SUBJECT>^CN=(alice|bob)$", "plain"},
		{"<SUBJECT>^(CN=b|CN=bob)$", "plain"},
		{"<SUBJECT>^CN=b{1}o{1,}b{1,2}$", "plain"},
		{"<SUBJECT>[^[:ascii-no-class]", "refused"},
		{"<ISSUER>^CN=My-CA,OU=PKI,O=Example,ST=Lazio,C=IT$", "full plain odd nul umlaut"},
		{"<ISSUER>^CN=My-CA,DC=MY,DC=DOMAIN$", ""},
		{"<ISSUER>^C=IT", ""},
		{"<KU>digitalSignature", "full plain nul umlaut"},
		{"<KU>digitalSignature,keyEncipherment", "full plain"},
		{"<KU>digitalSignature, keyEncipherment", "full plain"},
		{"<KU>nonRepudiation", "odd plain"},
		{"<KU>keyAgreement", "plain"},
		{"<KU>dataEncipherment", "plain"},
		{"<KU>keyCertSign", "plain"},
		{"<KU>cRLSign", "plain"},
		{"<KU>encipherOnly", "plain"},
		{"<KU>decipherOnly", "plain"},
		{"<KU>128", "full plain nul umlaut"},
		{"<KU>0x80", "full plain nul umlaut"},
		{"<KU>160", "full plain"},
		{"<KU>0", "full plain odd nul umlaut"},
		{"<KU>4294967295", "plain"},
		{"<EKU>clientAuth", "full plain umlaut"},
		{"<EKU>clientAuth,1.3.6.1.5.2.3.4", "full"},
		{"<EKU>clientAuth,pkinit,msScLogin", "full"},
		{"<EKU>KPClientAuth", "full"},
		{"<EKU>msScLogin", "full plain umlaut"},
		{"<EKU>serverAuth", ""},
		{"<EKU>codeSigning", ""},
		{"<EKU>emailProtection", ""},
		{"<EKU>timeStamping", ""},
		{"<EKU>OCSPSigning", ""},
		{"<EKU>2.5.29.37.0", "odd"},
		{`<SAN>.*@MY\.AD\.REALM`, "full"},
		{`<SAN>^alice/admin@MY\.PKINIT\.REALM$`, "full"},
		{"<SAN>carol@REALM", "odd"},
		{"<SAN>root", ""},
		{`<SAN:Principal>.*@MY\.PKINIT\.REALM`, "full"},
		{"<SAN:ntPrincipalName>.*@MY.AD.REALM", "full"},
		{"<SAN:ntPrincipalName>PKINIT", ""},
		{`<SAN:pkinit>.*@MY\.PKINIT\.REALM`, "full"},
		{"<SAN:pkinit>AD", ""},
		{"<SAN:1.2.3.4>test", "full"},
		{"<SAN:1.2.3.4>^test", ""},
		{"<SAN:1.2.3.6>test", ""},
		{"<SAN:1.2.3.5>123", ""},
		{"<SAN:1.3.6.1.4.1.311.20.2.3>alice@", "full"},
		{"<SAN:otherName>BAMxMjM=", "full"},
		{"<SAN:otherName>MTIz", "full"},
		{"<SAN:rfc822Name>.*@email\\.domain", "full"},
		{"<SAN:rfc822Name>second", "full"},
		{"<SAN:rfc822Name>root", ""},
		{"<SAN:dNSName>.*\\.my\\.dns\\.domain", "full"},
		{"<SAN:x400Address>DAR4NDAw", "full"},
		{"<SAN:x400Address>MTIz", ""},
		{"<SAN:directoryName>.*,DC=com", "full"},
		{"<SAN:directoryName>^CN=Alice D,O=Directory,DC=com$", "full"},
		{"<SAN:ediPartyName>DANlZGk=", "full"},
		{"<SAN:uniformResourceIdentifier>URN:.*", "full"},
		{"<SAN:iPAddress>192\\.168\\..*", "full"},
		{"<SAN:iPAddress>^192.168.7.9$", "full"},
		{"<SAN:registeredID>1\\.2\\.3\\..*", "full"},
		{"KRB5:<SUBJECT>bob", "plain"},
		{"&&<SUBJECT>bob<ISSUER>My-CA", "plain"},
		{"<SUBJECT>bob<ISSUER>Other", ""},
		{"||<SUBJECT>bob<SUBJECT>Zoë", "plain umlaut"},
		{"KRB5:||<SUBJECT>bob<SUBJECT>Zoë", "plain umlaut"},
		{"||<SUBJECT>Nobody<EKU>pkinit", "full"},
		{" <SUBJECT>bob", "plain"},
		{"<SUBJECT>a<b", ""},
		{"<SUBJECT>^CN=bob$<KU>digitalSignature<EKU>clientAuth<ISSUER>PKI", "plain"},
		{defaultMatch, "full plain umlaut"},
	}
	for _, c := range cases {
		r, err := parseMatch(c.rule)
		if c.yes == "refused" {
			if err == nil {
				t.Errorf("%s: accepted", c.rule)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		for name, cert := range certs {
			want := strings.Contains(" "+c.yes+" ", " "+name+" ")
			if r.matches(cert) != want {
				t.Errorf("%s: %s matches: %t", c.rule, name, !want)
			}
		}
	}
	t.Logf("%d matching rules", len(cases))
}

func TestCertmapRulesThatAreRefused(t *testing.T) {
	match := map[string]string{
		"":                                      "nothing to match",
		"KRB5:":                                 "nothing to match",
		"&&":                                    "nothing to match",
		"X509:<SUBJECT>x":                       "type X509 is not known",
		"SUBJECT=x":                             "keyword such as",
		"CN=x":                                  "keyword such as",
		"<SUBJECT":                              "keyword such as",
		"<subject>x":                            "this keyword is not known",
		"<NAME>x":                               "this keyword is not known",
		"<SUBJECT>":                             "empty",
		"<SUBJECT>a<FOO>b":                      "<FOO>: this keyword",
		"<SUBJECT>a&&<ISSUER>b":                 "&& stands at the beginning",
		"<SUBJECT>a||<ISSUER>b":                 "|| stands at the beginning",
		"<KU>":                                  "no key usage",
		"<KU>signing":                           "no key usage",
		"<KU>digitalSignature,":                 "no key usage",
		"<KU>4294967296":                        "no key usage",
		"<KU>-1":                                "no key usage",
		"<EKU>":                                 "no extended key usage",
		"<EKU>1.3.6.1.5.5.7.3.":                 "no extended key usage",
		"<EKU>clientAuth;serverAuth":            "no extended key usage",
		"<SAN:>x":                               "no such kind",
		"<SAN:email>x":                          "no such kind",
		"<SAN:1.2.x>x":                          "no such kind",
		"<SAN:otherName>***":                    "Base64",
		"<SAN:otherName>":                       "Base64",
		"<SAN:x400Address>MTI":                  "Base64",
		"<SAN:ediPartyName>M T I z":             "Base64",
		`<SUBJECT>(a)\1`:                        "back-references",
		"<SUBJECT>[[.hyphen.]]":                 "collating elements",
		"<SUBJECT>[[=a=]]":                      "collating elements",
		"<SUBJECT>[[:alfa:]]":                   "no class [:alfa:]",
		"<SUBJECT>[[:word:]]":                   "no class [:word:]",
		"<SUBJECT>[[:^alpha:]]":                 "no class [:^alpha:]",
		"<SUBJECT>[a":                           `"[" without "]"`,
		"<SUBJECT>[z-a]":                        "invalid character class range",
		"<SUBJECT>(a":                           "missing closing )",
		"<SUBJECT>a)":                           "unexpected )",
		"<SUBJECT>()":                           "nothing stands before or after",
		"<SUBJECT>(|a)":                         "nothing stands before or after",
		"<SUBJECT>a|":                           "nothing stands before or after",
		"<SUBJECT>*a":                           "nothing to repeat",
		"<SUBJECT>^*a":                          "nothing to repeat",
		"<SUBJECT>a**":                          "after another repetition",
		"<SUBJECT>.*?x":                         "after another repetition",
		"<SUBJECT>a+?":                          "after another repetition",
		"<SUBJECT>a{2}{3}":                      "after another repetition",
		"<SUBJECT>a{,3}":                        "no repetition",
		"<SUBJECT>a{3,2}":                       "no repetition",
		"<SUBJECT>a{256}":                       "no repetition",
		"<SUBJECT>a{x}":                         "no repetition",
		"<SUBJECT>a{":                           `"{" without "}"`,
		`<SUBJECT>x\`:                           `"\" at the end`,
		"<SUBJECT>(?i)x":                        `"(?" is not defined`,
		"<SUBJECT>\xff":                         "not UTF-8",
		"<SUBJECT>" + strings.Repeat("a", 5000): "longer than",
		strings.Repeat("<SUBJECT>a", 65):        "more than 64 keywords",
	}
	for rule, want := range match {
		if _, err := parseMatch(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("match %.60q: %v, want %q", rule, err, want)
		}
	}
	mapping := map[string]string{
		"uid=x":                                         "stands in parentheses",
		"(uid=x":                                        "stands in parentheses",
		"alice":                                         "stands in parentheses",
		"IPA:(uid=x)":                                   "type IPA is not known",
		"(uid={nothing})":                               "no such template",
		"(uid={subject_rfc822_name)":                    `"{" without "}"`,
		"(uid=subject_rfc822_name})":                    `"}" without "{"`,
		"(uid={})":                                      "is no template",
		"(uid={subject_rfc822_name.long})":              "takes nothing behind",
		"(uid={subject_rfc822_name!u})":                 "takes nothing behind",
		"(uid={subject_uri.short_name})":                "takes nothing behind",
		"(uid={subject_x400_address!bin})":              "takes nothing behind",
		"(uid={issuer_dn!x500})":                        "no form",
		"(uid={issuer_dn.cn})":                          "takes only a form",
		"(uid={cert!hex})":                              "no form",
		"(uid={cert!md5})":                              "no form",
		"(uid={cert!sha256})":                           "are of LDAPU1",
		"LDAPU1:(uid={cert!sha51})":                     "no form",
		"LDAPU1:(uid={cert!sha2566})":                   "no form",
		"LDAPU1:(uid={cert!sha256_x})":                  "letters u, c and r",
		"LDAPU1:(uid={cert!sha256_uu})":                 "letters u, c and r",
		"LDAPU1:(uid={cert!sha256_})":                   "without a letter",
		"(uid={serial_number})":                         "is of LDAPU1",
		"LDAP:(uid={serial_number})":                    "is of LDAPU1",
		"(uid={sid})":                                   "is of LDAPU1",
		"LDAPU1:(uid={serial_number!oct})":              "takes only a form",
		"LDAPU1:(uid={serial_number!dec_u})":            "takes only a form",
		"LDAPU1:(uid={subject_key_id!dec})":             "takes only a form",
		"LDAPU1:(uid={sid.domain})":                     "takes nothing behind",
		"LDAPU1:(uid={subject_dn_component.[0]})":       "count from 1",
		"LDAPU1:(uid={subject_dn_component.nothing})":   "no attribute",
		"LDAPU1:(uid={subject_dn_component.})":          "without an attribute",
		"LDAPU1:(uid={subject_dn_component!u})":         "takes no form",
		"LDAPU1:(uid={subject_dn_component.cn[12345]})": "is no template",
		"({subject_rfc822_name}=x)":                     "not for an attribute",
		"(mail:{subject_uri}:=x)":                       "not for an attribute",
		"(mail={subject_rfc822_name}":                   "stands in parentheses",
		"(&(mail={subject_rfc822_name})":                "filter",
		"(mail=x)(uid=y)":                               "filter",
		"()":                                            "no login",
		"(a:b)":                                         "no login",
		"(a)(b)":                                        "neither a filter nor a login",
		"({cert})":                                      "a certificate is no login",
		"(" + strings.Repeat("a", 300) + ")":            "no login",
	}
	for rule, want := range mapping {
		if _, err := parseMap(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("map %.60q: %v, want %q", rule, err, want)
		}
	}
	t.Logf("%d rules that are refused", len(match)+len(mapping))
}

// plainFilter undoes the escapes, so that cases can be read.
func plainFilter(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func TestCertmapTemplates(t *testing.T) {
	certs := certmapCerts(t)
	full := certs["full"]
	cases := []struct{ cert, rule, want string }{ // want "": the certificate lacks it
		{"full", "(u={issuer_dn})", "(u=CN=My-CA,OU=PKI,O=Example,ST=Lazio,C=IT)"},
		{"full", "(u={issuer_dn!nss})", "(u=CN=My-CA,OU=PKI,O=Example,ST=Lazio,C=IT)"},
		{"full", "(u={issuer_dn!nss_ldap})", "(u=CN=My-CA,OU=PKI,O=Example,ST=Lazio,C=IT)"},
		{"full", "(u={issuer_dn!nss_x500})", "(u=C=IT,ST=Lazio,O=Example,OU=PKI,CN=My-CA)"},
		{"full", "(u={issuer_dn!ad})", "(u=C=IT,S=Lazio,O=Example,OU=PKI,CN=My-CA)"},
		{"full", "(u={issuer_dn!ad_x500})", "(u=C=IT,S=Lazio,O=Example,OU=PKI,CN=My-CA)"},
		{"full", "(u={issuer_dn!ad_ldap})", "(u=CN=My-CA,OU=PKI,O=Example,S=Lazio,C=IT)"},
		{"full", "(ipacertmapdata=X509:<I>{issuer_dn!ad}<S>{subject_dn!ad})",
			"(ipacertmapdata=X509:<I>C=IT,S=Lazio,O=Example,OU=PKI,CN=My-CA<S>DC=DOMAIN,DC=MY,OU=People,OU=Staff,E=alice@mail.example,OID.0.9.2342.19200300.100.1.1=alice,CN=Alice Example)"},
		{"full", "(u={subject_dn})", "(u=CN=Alice Example,UID=alice,E=alice@mail.example,OU=Staff,OU=People,DC=MY,DC=DOMAIN)"},
		{"odd", "(u={subject_dn!nss_x500})", `(u=C=IT,STREET=Main Street,ST=Lazio+L=Roma,UID=1337+CN=Carol\, X. (Affiliate))`},
		{"odd", "(u={subject_dn!ad})", `(u=C=IT,STREET=Main Street,S=Lazio + L=Roma,OID.0.9.2342.19200300.100.1.1=1337 + CN="Carol, X. (Affiliate)")`},
		{"nul", "(u={subject_dn})", ""},
		{"nul", "(u={subject_dn!ad})", ""},
		{"full", "(u={subject_directory_name})", "(u=CN=Alice D,O=Directory,DC=com)"},
		{"full", "(u={subject_directory_name!ad_x500})", "(u=DC=com,O=Directory,CN=Alice D)"},
		{"plain", "(u={subject_directory_name})", ""},
		{"full", "(u={cert!base64})", "(u=" + string(mustTemplate(t, "cert!base64", full)) + ")"},
		{"full", "(|(userPrincipal={subject_principal})(samAccountName={subject_principal.short_name}))", "(|(userPrincipal=alice@MY.AD.REALM)(samAccountName=alice))"},
		{"odd", "(u={subject_principal})", "(u=carol@REALM)"},
		{"full", "(u={subject_pkinit_principal})", "(u=alice/admin@MY.PKINIT.REALM)"},
		{"full", "(u={subject_pkinit_principal.short_name})", "(u=alice/admin)"},
		{"full", "(u={subject_nt_principal})", "(u=alice@MY.AD.REALM)"},
		{"full", "(u={subject_nt_principal.short_name})", "(u=alice)"},
		{"odd", "(u={subject_nt_principal})", ""},
		{"nul", "(u={subject_nt_principal})", ""},
		{"full", "(|(mail={subject_rfc822_name})(uid={subject_rfc822_name.short_name}))", "(|(mail=alice@email.domain)(uid=alice))"},
		{"plain", "(mail={subject_rfc822_name})", ""},
		{"nul", "(mail={subject_rfc822_name})", ""},
		{"full", "(|(fqdn={subject_dns_name})(host={subject_dns_name.short_name}))", "(|(fqdn=alice.my.dns.domain)(host=alice))"},
		{"full", "(uri={subject_uri})", "(uri=URN:example:alice)"},
		{"full", "(ip={subject_ip_address})", "(ip=192.168.7.9)"},
		{"full", "(a={subject_x400_address})", "(a=\x0c\x04x400)"},
		{"full", "(a={subject_ediparty_name})", "(a=\x0c\x03edi)"},
		{"plain", "(a={subject_ediparty_name})", ""},
		{"full", "(oid={subject_registered_id})", "(oid=1.2.3.4.5)"},
		{"full", "LDAP:(oid={subject_registered_id})", "(oid=1.2.3.4.5)"},
		{"full", "LDAPU1:(serial={serial_number})", "(serial=2b0000000011ac0000000012)"},
		{"full", "LDAPU1:(serial={serial_number!hex})", "(serial=2b0000000011ac0000000012)"},
		{"full", "LDAPU1:(serial={serial_number!hex_u})", "(serial=2B0000000011AC0000000012)"},
		{"full", "LDAPU1:(serial={serial_number!hex_c})", "(serial=2b:00:00:00:00:11:ac:00:00:00:00:12)"},
		{"full", "LDAPU1:(serial={serial_number!hex_ur})", "(serial=1200000000AC11000000002B)"},
		{"full", "LDAPU1:(serial={serial_number!hex_ru})", "(serial=1200000000AC11000000002B)"},
		{"full", "LDAPU1:(serial={serial_number!hex_ucr})", "(serial=12:00:00:00:00:AC:11:00:00:00:00:2B)"},
		{"full", "LDAPU1:(serial={serial_number!dec})", "(serial=13307855422322812145769644050)"},
		{"plain", "LDAPU1:(serial={serial_number!dec})", "(serial=32769)"},
		{"plain", "LDAPU1:(serial={serial_number!hex_u})", "(serial=8001)"},
		{"plain", "LDAPU1:(serial={serial_number!hex_ur})", "(serial=0180)"},
		{"full", "LDAPU1:(altSecurityIdentities=X509:<I>{issuer_dn!ad_x500}<SR>{serial_number!hex_ur})", "(altSecurityIdentities=X509:<I>C=IT,S=Lazio,O=Example,OU=PKI,CN=My-CA<SR>1200000000AC11000000002B)"},
		{"full", "LDAPU1:(k={subject_key_id})", "(k=01020aff)"},
		{"full", "LDAPU1:(k={subject_key_id!hex_uc})", "(k=01:02:0A:FF)"},
		{"full", "LDAPU1:(k={subject_key_id!hex_r})", "(k=ff0a0201)"},
		{"plain", "LDAPU1:(k={subject_key_id})", ""},
		{"full", "LDAPU1:(dgst={cert!sha256_uc})", "(dgst=" + colons(full.Fingerprint(certHashes["sha256"])) + ")"},
		{"full", "LDAPU1:(dgst={cert!sha512})", "(dgst=" + hex.EncodeToString(full.Fingerprint(certHashes["sha512"])) + ")"},
		{"full", "LDAPU1:(dgst={cert!SHA1})", "(dgst=" + hex.EncodeToString(full.Fingerprint(certHashes["sha1"])) + ")"},
		{"full", "LDAPU1:(uid={subject_dn_component})", "(uid=Alice Example)"},
		{"full", "LDAPU1:(uid={subject_dn_component.uid})", "(uid=alice)"},
		{"full", "LDAPU1:(uid={subject_dn_component.UID})", "(uid=alice)"},
		{"full", "LDAPU1:(uid={subject_dn_component.[2]})", "(uid=alice)"},
		{"full", "LDAPU1:(uid={subject_dn_component[2]})", "(uid=alice)"},
		{"full", "LDAPU1:(uid={subject_dn_component.uid[2]})", "(uid=alice)"},
		{"full", "LDAPU1:(uid={subject_dn_component.uid[1]})", ""},
		{"full", "LDAPU1:(uid={subject_dn_component.[-1]})", "(uid=DOMAIN)"},
		{"full", "LDAPU1:(uid={subject_dn_component.[-2]})", "(uid=MY)"},
		{"full", "LDAPU1:(uid={subject_dn_component.[-8]})", ""},
		{"full", "LDAPU1:(uid={subject_dn_component.[8]})", ""},
		{"full", "LDAPU1:(uid={subject_dn_component.ou})", "(uid=Staff)"},
		{"full", "LDAPU1:(uid={subject_dn_component.0.9.2342.19200300.100.1.1})", "(uid=alice)"},
		{"odd", "LDAPU1:(uid={subject_dn_component})", "(uid=Carol, X. (Affiliate))"},
		{"odd", "LDAPU1:(uid={subject_dn_component.uid})", "(uid=1337)"},
		{"nul", "LDAPU1:(uid={subject_dn_component.cn})", ""},
		{"full", "LDAPU1:(uid={issuer_dn_component.ou})", "(uid=PKI)"},
		{"full", "LDAPU1:(uid={issuer_dn_component.[-1]})", "(uid=IT)"},
		{"full", "LDAPU1:(objectsid={sid})", "(objectsid=" + testSID + ")"},
		{"full", "LDAPU1:(rid={sid.rid})", "(rid=512)"},
		{"plain", "LDAPU1:(objectsid={sid})", ""},
		{"full", "(a={{x}}{subject_uri})", "(a={x}URN:example:alice)"},
		{"full", "(&(objectClass=x)(mail=*{subject_rfc822_name}))", "(&(objectClass=x)(mail=*alice@email.domain))"},
		{"odd", "(mail={subject_rfc822_name})", "(mail=*)(uid=*@evil.example)"}, // one value, as TestNoCertificateTextChangesAFilter sees
		{"umlaut", "LDAPU1:(cn={subject_dn_component})", "(cn=Zoë)"},
	}
	for _, c := range cases {
		r, err := parseMap(c.rule)
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		filter, ok := r.filter(certs[c.cert])
		if got := plainFilter(filter); got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %s:\n got %q\nwant %q", c.rule, c.cert, got, c.want)
		}
		if ok {
			if _, err := ldapconn.ParseFilter(filter); err != nil {
				t.Errorf("%s of %s: %v", c.rule, c.cert, err)
			}
		}
	}
	t.Logf("%d templates", len(cases))
}

func mustTemplate(t testing.TB, text string, cert *certinfo.Certificate) []byte {
	tmpl, err := parseTemplate(text, true)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := tmpl.values(cert)
	return value
}

// certmapBlock reads a block with rules from configuration text.
func certmapBlock(t testing.TB, body string) config.Mapper {
	t.Helper()
	conf, err := config.Parse("test.conf", []byte("pam_pkcs11 { use_mappers = rules; pkcs11_module default { }\nmapper rules { type = certmap;\n"+body+"\n} }"), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return conf.Mappers[0]
}

func TestCertmapOfLocalUsers(t *testing.T) {
	certs := certmapCerts(t)
	cases := []struct{ name, body, cert, user, want, says string }{
		{"the rule's name is the user", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"the rule's name is the user, matched", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "alice", "alice", ""},
		{"another user", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "bob", "", "no"},
		{"another certificate", `rule alice { match = "<SUBJECT>Alice"; }`, "plain", "alice", "", "nothing usable"},
		{"the default matching rule", `rule bob { }`, "plain", "", "bob", ""},
		{"the default matching rule wants clientAuth", `rule bob { }`, "nul", "", "", "nothing usable"},
		{"a user in parentheses", `rule x { match = "<SUBJECT>Alice"; map = "(bob)"; }`, "full", "", "bob", ""},
		{"a template in parentheses", `rule x { map = "({subject_rfc822_name.short_name})"; }`, "full", "", "alice", ""},
		{"a template of LDAPU1", `rule x { map = "LDAPU1:({subject_dn_component.uid})"; }`, "full", "", "alice", ""},
		{"a template that the certificate lacks", `rule x { map = "({subject_rfc822_name.short_name})"; }`, "plain", "", "", "no"},
		{"a text with NUL", `rule x { match = "<ISSUER>."; map = "({subject_nt_principal.short_name})"; }`, "nul", "root", "", "no"},
		{"a user that is no account", `rule mallory { match = "<SUBJECT>Alice"; }`, "full", "", "", "no account"},
		{"root is nobody's to name", `rule root { match = "<SUBJECT>Alice"; }`, "full", "root", "", "below UID_MIN"},
		{"the lowest number decides", `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"a number comes before none", `rule bob { match = "<SUBJECT>Alice"; } rule alice { priority = 7; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"zero is the highest", `rule bob { priority = 1; match = "<SUBJECT>Alice"; } rule alice { priority = 0; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"the first rule that matches ends the search", `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "", "", "no"},
		{"a rule that does not match is passed over", `rule bob { priority = 1; match = "<SUBJECT>Bob"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "", "alice", ""},
		{"equal numbers, two users: the first, and the other beside it", `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`, "full", "", "bob", ""},
		{"equal numbers, two users, one is asked about", `rule bob { match = "<SUBJECT>Alice"; } rule alice { match = "<SUBJECT>Alice"; }`, "full", "bob", "bob", ""},
		{"equal numbers, one user twice", `rule alice { match = "<SUBJECT>Alice"; } rule x { match = "<ISSUER>My-CA"; map = "(alice)"; }`, "full", "", "alice", ""},
		{"a higher number, asked for by name", `rule bob { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "bob", "bob", ""},
		{"a higher number that does not match", `rule bob { priority = 2; match = "<SUBJECT>Bob"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "bob", "", "no"},
		{"a higher number behind one that names nobody", `rule nobody { priority = 1; match = "<SUBJECT>Alice"; map = "({subject_uri})"; } rule alice { priority = 2; match = "<SUBJECT>Alice"; }`, "full", "alice", "alice", ""},
		{"a higher number is no way to root", `rule root { priority = 2; match = "<SUBJECT>Alice"; } rule alice { priority = 1; match = "<SUBJECT>Alice"; }`, "full", "root", "", "below UID_MIN"},
		{"domains do not count without a directory", `rule alice { match = "<SUBJECT>Alice"; domains = other.example; }`, "full", "", "alice", ""},
		{"other letters", `rule alice { match = "<SUBJECT>Alice"; }`, "full", "Alice", "", "no"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, Options{}, certmapBlock(t, c.body))
			got, words := verdictOf(t, chain, certs[c.cert], c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

func TestCertmapOfADirectory(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	alice := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")), testca.Serial(1, 2, 3))
	bob := ca.Leaf("Bob", testca.SAN(testca.Email("bob@example.com")))
	star := ca.Leaf("*", testca.SAN(testca.URI("x:*")))
	server := slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com", "altSecurityIdentities: X509:<I>C=IT,O=Example,CN=Example CA<SR>030201", binaryLine("userCertificate;binary", alice.DER))+
		slapdtest.Person("bob", 2002, "mail: bob@example.com", "description: bob@example.com")+slapdtest.Person("carol", 2003, "description: alice@example.com"))
	head := fmt.Sprintf("uri = %q; base = %q; ", server.LDAP, "ou=People,"+slapdtest.Suffix)
	cases := []struct {
		name, body string
		cert       *testca.Cert
		user, want string
		says       string
	}{
		{"the default mapping rule", `rule x { }`, alice, "", "alice", ""},
		{"the default mapping rule, matched", `rule x { }`, alice, "alice", "alice", ""},
		{"the default mapping rule, another user", `rule x { }`, alice, "bob", "", "no"},
		{"the default mapping rule, no such certificate", `rule x { }`, bob, "", "", "no"},
		{"mail", `rule x { map = "(mail={subject_rfc822_name})"; }`, bob, "", "bob", ""},
		{"serial number of Active Directory", `rule x { map = "LDAPU1:(altSecurityIdentities=X509:<I>{issuer_dn!ad_x500}<SR>{serial_number!hex_ur})"; }`, alice, "", "alice", ""},
		{"by mail, where the certificate would do too", `rule x { map = "(|(userCertificate={cert!bin})(description={subject_rfc822_name}))"; }`, bob, "", "bob", ""},
		{"two entries", `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`, alice, "", "", "more than one user"},
		{"two entries, one is asked about", `rule x { map = "(|(mail={subject_rfc822_name})(description={subject_rfc822_name}))"; }`, alice, "carol", "carol", ""},
		{"two rules of a number, one entry", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`, bob, "", "bob", ""},
		{"two rules of a number, two entries", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(description={subject_rfc822_name})"; }`, alice, "", "", "more than one user"},
		{"a local rule and a directory", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`, bob, "", "bob", ""},
		{"a local rule and a directory that differ: both", `rule x { map = "(mail={subject_rfc822_name})"; } rule y { map = "(bob)"; }`, alice, "", "bob", ""},
		{"a higher number of a directory", `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`, alice, "alice", "alice", ""},
		{"a higher number of a directory, another user", `rule x1 { priority = 1; match = "<ISSUER>."; map = "(bob)"; } rule x { priority = 2; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; }`, alice, "carol", "", "no"},
		{"a local rule behind a directory", `rule x { priority = 1; match = "<ISSUER>."; map = "(mail={subject_rfc822_name})"; } rule x2 { priority = 2; match = "<ISSUER>."; map = "(bob)"; }`, alice, "bob", "bob", ""},
		{"a star", `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`, star, "", "", "no"},
		{"a star, matched", `rule x { map = "LDAPU1:(uid={subject_dn_component})"; }`, star, "alice", "", "no"},
		{"domains with this one", `domain = a.example; rule x { domains = b.example, A.example; }`, alice, "", "alice", ""},
		{"domains without this one", `domain = c.example; rule x { domains = b.example, a.example; }`, alice, "", "", "nothing usable"},
		{"no domains", `domain = c.example; rule x { }`, alice, "", "alice", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			chain := ldapChain(t, Options{}, certmapBlock(t, head+c.body))
			got, words := verdictOf(t, chain, ldapCertificate(t, c.cert), c.user)
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %q (%s)", got, words, c.want, c.says)
			}
		})
	}
}

func TestCertmapErrorsSayWhere(t *testing.T) {
	for body, want := range map[string]string{
		"\n\n rule bad { match = \"<SUBJECT>(a)\\1\"; }": "test.conf:5:2: rule bad: match: <SUBJECT>: back-references are not supported",
		"rule bad { map = \"(uid={no})\"; }":             "test.conf:3:1: rule bad: map: {no}: there is no such template",
		"rule bad { map = \"(uid={subject_uri})\"; }":    "no server is configured",
		"uri = \"ldap://x\"; rule bad { domains = a; }":  "does not say its own",
		"":             "there is no block rule",
		"rule a/b { }": "no login",
	} {
		_, err := New([]config.Mapper{certmapBlock(t, body)}, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}
