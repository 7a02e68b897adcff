package testca

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"
)

// The standard library reads what is ordinary: a second opinion on what this package writes.
func TestOrdinaryCertificates(t *testing.T) {
	for name, key := range map[string]*Key{"P-256": P256(), "P-384": EC(elliptic.P384()), "P-521": EC(elliptic.P521()),
		"RSA": RSA(2048, "test"), "Ed25519": Ed25519()} {
		t.Run(name, func(t *testing.T) {
			root := NewRoot("Root", WithKey(key))
			inter := root.Intermediate("Inter", BasicConstraints(true, true, 0), SubjectKeyID(1, 2))
			leaf := inter.Leaf("Alice", SAN(UPN("a@b"), Email("a@b"), DNS("h")), Policies(false, "1.2.3"), AuthorityKeyID(1, 2),
				CRLDistribution("http://h/c.crl"), InfoAccess([]string{"http://o"}, nil), SID("S-1-5-21-1"))
			roots, inters := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(read(t, root.DER))
			inters.AddCert(read(t, inter.DER))
			_, err := read(t, leaf.DER).Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			if err != nil {
				t.Error(err)
			}
			list, err := x509.ParseRevocationList(inter.CRL(CRL{Number: 7, Entries: []Revoked{{Serial: leaf.Serial, Reason: 1}}}))
			if err != nil || list.CheckSignatureFrom(read(t, inter.DER)) != nil || len(list.RevokedCertificateEntries) != 1 || list.Number.Int64() != 7 {
				t.Errorf("CRL: %+v, %v", list, err)
			}
		})
	}
}

func read(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSpoiltCertificates(t *testing.T) {
	root := NewRoot("Root")
	if read(t, root.Leaf("a", BadSignature()).DER).CheckSignatureFrom(read(t, root.DER)) == nil {
		t.Error("the signature is good")
	}
	if c := read(t, root.Leaf("a", Expired()).DER); !c.NotAfter.Before(time.Now()) {
		t.Error("not expired")
	}
	if c := read(t, root.Bare("a", Version(1)).DER); c.Version != 1 || len(c.Extensions) != 0 {
		t.Error("not version 1")
	}
	if c := read(t, root.Leaf("a", Without("2.5.29.15")).DER); c.KeyUsage != 0 {
		t.Error("key usage is there")
	}
	ca := NewRoot("RSA", WithKey(RSA(2048, "test")))
	if c := read(t, ca.Leaf("a", SignedWith(Scheme{PSS: true, Salt: -1})).DER); c.SignatureAlgorithm != x509.SHA256WithRSAPSS {
		t.Errorf("signed with %v", c.SignatureAlgorithm)
	}
	if c := read(t, ca.Leaf("a", SignedWith(Scheme{Hash: crypto.SHA1})).DER); c.SignatureAlgorithm != x509.SHA1WithRSA {
		t.Errorf("signed with %v", c.SignatureAlgorithm)
	}
}

func TestPEM(t *testing.T) {
	root := NewRoot("Root")
	if block, _ := pem.Decode(root.PEM()); block == nil || !slices.Equal(block.Bytes, root.DER) {
		t.Error("certificate")
	}
	if block, _ := pem.Decode(PEMCRL(root.CRL(CRL{}))); block == nil || block.Type != "X509 CRL" {
		t.Error("CRL")
	}
}

func TestKeysAreKept(t *testing.T) {
	first, again, other := RSA(2048, "test"), RSA(2048, "test"), RSA(1024, "test")
	if first != again || first == other {
		t.Error("RSA keys are kept by label")
	}
	for _, n := range []int{0, 127, 128, 255, 256, 65535, 65536, 1 << 24} {
		if der := TLV(4, make([]byte, n)); len(der) < n+2 {
			t.Errorf("length %d", n)
		}
	}
}
