package verify_test

import (
	"bytes"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/ocsp"
)

// BenchmarkCheck is the part of a login that this package has: a chain of three with P-256 keys.
func BenchmarkCheck(b *testing.B) {
	w := newWorld()
	v := trusting(b, verify.Options{}, &w.root.Cert)
	leaf, inter := parsed(b, w.leaf), parsed(b, &w.inter.Cert)
	for b.Loop() {
		if _, err := v.Check(b.Context(), leaf, []*certinfo.Certificate{inter}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckRSA is the same with RSA-2048, as most cards have it.
func BenchmarkCheckRSA(b *testing.B) {
	root := testca.NewRoot("Root", testca.WithKey(testca.RSA(2048, "bench root")))
	leaf := parsed(b, root.Leaf("Alice", testca.WithKey(testca.RSA(2048, "bench leaf"))))
	v := trusting(b, verify.Options{}, &root.Cert)
	for b.Loop() {
		if _, err := v.Check(b.Context(), leaf, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOCSP is a chain of three whose two certificates are asked of a responder on loopback, beside the same with
// answers of the store.
func BenchmarkOCSP(b *testing.B) {
	root := testca.NewRoot("Root")
	var inter *testca.CA
	s := responding(b, func(q testca.Question) []byte {
		if bytes.Equal(q.Serial, inter.Serial) {
			return signs(&root.Cert, testca.OCSPGood)(q)
		}
		return signs(&inter.Cert, testca.OCSPGood)(q)
	})
	access := testca.InfoAccess([]string{s.URL}, nil)
	inter = root.Intermediate("Inter", access)
	leaf, card := parsed(b, inter.Leaf("Alice", access)), []*certinfo.Certificate{parsed(b, &inter.Cert)}
	v := withOCSP(b, verify.Options{}, &root.Cert)
	checker := v.OCSP()
	dir := b.TempDir()
	for name, store := range map[string]func() *ocsp.Store{
		"fresh": func() *ocsp.Store { return ocsp.NewStore("") },
		"kept":  func() *ocsp.Store { return ocsp.NewStore(dir) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				checker.Store = store()
				if _, err := v.Check(within(b, time.Minute), leaf, card); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParse reads one certificate.
func BenchmarkParse(b *testing.B) {
	w := newWorld(testca.SAN(testca.UPN("alice@example.com"), testca.Email("alice@example.com")))
	for b.Loop() {
		if _, err := certinfo.Parse(w.leaf.DER); err != nil {
			b.Fatal(err)
		}
	}
}
