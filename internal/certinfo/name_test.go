package certinfo

import (
	"bytes"
	"encoding/pem"
	"os/exec"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

func testName(t *testing.T, der []byte) Name {
	t.Helper()
	n, err := ParseName(der)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func utf16be(s string) []byte {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r>>8), byte(r))
	}
	return b
}

// oddNames are subjects as smart-card PKIs write them, with the string form of RFC 4514.
var oddNames = []struct {
	name    string
	der     []byte
	rfc4514 string
}{
	{"plain", testca.DN("C=IT", "O=Ex", "CN=Alice"), "CN=Alice,O=Ex,C=IT"},
	{"empty", testca.DN(), ""},
	{"special characters", testca.DN(`CN= #a,b+c"d\e<f>g;h=i `), `CN=\ #a\,b\+c\"d\\e\<f\>g\;h\=i\ `},
	{"leading hash", testca.DN("CN=#1"), `CN=\#1`},
	{"slash and plus", testca.DN("O=a/b+c", `CN=x\y`), `CN=x\\y,O=a/b\+c`},
	{"non-ASCII", testca.DN("CN=Àlïce €"), "CN=Àlïce €"},
	{"multi-valued", testca.Name(testca.RDN(testca.ParseAttribute("O=Ex"), testca.ParseAttribute("OU=In")),
		testca.RDN(testca.ParseAttribute("CN=Al"), testca.ParseAttribute("UID=al"))), "CN=Al+UID=al,O=Ex+OU=In"},
	{"T61String", testca.Name(testca.RDN(testca.Attribute("CN", 0x14, []byte("M\xfcller")))), "CN=Müller"},
	{"BMPString", testca.Name(testca.RDN(testca.Attribute("CN", 0x1e, utf16be("Łódź")))), "CN=Łódź"},
	{"UniversalString", testca.Name(testca.RDN(testca.Attribute("CN", 0x1c, []byte("\x00\x00\x00A\x00\x01\xf6\x00")))), "CN=A😀"},
	{"bit string", testca.Name(testca.RDN(testca.Attribute("x500UniqueIdentifier", 3, []byte{0, 'u', '1'}))), "x500UniqueIdentifier=#0303007531"},
	{"NUL in the middle", testca.DN("CN=root\x00.example"), "CN=#0c0d726f6f74002e6578616d706c65"},
	{"bad UTF-8", testca.Name(testca.RDN(testca.Attribute("CN", 0x0c, []byte("a\xff")))), "CN=#0c0261ff"},
	{"unknown type", testca.DN("1.2.3.4.5=zz"), "1.2.3.4.5=#0c027a7a"},
	{"every usual type", testca.DN("2.5.4.4=a", "2.5.4.5=b", "2.5.4.9=c", "2.5.4.12=d", "2.5.4.13=e", "2.5.4.17=f",
		"2.5.4.20=g", "2.5.4.41=h", "2.5.4.42=i", "2.5.4.43=j", "2.5.4.44=k", "2.5.4.46=l", "2.5.4.65=m", "2.5.4.97=n",
		"0.9.2342.19200300.100.1.1=o", "0.9.2342.19200300.100.1.3=p", "1.2.840.113549.1.9.1=q", "1.2.840.113549.1.9.2=r"),
		"unstructuredName=r,emailAddress=q,mail=p,UID=o,organizationIdentifier=n,pseudonym=m,dnQualifier=l," +
			"generationQualifier=k,initials=j,GN=i,name=h,telephoneNumber=g,postalCode=f,description=e,title=d,street=c,serialNumber=b,SN=a"},
}

func TestRFC4514(t *testing.T) {
	for _, tt := range oddNames {
		t.Run(tt.name, func(t *testing.T) {
			n := testName(t, tt.der)
			if got := n.RFC4514(); got != tt.rfc4514 {
				t.Errorf("got  %s\nwant %s", got, tt.rfc4514)
			}
			back, err := ParseRFC4514(n.RFC4514())
			if err != nil || !back.Equal(n) || back.Key() != n.Key() {
				t.Errorf("does not read back: %v, %q", err, back.RFC4514())
			}
		})
	}
}

// TestOneLineIsOpenSSLs compares with the openssl command, whose "compat" form is X509_NAME_oneline.
func TestOneLineIsOpenSSLs(t *testing.T) {
	for _, tt := range oddNames {
		if len(testName(t, tt.der)) == 0 || tt.name == "bad UTF-8" {
			continue // nothing to print; OpenSSL reads no such certificate
		}
		t.Run(tt.name, func(t *testing.T) {
			got := testName(t, tt.der).OneLine()
			der := testca.SelfSigned("x", testca.RawSubject(tt.der)).DER
			if want := opensslSubject(t, der); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func opensslSubject(t *testing.T, der []byte) string {
	t.Helper()
	cmd := exec.Command("openssl", "x509", "-noout", "-subject", "-nameopt", "compat")
	cmd.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl (Debian package openssl): %v", err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(out), "subject="), "\n")
}

func TestEqualNames(t *testing.T) {
	multi := func(a, b string) []byte {
		return testca.Name(testca.RDN(testca.ParseAttribute(a), testca.ParseAttribute(b)))
	}
	tests := []struct {
		name string
		a, b []byte
		want bool
	}{
		{"upper and lower case", testca.DN("O=Example", "CN=ALICE"), testca.DN("O=EXAMPLE", "CN=alice"), true},
		{"white space", testca.DN("CN=  Alice    Smith "), testca.DN("CN=Alice Smith"), true},
		{"UTF8String and PrintableString", testca.DN("CN=Alice"), testca.Name(testca.RDN(testca.Attribute("CN", 0x13, []byte("Alice")))), true},
		{"UTF8String and BMPString", testca.DN("CN=Łódź"), testca.Name(testca.RDN(testca.Attribute("CN", 0x1e, utf16be("ŁÓDŹ")))), true},
		{"final sigma", testca.DN("CN=ΣΑΣ"), testca.DN("CN=σας"), true},
		{"order of relative names", testca.DN("O=a", "CN=b"), testca.DN("CN=b", "O=a"), false},
		{"order within one", multi("O=a", "CN=b"), multi("CN=b", "O=a"), true},
		{"same attribute twice", multi("OU=a", "OU=a"), multi("OU=a", "OU=b"), false},
		{"other type", testca.DN("O=a"), testca.DN("OU=a"), false},
		{"one more", testca.DN("O=a"), testca.DN("O=a", "CN=b"), false},
		{"NUL never folds", testca.DN("CN=a\x00b"), testca.DN("CN=A\x00B"), false},
		{"NUL is equal to itself", testca.DN("CN=a\x00b"), testca.DN("CN=a\x00b"), true},
		{"NUL does not cut", testca.DN("CN=root\x00x"), testca.DN("CN=root"), false},
		{"confusable letters", testca.DN("CN=admin"), testca.DN("CN=аdmin"), false},
		{"IDN in its two forms", testca.DN("CN=bücher.example"), testca.DN("CN=xn--bcher-kva.example"), false},
		{"empty names", testca.DN(), testca.DN(), true},
		{"bit strings", testca.Name(testca.RDN(testca.Attribute("x500UniqueIdentifier", 3, []byte{0, 'a'}))),
			testca.Name(testca.RDN(testca.Attribute("x500UniqueIdentifier", 3, []byte{0, 'A'}))), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := testName(t, tt.a), testName(t, tt.b)
			if a.Equal(b) != tt.want || b.Equal(a) != tt.want {
				t.Errorf("Equal is not %v", tt.want)
			}
			if (a.Key() == b.Key()) != tt.want {
				t.Errorf("keys: %q and %q", a.Key(), b.Key())
			}
		})
	}
}

func TestParseDN(t *testing.T) {
	tests := []struct {
		name, in string
		want     []byte // nil: an error
	}{
		{"one line", "/C=IT/O=Ex/CN=Alice", testca.DN("C=IT", "O=Ex", "CN=Alice")},
		{"one line with a slash in a value", "/O=a/b/CN=x", testca.DN("O=a/b", "CN=x")},
		{"one line escaped", `/O=a\/CN=b/CN=Al\xC3\xAFce`, testca.DN("O=a/CN=b", "CN=Alïce")},
		{"one line multi-valued", "/O=Ex+OU=In/CN=x", testca.Name(testca.RDN(testca.ParseAttribute("O=Ex"), testca.ParseAttribute("OU=In")), testca.RDN(testca.ParseAttribute("CN=x")))},
		{"one line dotted type", "/1.2.3.4.5=zz", testca.DN("1.2.3.4.5=zz")},
		{"one line without a type", "/Alice", nil},
		{"RFC 4514", "CN=Alice,O=Ex,C=IT", testca.DN("C=IT", "O=Ex", "CN=Alice")},
		{"blanks and semicolons", " cn = Alice ; o=Ex , C=IT ", testca.DN("C=IT", "O=Ex", "CN=Alice")},
		{"quoted", `CN="A, B",O=x`, testca.DN("O=x", "CN=A, B")},
		{"hexadecimal escapes", `CN=Al\C3\AFce`, testca.DN("CN=Alïce")},
		{"hexadecimal value", "CN=#0c0141", testca.DN("CN=A")},
		{"E and S of Windows", "E=a@b,S=Roma", testca.DN("2.5.4.8=Roma", "emailAddress=a@b")},
		{"OID prefix", "OID.2.5.4.3=x", testca.DN("CN=x")},
		{"unknown type", "FOO=x", nil},
		{"65 attributes in one relative name", strings.Repeat("CN=a+", 64) + "CN=a", nil},
		{"65 attributes in one relative name, one line", "/" + strings.Repeat("CN=a+", 64) + "CN=a", nil},
		{"no equals sign", "Alice", nil},
		{"nothing after a comma", "CN=a,", nil},
		{"unescaped quote", `CN=a"b`, nil},
		{"unterminated quote", `CN="a`, nil},
		{"text after a quote", `CN="a"b`, nil},
		{"stray backslash", `CN=a\`, nil},
		{"bad hexadecimal value", "CN=#0c", nil},
		{"not UTF-8", "CN=\xff", nil},
		{"too long", "CN=" + strings.Repeat("a", maxTypedName), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseDN(tt.in)
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("error: %v", err)
			}
			if err == nil && !got.Equal(testName(t, tt.want)) {
				t.Errorf("got %q", got.RFC4514())
			}
		})
	}
}

func FuzzDN(f *testing.F) {
	for _, tt := range oddNames {
		n, err := ParseName(tt.der)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tt.der, n.RFC4514())
		f.Add(tt.der, n.OneLine())
	}
	f.Fuzz(func(t *testing.T, der []byte, text string) {
		if n, err := ParseName(der); err == nil {
			back, err := ParseRFC4514(n.RFC4514())
			if err != nil || !back.Equal(n) || back.Key() != n.Key() {
				t.Errorf("%q does not read back: %v", n.RFC4514(), err)
			}
			_ = n.OneLine()
			if !n.Equal(n) {
				t.Error("not equal to itself")
			}
		}
		if n, err := ParseDN(text); err == nil {
			if back, err := ParseRFC4514(n.RFC4514()); err != nil || !back.Equal(n) {
				t.Errorf("%q does not read back as %q: %v", text, n.RFC4514(), err)
			}
		}
	})
}
