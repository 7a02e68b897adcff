package verify_test

import (
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// BenchmarkIndexedCRL is what an indexed CRL adds to the check of a certificate, with a verifier of its own.
func BenchmarkIndexedCRL(b *testing.B) {
	w := newWorld()
	w.leaf = w.root.Leaf("Alice")
	d := newOnDisk(b, w, map[string][]byte{"root.crl": w.root.CRL(testca.CRL{Number: 1, RawEntries: testca.ManyRevoked(100000)})})
	store := storeDir(b)
	if _, err := d.verifier(b, verify.Options{StoreDir: store}).UpdateCRLs(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	leaf := parsed(b, w.leaf)
	for name, policy := range map[string]verify.Policy{"without": {CA: true}, "with": {CA: true, CRL: "offline"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				v, err := verify.New(verify.Options{CADir: d.ca, CRLDir: d.crls, StoreDir: store, Policy: policy})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.Check(b.Context(), leaf, []*certinfo.Certificate{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
