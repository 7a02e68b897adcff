package verify_test

import (
	"bytes"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl"
)

type indexInMemory struct{ *bytes.Reader }

func (indexInMemory) Close() error { return nil }

// oddEntries are entries of a list whose reason cannot be read. Each revokes its certificate.
func oddEntries(serial []byte) map[string]testca.Revoked {
	reason := func(value ...byte) testca.Extension {
		return testca.Extension{OID: certinfo.OIDReasonCode.String(), Value: value}
	}
	remove := reason(10, 1, certinfo.CRLReasonRemoveFromCRL)
	date := testca.Extension{OID: certinfo.OIDInvalidityDate.String(), Value: testca.TLV(0x18, []byte("20200101000000Z"))}
	entry := func(extensions ...testca.Extension) testca.Revoked {
		return testca.Revoked{Serial: serial, Reason: -1, Extensions: extensions}
	}
	return map[string]testca.Revoked{
		"reason 11":                     {Serial: serial, Reason: 11},
		"reason 200":                    entry(reason(10, 2, 0, 200)),
		"reason negative":               entry(reason(10, 1, 0xff)),
		"reason is an INTEGER":          entry(reason(2, 1, 8)),
		"octets behind removeFromCRL":   entry(reason(10, 1, 8, 0)),
		"removeFromCRL twice":           entry(remove, remove),
		"reason, then removeFromCRL":    entry(reason(10, 1, 1), remove),
		"invalidityDate twice, removed": entry(date, date, remove),
	}
}

// TestOddCRLEntry: a list with one odd entry is good for other certificates, and the entry revokes; by a pass over the
// list and by its index.
func TestOddCRLEntry(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	alice, bob := inter.Leaf("Alice"), inter.Leaf("Bob")
	for name, entry := range oddEntries(alice.Serial) {
		t.Run(name, func(t *testing.T) {
			crls := [][]byte{root.CRL(testca.CRL{}), inter.CRL(testca.CRL{Entries: []testca.Revoked{entry}})}
			err := world{root, inter, alice}.judgeWithCRLs(t, verify.Options{}, false, nil, crls...)
			if verify.ReasonOf(err) != verify.ReasonRevoked || !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("the certificate of the entry: %v", err)
			}
			if err := (world{root, inter, bob}).judgeWithCRLs(t, verify.Options{}, false, nil, crls...); err != nil {
				t.Errorf("another certificate: %v", err)
			}

			index := crl.NewIndexBuilder(int64(len(crls[1])))
			scan, err := crl.ScanDER(bytes.NewReader(crls[1]), int64(len(crls[1])), nil, index.Visit)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := index.Index(&out, crl.FileID{}, 0, inter.Key.SPKI, scan); err != nil {
				t.Fatal(err)
			}
			x, err := crl.OpenIndex(indexInMemory{bytes.NewReader(out.Bytes())}, int64(out.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if got, found, err := x.Lookup(scan.Issuer, alice.Serial); !found || got.Reason != certinfo.CRLReasonUnread {
				t.Errorf("the index has reason %d, %v", got.Reason, err)
			}
		})
	}
}
