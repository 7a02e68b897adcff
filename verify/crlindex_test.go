package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

type bytesFile struct{ *bytes.Reader }

func (bytesFile) Close() error { return nil }

func opened(data []byte) (*crlIndex, error) {
	return openIndex(bytesFile{bytes.NewReader(data)}, int64(len(data)))
}

// indexed makes the index of a CRL in memory.
func indexed(t testing.TB, der []byte) []byte {
	t.Helper()
	b := newIndexBuilder(int64(len(der)))
	scan, err := scanBytes(der, nil, b.visit)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.write(&out, indexFacts{source: fileID{dev: 1, ino: 2, size: 3}, at: 4, signer: make([]byte, 32), digest: scan.digest, head: scan.crlHead}); err != nil {
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
			var asked *serialSet
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
			if h := x.head(); !sameHead(h, &scan.crlHead) || h.unknownCritical != scan.unknownCritical || (h.point == nil) != (scan.point == nil) || int(x.facts.entries) != scan.count {
				t.Errorf("head %+v, want %+v", h, scan.crlHead)
			}
			for _, dn := range [][]byte{root.Subject, testca.DN("CN=Other"), testca.DN("CN=Nobody")} {
				issuer, err := certinfo.ParseName(dn)
				if err != nil {
					t.Fatal(err)
				}
				for serial := range asked.serials {
					want, wantFound := scan.found[entryKey(issuer.Key(), []byte(serial))]
					got, found, err := x.lookup(issuer, []byte(serial))
					if err != nil || found != wantFound || found && (got.reason != want.reason || !got.when.Equal(want.when)) {
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
			if _, found, err := x.lookup(issuer, s[:]); err == nil && found != (i < 20) {
				t.Fatalf("octet %d: entry %d found: %v", at, i, found)
			}
		}
	}
	for _, n := range []int{0, 7, 16, 100, len(data) / 2, len(data) - 1} {
		if _, err := opened(data[:n]); !errors.Is(err, errIndex) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := opened(append(slices.Clone(data), 0)); !errors.Is(err, errIndex) {
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
			_, _, _ = x.lookup(issuer, serial[:])
		}
		again, err := x.facts.marshal()
		if err != nil || !bytes.Contains(data, again) {
			t.Errorf("facts do not survive: %v", err)
		}
	})
}

// withIndexes makes a world with large CRLs in crl_dir and their indexes.
func withIndexes(t *testing.T, entries ...testca.Revoked) (onDisk, string, Options) {
	t.Helper()
	w := newWorld()
	many := testca.ManyRevoked(2000)
	d := newOnDisk(t, w, map[string][]byte{
		"root.crl":  w.root.CRL(testca.CRL{Number: 1, RawEntries: many}),
		"inter.pem": testca.PEMCRL(w.inter.CRL(testca.CRL{Number: 1, RawEntries: many, Entries: entries}))})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	store := storeDir(t)
	o := Options{StoreDir: store}
	reports, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil)
	if err != nil || len(reports) != 2 {
		t.Fatalf("%v %v", reports, err)
	}
	for _, r := range reports {
		if r.Err != nil || !r.Indexed || !r.Signed || r.Entries < 2000 {
			t.Errorf("%+v", r)
		}
	}
	return d, store, o
}

// scansOf checks the leaf and counts the CRLs that were read as a whole.
func scansOf(t *testing.T, d onDisk, o Options) (scans int, err error) {
	t.Helper()
	v := d.verifier(t, o)
	err = d.check(t, v)
	for _, dir := range v.revoked.(*revocationPolicy).crl.source.(*crlSources).local {
		for _, l := range dir.crls {
			if c, ok := l.(*crlInFile); ok && c.scan != nil {
				scans++
			}
		}
	}
	return scans, err
}

func TestIndexIsUsed(t *testing.T) {
	d, store, o := withIndexes(t)
	if scans, err := scansOf(t, d, o); err != nil || scans != 0 {
		t.Errorf("%v, %d scans", err, scans)
	}
	bad, _, badOptions := withIndexes(t, revoked(d.leaf, 1)...)
	bad.leaf = bad.inter.Leaf("Alice", testca.Serial(d.leaf.Serial...))
	if scans, err := scansOf(t, bad, badOptions); ReasonOf(err) != ReasonRevoked || scans != 0 {
		t.Errorf("%v, %d scans", err, scans)
	}
	late := o
	late.Now = func() time.Time { return time.Now().AddDate(0, 0, 3) }
	if _, err := scansOf(t, d, late); ReasonOf(err) != ReasonRevocationUnknown || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("dates are not checked anew: %v", err)
	}
	indexes, err := filepath.Glob(filepath.Join(store, indexDirName, "*.idx"))
	if err != nil || len(indexes) != 2 {
		t.Fatal(indexes, err)
	}
	for _, tt := range []struct {
		name   string
		change func(path string) error
	}{
		{"damaged header", func(p string) error { return spoil(p, 40) }},
		{"damaged at the end", func(p string) error { return os.Truncate(p, 5000) }},
		{"writable for all", func(p string) error { return os.Chmod(p, 0o666) }},
		{"writable for a group", func(p string) error { return os.Chmod(p, 0o664) }},
		{"not there", os.Remove},
	} {
		for _, p := range indexes {
			if err := tt.change(p); err != nil {
				t.Fatal(err)
			}
		}
		if scans, err := scansOf(t, d, o); err != nil || scans != 2 {
			t.Errorf("%s: %v, %d scans", tt.name, err, scans)
		}
		if tt.name == "writable for all" || tt.name == "writable for a group" {
			continue
		}
		if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if scans, err := scansOf(t, d, o); err != nil || scans != 0 {
			t.Errorf("%s, made anew: %v, %d scans", tt.name, err, scans)
		}
	}
}

func spoil(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	b[0] ^= 0x10
	_, err2 := f.WriteAt(b, at)
	return errors.Join(err, err2, f.Close())
}

// A bucket that is damaged while the header is sound: the CRL itself is asked.
func TestIndexBucketDamaged(t *testing.T) {
	d, store, o := withIndexes(t)
	indexes, _ := filepath.Glob(filepath.Join(store, indexDirName, "*.idx"))
	for _, p := range indexes {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		for at := info.Size() - 2000*recordSize; at < info.Size(); at += 8 {
			if err := spoil(p, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if scans, err := scansOf(t, d, o); err != nil || scans != 2 {
		t.Errorf("%v, %d scans", err, scans)
	}
}

// An index of another file, or of an earlier state of the file, is not found.
func TestIndexIsBoundToItsFile(t *testing.T) {
	d, store, o := withIndexes(t)
	path := filepath.Join(d.crls, "root.crl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, data)
	if scans, err := scansOf(t, d, o); err != nil || scans != 1 {
		t.Errorf("%v, %d scans", err, scans)
	}
	indexes, _ := filepath.Glob(filepath.Join(store, indexDirName, "*.idx"))
	if err := errors.Join(os.Rename(indexes[0], indexes[0]+".x"), os.Rename(indexes[1], indexes[0]), os.Rename(indexes[0]+".x", indexes[1])); err != nil {
		t.Fatal(err)
	}
	if scans, err := scansOf(t, d, o); err != nil || scans != 2 {
		t.Errorf("exchanged: %v, %d scans", err, scans)
	}
}

// The index names the key that signed. A CA of the same name with another key gains nothing by it.
func TestIndexOfAnotherKey(t *testing.T) {
	d, _, o := withIndexes(t)
	inter := d.root.Intermediate("Inter")
	d.inter, d.leaf = inter, inter.Leaf("Alice")
	if err := os.Remove(filepath.Join(d.ca, "inter.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := scansOf(t, d, o); ReasonOf(err) != ReasonRevocationUnknown {
		t.Errorf("got %v", err)
	}
}

// A list that was published ahead does not push out the one that is valid now; an older one that is put back is refused.
func TestUpdateAndNewest(t *testing.T) {
	w := newWorld()
	d := newOnDisk(t, w, map[string][]byte{
		"root.crl":  w.root.CRL(testca.CRL{Number: 1}),
		"inter.crl": w.inter.CRL(testca.CRL{Number: 5}),
		"ahead.crl": w.inter.CRL(testca.CRL{Number: 6, ThisUpdate: time.Now().Add(time.Hour)}),
	})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	o := Options{StoreDir: storeDir(t)}
	if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, o)); err != nil {
		t.Errorf("published ahead: %v", err)
	}
	writeFile(t, filepath.Join(d.crls, "inter.crl"), w.inter.CRL(testca.CRL{Number: 4}))
	if err := d.check(t, d.verifier(t, o)); ReasonOf(err) != ReasonRevocationUnknown {
		t.Errorf("put back: %v", err)
	}
}

func TestUpdateReports(t *testing.T) {
	w := newWorld()
	d := newOnDisk(t, w, map[string][]byte{
		"root.crl":     w.root.CRL(testca.CRL{Number: 1}),
		"stranger.crl": testca.NewRoot("Stranger").CRL(testca.CRL{RawEntries: testca.ManyRevoked(2000)}),
		"cut.crl":      w.root.CRL(testca.CRL{Number: 1})[:60],
	})
	o := Options{StoreDir: storeDir(t), CRLURLs: []string{"http://127.0.0.1:1/x.crl"}}
	v := d.verifier(t, o)
	var told []string
	reports, err := v.UpdateCRLs(t.Context(), func(what string, done, total int64) { told = append(told, what) })
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, r := range reports {
		text = append(text, fmt.Sprintf("%s%s %v %v %d: %v", filepath.Base(r.Path), r.URL, r.Signed, r.Indexed, r.Entries, r.Err))
	}
	slices.Sort(text)
	for i, want := range []string{".http://127.0.0.1:1/x.crl false false -1: ", "cut.crl false false -1: ends in the middle", "root.crl true false 0: <nil>", "stranger.crl false false 2000: no CA of ca_dir signed it"} {
		if i >= len(text) || !strings.HasPrefix(text[i], want) {
			t.Errorf("report %d of %q, want %q", i, text, want)
		}
	}
	if len(told) == 0 {
		t.Error("no progress")
	}
	for path, want := range map[string]string{"root.crl": "<nil>", "stranger.crl": "signed it", "cut.crl": "no CRL can be read"} {
		reports, err := v.CheckCRLs(filepath.Join(d.crls, path), nil)
		if err == nil {
			err = reports[0].Err
		}
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if n := len(d.verifier(t, o).ListCRLs()); n != 3 {
		t.Errorf("%d CRLs listed", n)
	}
}
