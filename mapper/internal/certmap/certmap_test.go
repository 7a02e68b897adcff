package certmap

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

func TestCertmapMatches(t *testing.T) {
	certs := mappertest.CertmapCertificates(t)
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
	certs := mappertest.CertmapCertificates(t)
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
		{"full", "LDAPU1:(dgst={cert!sha256_uc})", "(dgst=" + certtext.Colons(full.Fingerprint(certHashes["sha256"])) + ")"},
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
		{"full", "LDAPU1:(objectsid={sid})", "(objectsid=" + mappertest.SID + ")"},
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
