package activedirectory

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/mappertest"
)

func TestSIDs(t *testing.T) {
	s, err := ParseSID(mappertest.SID)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString("010500000000000515000000dcf4dc3b833d2b46828ba62800020000")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Binary(), want) || s.Rid() != "512" || len(s.Binary()) != 28 {
		t.Errorf("%x", s.Binary())
	}
	if !s.Is(want) || !s.Is([]byte(mappertest.SID)) || s.Is(want[:27]) || s.Is(append(want, 0)) || s.Is(nil) {
		t.Error("the comparison of identifiers is wrong")
	}
	if known, _ := ParseSID("S-1-5-32-544"); !bytes.Equal(known.Binary(), []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0}) {
		t.Errorf("S-1-5-32-544 is %x", known.Binary())
	}
	for _, bad := range []string{"", "S-1", "S-1-5", "S-2-5-1", "S-1-5-", "S-1-5-4294967296", "S-1-281474976710656-1", "S-1-5--1", "s-1-5-1", "S-1-5" + strings.Repeat("-1", 16)} {
		if _, err := ParseSID(bad); err == nil {
			t.Errorf("%q is an identifier", bad)
		}
	}
}

func TestAltSecurityIdentities(t *testing.T) {
	ca := testca.NewRoot("x", testca.RawSubject(testca.DN("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA")))
	leaf := ca.Leaf("x", testca.Subject("DC=com", "DC=contoso", "CN=Alice, A."), testca.Serial(0x2b, 0, 0, 0, 0, 0x11, 0xac, 0, 0, 0, 0, 0x12),
		testca.SubjectKeyID(0x12, 0x34, 0xab), testca.SID(mappertest.SID), testca.SAN(testca.Email("alice@contoso.com")))
	cert := mappertest.Parsed(t, leaf)
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
		"X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SID>" + mappertest.SID,
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
		values, err := Identities(cert, c.weak)
		got := string(bytes.Join(values, []byte("\n")))
		if err != nil || got != strings.Join(c.want, "\n") {
			t.Errorf("weak %t: %v\n%s", c.weak, err, got)
		}
	}
	differ := mappertest.Parsed(t, ca.Leaf("x", testca.SID(mappertest.SID), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4"))))
	if values, err := Identities(differ, true); err == nil {
		t.Errorf("a certificate with two identifiers is known by %q", values)
	}
}
