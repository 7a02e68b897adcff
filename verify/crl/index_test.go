package crl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

type bytesFile struct{ *bytes.Reader }

func (bytesFile) Close() error { return nil }

func opened(data []byte) (*Index, error) {
	return OpenIndex(bytesFile{bytes.NewReader(data)}, int64(len(data)))
}

// indexed makes the index of a CRL in memory.
func indexed(t testing.TB, der []byte) []byte {
	t.Helper()
	b := NewIndexBuilder(int64(len(der)))
	scan, err := scanBytes(der, nil, b.Visit)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.write(&out, indexFacts{source: FileID{dev: 1, ino: 2, size: 3}, at: 4, signer: make([]byte, 32), digest: scan.digest, head: scan.Head}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The index says the same as the CRL it was made of.
func TestIndexAnswersAsItsCRL(t *testing.T) {
	root := testca.NewRoot("Root")
	point := testca.IDP{Name: testca.FullName(testca.URI("http://x")), Indirect: true}.DER()
	critical := testca.Extension{OID: "1.2.3.4", Critical: true, Value: []byte{5, 0}}
	odd := []testca.Revoked{
		{Serial: []byte{0}, Reason: -1}, {Serial: []byte{0xff}, Reason: 1}, {Serial: bytes.Repeat([]byte{0x7f}, 64), Reason: 6},
		{Serial: []byte{7}, Reason: 8}, {Serial: []byte{7}, Reason: 1}, {Serial: []byte{9}, Reason: 4, Issuer: testca.DN("CN=Other")},
		{Serial: []byte{10}, Reason: -1, When: time.Date(2050, 1, 31, 1, 2, 3, 0, time.UTC)},
	}
	for name, c := range map[string]testca.CRL{
		"empty":    {},
		"few":      {Number: 3, Entries: odd, IDP: point},
		"many":     {Number: 3, RawEntries: testca.ManyRevoked(20000)},
		"delta":    {Number: 3, DeltaBase: 1, RawEntries: testca.ManyRevoked(10), NoNextUpdate: true},
		"critical": {Entries: []testca.Revoked{{Serial: []byte{1}, Extensions: []testca.Extension{critical}}}},
	} {
		t.Run(name, func(t *testing.T) {
			der := root.CRL(c)
			x, err := opened(indexed(t, der))
			if err != nil {
				t.Fatal(err)
			}
			var asked *SerialSet
			for i := range 20002 {
				serial := testca.Lottery(i)
				if i%500 == 0 || i > 19998 {
					asked = asked.with(serial[:])
				}
			}
			for _, e := range odd {
				asked = asked.with(e.Serial)
			}
			scan, err := scanBytes(der, asked, nil)
			if err != nil {
				t.Fatal(err)
			}
			if h := x.Head(); !SameHead(h, &scan.Head) || h.UnknownCritical != scan.UnknownCritical || (h.Point == nil) != (scan.Point == nil) || int(x.facts.entries) != scan.Count {
				t.Errorf("head %+v, want %+v", h, scan.Head)
			}
			for _, dn := range [][]byte{root.Subject, testca.DN("CN=Other"), testca.DN("CN=Nobody")} {
				issuer, err := certinfo.ParseName(dn)
				if err != nil {
					t.Fatal(err)
				}
				for serial := range asked.serials {
					want, wantFound := scan.found[entryKey(issuer.Key(), []byte(serial))]
					got, found, err := x.Lookup(issuer, []byte(serial))
					if err != nil || found != wantFound || found && (got.Reason != want.Reason || !got.when.Equal(want.when)) {
						t.Errorf("%x: %v %v %v, want %v %v", serial, got, found, err, want, wantFound)
					}
				}
			}
		})
	}
}

// Whatever octet is damaged: an answer is right, or there is none.
func TestIndexDamaged(t *testing.T) {
	root := testca.NewRoot("Root")
	issuer, err := certinfo.ParseName(root.Subject)
	if err != nil {
		t.Fatal(err)
	}
	data := indexed(t, root.CRL(testca.CRL{Number: 3, RawEntries: testca.ManyRevoked(150)}))
	var serials [][16]byte
	for i := 130; i < 155; i++ {
		serials = append(serials, testca.Lottery(i))
	}
	for at := range data {
		bad := slices.Clone(data)
		bad[at] ^= 1 << (at % 8)
		x, err := opened(bad)
		if err != nil {
			continue
		}
		for i, s := range serials {
			if _, found, err := x.Lookup(issuer, s[:]); err == nil && found != (i < 20) {
				t.Fatalf("octet %d: entry %d found: %v", at, i, found)
			}
		}
	}
	for _, n := range []int{0, 7, 16, 100, len(data) / 2, len(data) - 1} {
		if _, err := opened(data[:n]); !errors.Is(err, ErrIndex) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := opened(append(slices.Clone(data), 0)); !errors.Is(err, ErrIndex) {
		t.Errorf("longer: %v", err)
	}
	next := slices.Clone(data)
	binary.LittleEndian.PutUint32(next[len(indexMagic):], 2)
	if _, err := opened(next); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("another format: %v", err)
	}
}

// FuzzIndex: a reader of any octets neither panics nor reads without end.
func FuzzIndex(f *testing.F) {
	root := testca.NewRoot("Root")
	f.Add(indexed(f, root.CRL(testca.CRL{})))
	f.Add(indexed(f, root.CRL(testca.CRL{Number: 3, RawEntries: testca.ManyRevoked(200)})))
	issuer, err := certinfo.ParseName(root.Subject)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := opened(data)
		if err != nil {
			return
		}
		for i := range 20 {
			serial := testca.Lottery(i)
			_, _, _ = x.Lookup(issuer, serial[:])
		}
		again, err := x.facts.marshal()
		if err != nil || !bytes.Contains(data, again) {
			t.Errorf("facts do not survive: %v", err)
		}
	})
}
