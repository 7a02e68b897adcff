package verify_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// withIndexes makes a world with large CRLs in crl_dir and their indexes.
func withIndexes(t *testing.T, entries ...testca.Revoked) (onDisk, string, verify.Options) {
	t.Helper()
	w := newWorld()
	many := testca.ManyRevoked(2000)
	d := newOnDisk(t, w, map[string][]byte{
		"root.crl":  w.root.CRL(testca.CRL{Number: 1, RawEntries: many}),
		"inter.pem": testca.PEMCRL(w.inter.CRL(testca.CRL{Number: 1, RawEntries: many, Entries: entries}))})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	store := storeDir(t)
	o := verify.Options{StoreDir: store}
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
func scansOf(t *testing.T, d onDisk, o verify.Options) (scans int, err error) {
	t.Helper()
	read := map[string]bool{}
	o.Hooks().Opened = func(path string) { read[path] = true }
	err = d.check(t, d.verifier(t, o))
	return len(read), err
}

func TestIndexIsUsed(t *testing.T) {
	d, store, o := withIndexes(t)
	if scans, err := scansOf(t, d, o); err != nil || scans != 0 {
		t.Errorf("%v, %d scans", err, scans)
	}
	bad, _, badOptions := withIndexes(t, revoked(d.leaf, 1)...)
	bad.leaf = bad.inter.Leaf("Alice", testca.Serial(d.leaf.Serial...))
	if scans, err := scansOf(t, bad, badOptions); verify.ReasonOf(err) != verify.ReasonRevoked || scans != 0 {
		t.Errorf("%v, %d scans", err, scans)
	}
	late := o
	late.Now = func() time.Time { return time.Now().AddDate(0, 0, 3) }
	if _, err := scansOf(t, d, late); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("dates are not checked anew: %v", err)
	}
	indexes, err := filepath.Glob(filepath.Join(store, "index", "*.idx"))
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
	indexes, _ := filepath.Glob(filepath.Join(store, "index", "*.idx"))
	for _, p := range indexes {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		for at := info.Size() - 2000*16; at < info.Size(); at += 8 {
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
	indexes, _ := filepath.Glob(filepath.Join(store, "index", "*.idx"))
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
	if _, err := scansOf(t, d, o); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
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
	o := verify.Options{StoreDir: storeDir(t)}
	if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, o)); err != nil {
		t.Errorf("published ahead: %v", err)
	}
	writeFile(t, filepath.Join(d.crls, "inter.crl"), w.inter.CRL(testca.CRL{Number: 4}))
	if err := d.check(t, d.verifier(t, o)); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
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
	o := verify.Options{StoreDir: storeDir(t), CRLURLs: []string{"http://127.0.0.1:1/x.crl"}}
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
