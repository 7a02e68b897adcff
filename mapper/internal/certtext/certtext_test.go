package certtext

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/mappertest"
)

// TestSerialTextsAreOfOneNumber: no two serial numbers can be written alike.
func TestSerialTextsAreOfOneNumber(t *testing.T) {
	seen := map[string]string{}
	add := func(n *big.Int) string {
		cert := &certinfo.Certificate{Serial: n}
		for _, text := range SerialTexts(cert) {
			text = strings.ToUpper(text) // mapfiles of serial numbers are read so
			if other, known := seen[text]; known && other != n.String() {
				return fmt.Sprintf("%s is %s and %s", text, other, n)
			}
			seen[text] = n.String()
		}
		return ""
	}
	for i := int64(-3000); i < 70000; i++ {
		if clash := add(big.NewInt(i)); clash != "" {
			t.Fatal(clash)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "octets"))
		if clash := add(n); clash != "" {
			t.Fatal(clash)
		}
	})
}

// TestSubjectTextsAreOfOneName: two names that have a form in common are the same name.
func TestSubjectTextsAreOfOneName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := mappertest.DrawCertificate(t), mappertest.DrawCertificate(t)
		if rapid.Bool().Draw(t, "on purpose") { // somebody spells the text of another's name in his own
			named := func(tag byte, value []byte) *certinfo.Certificate {
				cert, err := certinfo.Parse(mappertest.CA.Bare("x", testca.WithKey(mappertest.CA.Key),
					testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", tag, value))))).DER)
				if err != nil {
					t.Skip(err)
				}
				return cert
			}
			a = named(rapid.SampledFrom([]byte{12, 20, 22}).Draw(t, "tag"), mappertest.AnyOctets().Draw(t, "value"))
			for _, form := range SubjectTexts(a) {
				if value, ok := strings.CutPrefix(strings.TrimPrefix(form.Value, "/"), "CN="); ok {
					b = named(rapid.SampledFrom([]byte{12, 20, 22}).Draw(t, "other tag"), []byte(value))
				}
			}
		}
		for _, one := range SubjectTexts(a) {
			for _, two := range SubjectTexts(b) {
				if one.Value == two.Value && !a.Subject.Equal(b.Subject) {
					t.Fatalf("%q is both %x and %x", one.Value, a.RawSubject, b.RawSubject)
				}
			}
		}
	})
}

func TestFolding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.StringMatching(`[A-Za-z0-9._-]{0,8}`).Draw(t, "b")
		odd := map[rune]rune{'k': '\u212a', 's': '\u017f', 'i': '\u0130', 'I': '\u0131'}
		a := strings.Map(func(r rune) rune {
			if o, ok := odd[r]; ok && rapid.Bool().Draw(t, "odd") {
				return o
			}
			return r
		}, b)
		if Equal(a, b, true) && !IsASCII([]byte(a)) {
			t.Fatalf("%q is taken for %q", a, b)
		}
		if !Equal(b, strings.ToUpper(b), true) || Equal(b, strings.ToUpper(b), false) != (b == strings.ToUpper(b)) {
			t.Fatalf("%q", b)
		}
	})
	if Equal("a\xff", "a\ufffd", true) {
		t.Error("octets that are no text are taken for one")
	}
}
