package crl

import (
	"bytes"
	"io"
	"testing"

	"pam_pkcs11/internal/testca"
)

// A CRL is read once, however many certificates ask, and one that was not announced is looked for too.
func TestCRLIsReadOnce(t *testing.T) {
	inter := testca.NewRoot("Root").Intermediate("Inter")
	late := inter.Leaf("Late")
	der := inter.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: late.Serial, Reason: 1}}, RawEntries: testca.ManyRevoked(100)})
	opened := 0
	c := &Stream{Wanted: &Wanted{}, Open: func() (io.ReadCloser, int64, error) {
		opened++
		return io.NopCloser(bytes.NewReader(der)), int64(len(der)), nil
	}}
	leaf := parsed(t, inter.Leaf("Alice"))
	c.Wanted.Add(leaf, parsed(t, &inter.Cert))
	for range 3 {
		if _, found, err := c.Lookup(leaf.Issuer, leaf.SerialBytes); found || err != nil {
			t.Fatal(found, err)
		}
	}
	if opened != 1 {
		t.Errorf("read %d times", opened)
	}
	if e, found, err := c.Lookup(leaf.Issuer, parsed(t, late).SerialBytes); !found || err != nil || e.Reason != 1 {
		t.Fatal(e, found, err)
	}
	if opened != 2 {
		t.Errorf("read %d times", opened)
	}
}
