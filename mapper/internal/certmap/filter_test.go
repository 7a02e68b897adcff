package certmap

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/ldap"
	"pam_pkcs11/mapper/internal/mappertest"
)

// anyCertificate has the octets everywhere that a mapper reads.
func anyCertificate(t *rapid.T, ca *testca.CA) *certinfo.Certificate {
	text := func(name string) []byte { return mappertest.FilterOctets(t, name) }
	tag := rapid.SampledFrom([]byte{0x0c, 0x13, 0x14, 0x16, 0x1e}).Draw(t, "string type")
	issuer := testca.Name(testca.RDN(testca.Attribute("O", 0x0c, text("issuer"))), testca.RDN(testca.Attribute("CN", tag, text("issuer name"))))
	c := ca.Leaf("x", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("UID", 0x0c, text("uid")), testca.Attribute("2.5.4.45", 3, append([]byte{0}, text("unique")...))), testca.RDN(testca.Attribute("CN", tag, text("cn"))), testca.RDN(testca.Attribute("CN", 0x0c, text("second cn"))))),
		testca.RawIssuer(issuer), testca.Serial(append([]byte{1}, text("serial")[0])...), testca.SubjectKeyID(text("key")...), testca.SID(string(text("sid"))),
		testca.SAN(testca.TLV(0x81, text("mail")), testca.TLV(0x81, append(text("mail 2"), "@x"...)), testca.TLV(0x82, text("dns")), testca.TLV(0x86, append([]byte("x:"), text("uri")...)),
			testca.Other("1.3.6.1.4.1.311.20.2.3", testca.TLV(0x0c, text("upn"))), testca.Principal(string(text("realm")), string(text("principal"))), testca.TLV(0xa3, text("x400")), testca.TLV(0xa5, text("edi")),
			testca.Directory(testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, text("directory")))))))
	parsed, err := certinfo.Parse(c.DER)
	if err != nil {
		t.Skip(err)
	}
	return parsed
}

var everyItem = []string{"cn", "subject", "kpn", "email", "upn", "uid", "serial", "issuer", "sid", "altsecid"}

var everyTemplate = []string{
	"issuer_dn", "issuer_dn!ad", "issuer_dn!ad_ldap", "issuer_dn!nss_x500", "subject_dn", "subject_dn!ad", "subject_directory_name", "subject_directory_name!ad", "cert", "cert!base64", "cert!sha256_uc",
	"subject_principal", "subject_principal.short_name", "subject_pkinit_principal", "subject_pkinit_principal.short_name", "subject_nt_principal", "subject_nt_principal.short_name",
	"subject_rfc822_name", "subject_rfc822_name.short_name", "subject_dns_name", "subject_dns_name.short_name", "subject_uri", "subject_ip_address", "subject_x400_address", "subject_ediparty_name", "subject_registered_id",
	"serial_number", "serial_number!dec", "serial_number!hex_ucr", "subject_key_id", "subject_key_id!hex_ucr", "sid", "sid.rid", "subject_dn_component", "subject_dn_component.uid", "subject_dn_component.[2]", "issuer_dn_component.[-1]",
}

// TestNoCertificateTextChangesAFilter: whatever a certificate holds stands in a filter as one whole value.
func TestNoCertificateTextChangesAFilter(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	rapid.Check(t, func(t *rapid.T) {
		cert := anyCertificate(t, ca)
		for _, item := range everyItem {
			values, err := ldap.ItemValues(item, cert, true)
			if err != nil {
				continue // refused as a whole
			}
			e := ldap.Element{Clauses: []mappers.Condition{{Attribute: "a", Item: item}, {Attribute: "b", Item: "serial"}}}
			filter, err := e.Filter(cert, true)
			if err != nil || filter == "" != (len(values) == 0) {
				t.Fatalf("%s: %q, %v", item, filter, err)
			}
			if filter == "" {
				continue
			}
			parsed, err := ldapconn.ParseFilter(filter)
			if err != nil {
				t.Fatalf("%s: %v", item, err)
			}
			leaves := mappertest.Leaves(parsed)
			if len(leaves) != len(values)+1 || parsed.Op != "&" {
				t.Fatalf("%s: %s for %q", item, parsed.Shape(), values)
			}
			for i, v := range values {
				if l := leaves[i]; l.Attribute != "a" || len(l.Values) != 1 || !bytes.Equal(l.Values[0], v) {
					t.Fatalf("%s: %q stands for %q", item, l, v)
				}
			}
		}
		for _, text := range everyTemplate {
			r, err := parseMap("LDAPU1:(&(a=before{" + text + "}after)(|(b={" + text + "})(c=x)))")
			if err != nil {
				t.Fatal(err)
			}
			filter, ok := r.filter(cert)
			tmpl, _ := parseTemplate(text, true)
			value, has := tmpl.values(cert)
			if ok != has {
				t.Fatalf("%s: %t, %t", text, ok, has)
			}
			if !ok || text == "cert" {
				continue
			}
			parsed, err := ldapconn.ParseFilter(filter)
			if err != nil || parsed.Shape() != "(&(=a)(|(=b)(=c)))" {
				t.Fatalf("%s: %v, %v", text, parsed, err)
			}
			leaves := mappertest.Leaves(parsed)
			if !bytes.Equal(leaves[0].Values[0], slices.Concat([]byte("before"), value, []byte("after"))) || !bytes.Equal(leaves[1].Values[0], value) {
				t.Fatalf("%s: %q stands for %q", text, leaves, value)
			}
		}
		parsed, err := ldapconn.ParseFilter(directory.CertificateFilter("userCertificate;binary", cert, "auto"))
		if err != nil || parsed.Shape() != "(|(=userCertificate;binary)(=userCertificate))" || !bytes.Equal(parsed.Children[0].Values[0], cert.Raw) {
			t.Fatalf("certificate: %v, %v", parsed, err)
		}
	})
}

func FuzzCertmapRule(f *testing.F) {
	certs := mappertest.CertmapCertificates(f)
	for _, seed := range [][2]string{
		{"<SUBJECT>^CN=(alice|bob)$<KU>digitalSignature,0x20<EKU>clientAuth", "(userCertificate;binary={cert!bin})"},
		{"KRB5:||<SAN:1.2.3>a{2,3}<SAN:otherName>MTIz<ISSUER>[^[:alpha:]]", "LDAPU1:(|(a={serial_number!hex_ucr})(b={subject_dn_component.cn[-1]}))"},
		{"&&<SAN>@REALM", "({subject_rfc822_name.short_name})"}, {"<SUBJECT>a<b", "(a={{x}}{sid.rid})"}, {"<SUBJECT>[]-a]", "(alice)"},
		{`<SUBJECT>\bx\>\B\<y\'` + "<SAN:pkinitSAN>\\`\\w+\\s\\S@", "LDAPU1:(a={serial_number!HEX_UC})"},
		{"<KU>CRLSIGN<EKU>clientauth<SAN:dns>a\\.b", "LDAPU1:(|(a={cert!SHA256_CU})(b={subject_key_id!Hex_r}))"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, match, mapping string) {
		if r, err := parseMatch(match); err == nil {
			for _, c := range certs {
				r.matches(c)
			}
		}
		r, err := parseMap(mapping)
		if err != nil {
			return
		}
		shape := ""
		for _, c := range certs {
			if r.local {
				if login, ok := r.login(c); ok && !directory.IsLogin(login) {
					t.Fatalf("%q is a login", login)
				}
				continue
			}
			filter, ok := r.filter(c)
			if !ok {
				continue
			}
			parsed, err := ldapconn.ParseFilter(filter)
			if err != nil {
				t.Fatalf("%s becomes %s: %v", mapping, filter, err)
			}
			if shape == "" {
				shape = parsed.Shape()
			}
			if parsed.Shape() != shape {
				t.Fatalf("%s has the shapes %s and %s", mapping, shape, parsed.Shape())
			}
		}
	})
}
