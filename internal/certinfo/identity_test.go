package certinfo

import (
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

// shown writes texts as "value" or "!why".
func shown(texts []Text) string {
	var parts []string
	for _, t := range texts {
		if t.OK {
			parts = append(parts, t.Value)
		} else {
			parts = append(parts, "!"+t.Why)
		}
	}
	return strings.Join(parts, "|")
}

func TestIdentities(t *testing.T) {
	ca := testca.NewRoot("Root")
	bmp := testca.TLV(0x1e, utf16be("alice@ex"))
	sid := "S-1-5-21-1-2-3-1104"
	tests := []struct {
		name string
		opt  testca.Option
		read func(*Certificate) []Text
		want string
	}{
		{"several common names", testca.Subject("CN=a", "CN=b", "O=x"), (*Certificate).CommonNames, "a|b"},
		{"NUL in a common name", testca.Subject("CN=root\x00.x"), (*Certificate).CommonNames, "!holds a NUL character"},
		{"control character in a common name", testca.Subject("CN=root\n"), (*Certificate).CommonNames, "!holds the control character U+000A"},
		{"C1 control character", testca.Subject("CN=a\u0085"), (*Certificate).CommonNames, "!holds the control character U+0085"},
		{"empty common name", testca.Subject("CN="), (*Certificate).CommonNames, "!empty"},
		{"user id", testca.Subject("UID=u1", "UID=u2"), (*Certificate).UserIDs, "u1|u2"},
		{"unique identifier before user id", testca.Subject("UID=u1", "x500UniqueIdentifier=n1"), (*Certificate).UserIDs, "n1"},
		{"unique identifier as bit string", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("x500UniqueIdentifier", 3, []byte{0, 'n', '2'})))), (*Certificate).UserIDs, "n2"},
		{"mail", testca.SAN(testca.Email("a@b.c"), testca.Email("d@e.f")), (*Certificate).Emails, "a@b.c|d@e.f"},
		{"NUL in mail", testca.SAN(testca.Email("admin\x00@x")), (*Certificate).Emails, "!holds a NUL character"},
		{"non-ASCII mail beside a good one", testca.SAN(testca.Email("ä@b.c"), testca.Email("a@b.c")), (*Certificate).Emails, "!non-ASCII octet in an ASCII string|a@b.c"},
		{"mail without domain", testca.SAN(testca.Email("alice")), (*Certificate).Emails, "!not of the form local@domain"},
		{"malformed URI beside a good one", testca.SAN(testca.URI("http://[bad"), testca.URI("http://ok")), (*Certificate).URIs, "!does not parse as a URI|http://ok"},
		{"relative URI", testca.SAN(testca.URI("/x")), (*Certificate).URIs, "!URI without a scheme"},
		{"DNS", testca.SAN(testca.DNS("h.example")), (*Certificate).DNSNames, "h.example"},
		{"several UPNs", testca.SAN(testca.UPN("a@b"), testca.UPN("c@d")), (*Certificate).UPNs, "a@b|c@d"},
		{"UPN as BMPString", testca.SAN(testca.Other(OIDUPN.String(), bmp)), (*Certificate).UPNs, "alice@ex"},
		{"UPN with NUL", testca.SAN(testca.UPN("admin\x00@x")), (*Certificate).UPNs, "!holds a NUL character"},
		{"UPN that is no string", testca.SAN(testca.Other(OIDUPN.String(), testca.Number(1))), (*Certificate).UPNs, "!type 2 is not a string"},
		{"UPN with trailing data", testca.SAN(testca.Other(OIDUPN.String(), append(testca.UTF8("a"), 5, 0))), (*Certificate).UPNs, "!malformed string"},
		{"otherName without a value", testca.SAN(testca.TLV(0xa0, testca.OID(OIDUPN.String()))), (*Certificate).UPNs, ""},
		{"Kerberos principal", testca.SAN(testca.Principal("EX.COM", "alice")), (*Certificate).KerberosPrincipals, "alice@EX.COM"},
		{"Kerberos principal with instance", testca.SAN(testca.Principal("EX.COM", "al/ice", "ad@min")), (*Certificate).KerberosPrincipals, `al\/ice/ad\@min@EX.COM`},
		{"Kerberos principal as bare string", testca.SAN(testca.Other(OIDKRB5PrincipalName.String(), testca.UTF8("a@B"))), (*Certificate).KerberosPrincipals, "a@B"},
		{"Kerberos principal with NUL", testca.SAN(testca.Principal("EX", "a\x00b")), (*Certificate).KerberosPrincipals, "!holds a NUL character"},
		{"Kerberos principal without names", testca.SAN(testca.Principal("EX")), (*Certificate).KerberosPrincipals, "!malformed Kerberos principal"},
		{"SID extension", testca.SID(sid), (*Certificate).SIDs, sid},
		{"SID as URI", testca.SAN(testca.URI(uriSIDPrefix + sid)), (*Certificate).SIDs, sid},
		{"SID twice alike", both(testca.SID(sid), testca.SAN(testca.URI(uriSIDPrefix+sid))), (*Certificate).SIDs, sid + "|" + sid},
		{"SIDs disagree", both(testca.SID(sid), testca.SAN(testca.URI(uriSIDPrefix+sid+"5"))), (*Certificate).SIDs,
			"!certificate carries differing security identifiers|!certificate carries differing security identifiers"},
		{"SID malformed", testca.SID("S-1-x"), (*Certificate).SIDs, "!not a security identifier"},
		{"SID extension malformed", testca.WithExtension(OIDNTDSSecurity.String(), false, []byte{1}), (*Certificate).SIDs, "!general names: not a sequence"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := shown(tt.read(mustParse(t, ca.Leaf("x", tt.opt)))); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func both(a, b testca.Option) testca.Option {
	return func(t *testca.Template) { a(t); b(t) }
}

func FuzzGeneralNames(f *testing.F) {
	f.Add(testca.Sequence(testca.UPN("a@b"), testca.Principal("R", "a", "b"), testca.Email("a@b"), testca.URI("http://x/"),
		testca.DNS("h"), testca.IP(1, 2, 3, 4), testca.Directory(testca.DN("CN=x")), testca.RegisteredID("1.2.3")))
	f.Fuzz(func(t *testing.T, der []byte) {
		names, err := ParseGeneralNames(der)
		if err != nil {
			return
		}
		c := &Certificate{SANs: names}
		for _, texts := range [][]Text{c.Emails(), c.UPNs(), c.KerberosPrincipals(), c.URIs(), c.DNSNames(), c.SIDs()} {
			for _, text := range texts {
				if text.OK && checkText(text.Value) != nil {
					t.Errorf("%q is called good", text.Value)
				}
			}
		}
		for _, n := range names {
			_ = n.String()
			if !n.OK && n.Why == "" {
				t.Errorf("%v has no reason", n)
			}
		}
	})
}
