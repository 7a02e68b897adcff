package namehash

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// part is an attribute of a name under test.
type part struct {
	kind  asn1.ObjectIdentifier
	tag   casn1.Tag
	value string
}

var (
	commonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	organization = asn1.ObjectIdentifier{2, 5, 4, 10}
	mail         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// encode writes a name of sets.
func encode(t *testing.T, sets ...[]part) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, set := range sets {
			b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
				for _, p := range set {
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(p.kind)
						b.AddASN1(p.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(p.value)) })
					})
				}
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAsOpenSSL compares with what openssl prints for the same names.
func TestAsOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("needs the Debian package openssl")
	}
	names := map[string][]byte{
		"one part":              encode(t, []part{{commonName, casn1.UTF8String, "Example CA"}}),
		"letters and blanks":    encode(t, []part{{commonName, casn1.PrintableString, "  EXAMPLE \t  Ca "}}),
		"several parts":         encode(t, []part{{organization, casn1.UTF8String, "Müller & Söhne"}}, []part{{commonName, casn1.UTF8String, "CA Ä"}}),
		"two in one set":        encode(t, []part{{commonName, casn1.UTF8String, "B"}, {organization, casn1.UTF8String, "a"}}),
		"a mail address":        encode(t, []part{{mail, casn1.IA5String, "CA@Example.ORG"}}),
		"two octets each":       encode(t, []part{{commonName, bmpString, "\x00C\x00A\x00 \x00 \x00\xc4"}}),
		"four octets each":      encode(t, []part{{commonName, universalString, "\x00\x00\x00C\x00\x00\x00A"}}),
		"a numeric text stays":  encode(t, []part{{commonName, 18, "12  34"}}),
		"nothing but blanks":    encode(t, []part{{commonName, casn1.UTF8String, "   "}}),
		"a form feed, a tab":    encode(t, []part{{commonName, casn1.UTF8String, "a\fb\t\vc"}}),
		"a blank of two octets": encode(t, []part{{commonName, casn1.UTF8String, "a\u00a0b\u2003C"}}),
	}
	for label, name := range names {
		t.Run(label, func(t *testing.T) {
			got, err := Of(name)
			if err != nil {
				t.Fatal(err)
			}
			if want := openssl(t, name); fmt.Sprintf("%08x", got) != want {
				t.Errorf("%08x, openssl says %s", got, want)
			}
		})
	}
}

// openssl is the hash that openssl prints for a certificate of that subject.
func openssl(t *testing.T, subject []byte) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: subject, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "x509", "-noout", "-hash", "-in", file).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestNoName(t *testing.T) {
	for label, der := range map[string][]byte{
		"nothing":           nil,
		"a number":          {2, 1, 1},
		"cut off":           {0x30, 5, 0x31},
		"something behind":  {0x30, 0, 0},
		"no set in it":      {0x30, 2, 5, 0},
		"no pair in a set":  {0x30, 4, 0x31, 2, 5, 0},
		"a pair with three": {0x30, 13, 0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 3, 5, 0, 5, 0},
	} {
		if _, err := Of(der); err == nil {
			t.Errorf("%s was taken", label)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 14, 0x31, 12, 0x30, 10, 6, 3, 0x55, 4, 3, 12, 3, 'C', ' ', 'a'})
	f.Fuzz(func(_ *testing.T, name []byte) { _, _ = Of(name) })
}
