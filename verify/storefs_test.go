package verify

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify/crl"
)

// failing is a disk on which the n-th write, and what comes after it, fails: because it is full, or because the power
// is gone. A loss of power also takes what was not brought to the disk.
type failing struct {
	disk
	left    int  // steps until it fails
	power   bool // no step works any more; else only writes fail
	torn    bool // of a file that was not synced a part is there, not nothing
	renamed bool // a rename that was not synced has happened
	files   map[string]*failingFile
	undo    []func()
	failed  bool
}

var errPower = errors.New("no power")

func (f *failing) step() error {
	if f.left--; f.left >= 0 {
		return nil
	}
	f.failed = true
	if f.power {
		return errPower
	}
	return syscall.ENOSPC
}

func (f *failing) create(path string) (storeFile, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	real, err := f.disk.create(path)
	if err != nil {
		return nil, err
	}
	file := &failingFile{storeFile: real, fs: f}
	f.files[path] = file
	return file, nil
}

func (f *failing) rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	before, err := os.ReadFile(to)
	existed := err == nil
	if err := f.disk.rename(from, to); err != nil {
		return err
	}
	f.files[to] = f.files[from]
	delete(f.files, from)
	f.undo = append(f.undo, func() {
		if existed {
			_ = os.WriteFile(to, before, 0o644)
		} else {
			_ = os.Remove(to)
		}
	})
	return nil
}

func (f *failing) remove(path string) error {
	if f.failed && f.power {
		return errPower
	}
	return f.disk.remove(path)
}

func (f *failing) syncDir(path string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.undo = nil
	return f.disk.syncDir(path)
}

// restart is the state in which the machine comes up again.
func (f *failing) restart() {
	if !f.power {
		return
	}
	for path, file := range f.files {
		if file == nil || file.synced {
			continue
		}
		size := int64(0)
		if info, err := os.Stat(path); err == nil && f.torn {
			size = info.Size() / 2
		}
		_ = os.Truncate(path, size)
	}
	for i := len(f.undo) - 1; i >= 0 && !f.renamed; i-- {
		f.undo[i]()
	}
}

type failingFile struct {
	storeFile
	fs     *failing
	synced bool
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		n, _ := f.storeFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.storeFile.Write(p)
}

func (f *failingFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	f.synced = true
	return f.storeFile.Sync()
}

// eachFailure plays a story with every step failing in every way, until one has no failure.
func eachFailure(t *testing.T, story func(t *testing.T, fs *failing)) {
	t.Helper()
	for _, mode := range []failing{{}, {power: true}, {power: true, torn: true}, {power: true, renamed: true}, {power: true, torn: true, renamed: true}} {
		steps := 0
		for n := 0; ; n++ {
			fs := mode
			fs.left, fs.files = n, map[string]*failingFile{}
			t.Run(fmt.Sprintf("power=%v torn=%v renamed=%v step %d", mode.power, mode.torn, mode.renamed, n), func(t *testing.T) { story(t, &fs) })
			if !fs.failed {
				break
			}
			if steps++; steps > 200 || t.Failed() {
				t.Fatalf("%d steps", steps)
			}
		}
		if steps < 5 {
			t.Errorf("only %d steps", steps)
		}
	}
}

// A new CRL that revokes is being stored when the disk fails: what is left never leads to a "good" that the notes
// forbid, and the next login heals it.
func TestDiskFailsWhileACRLIsStored(t *testing.T) {
	o := newOnline(t)
	first := serveCRL(o.world.inter.CRL(testca.CRL{Number: 5, Extensions: nil}))
	second := serveCRL(o.world.inter.CRL(testca.CRL{Number: 6, Entries: revoked(o.leaf, 1)}))
	dead := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
	leafOnly := Options{CRLLeafOnly: true}
	again := func(f *crlFetcher) { forget(t, f.store.dir) }
	eachFailure(t, func(t *testing.T, fs *failing) {
		dir := storeDir(t)
		o.inter.Store(first)
		if err := o.login(t, dir, leafOnly); err != nil {
			t.Fatal(err)
		}
		o.inter.Store(second)
		if err := o.login(t, dir, leafOnly, again, func(f *crlFetcher) { f.store.fs = fs }); ReasonOf(err) != ReasonRevoked {
			t.Fatalf("the login itself: %v", err)
		}
		fs.restart()
		o.inter.Store(dead)
		err := o.login(t, dir, leafOnly, again)
		if noted := newestNumber(t, dir, o); err == nil && noted != "5" {
			t.Errorf("good by the old list, while number %q was noted", noted)
		}
		o.inter.Store(first) // played back
		if err := o.login(t, dir, leafOnly, again); err == nil && newestNumber(t, dir, o) != "5" {
			t.Errorf("good by a list that was played back")
		}
		o.inter.Store(second)
		for range 2 {
			if err := o.login(t, dir, leafOnly, again); ReasonOf(err) != ReasonRevoked {
				t.Errorf("not healed: %v", err)
			}
		}
		if n := newestNumber(t, dir, o); n != "6" {
			t.Errorf("number %q is noted", n)
		}
	})
}

// forget makes the store ask the servers again.
func forget(t *testing.T, dir string) {
	t.Helper()
	s := openStore(dir)
	paths, _ := filepath.Glob(filepath.Join(dir, crlDirName, "*.json"))
	for _, p := range paths {
		var o origin
		if s.readJSON(p, &o) == nil {
			if err := s.confirm(o, o.Checked.AddDate(0, 0, -1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	failed, _ := filepath.Glob(filepath.Join(dir, crlDirName, "*"+failureSuffix))
	for _, p := range failed {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// newestNumber is the CRL number that is noted for the intermediate CA.
func newestNumber(t *testing.T, dir string, o *online) string {
	t.Helper()
	der := o.world.inter.CRL(testca.CRL{Number: 5})
	scan, err := crl.ScanDER(bytes.NewReader(der), int64(len(der)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(dir)
	var n newest
	if err := s.readJSON(s.path(newestDirName, scopeName(parsed(t, &o.world.inter.Cert).RawSPKI, &scan.Head)), &n); err != nil {
		return err.Error()
	}
	return n.Number
}

// The disk fails while an index is written: the logins after it see what the CRL says.
func TestDiskFailsWhileAnIndexIsWritten(t *testing.T) {
	w := newWorld()
	many := testca.ManyRevoked(2000)
	d := newOnDisk(t, w, map[string][]byte{"root.crl": w.root.CRL(testca.CRL{Number: 1}),
		"inter.crl": w.inter.CRL(testca.CRL{Number: 1, RawEntries: many, Entries: revoked(w.leaf, 1)})})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	eachFailure(t, func(t *testing.T, fs *failing) {
		o := Options{StoreDir: storeDir(t)}
		v := d.verifier(t, o)
		store := openStore(o.StoreDir)
		store.fs = fs
		u := &crlUpdate{v: v, store: store, fetcher: newCRLFetcher(v, store)}
		for _, place := range u.places() {
			u.index(t.Context(), place)
		}
		fs.restart()
		for range 2 {
			if _, err := scansOf(t, d, o); ReasonOf(err) != ReasonRevoked {
				t.Errorf("got %v", err)
			}
		}
		if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if scans, err := scansOf(t, d, o); ReasonOf(err) != ReasonRevoked || scans > 1 {
			t.Errorf("not healed: %v, %d scans", err, scans)
		}
	})
}

// TestNothingIsLeftOfAnUnfinishedFile: a process that ends while it writes leaves no part of a file,
// and what is finished is there under its name, for everybody to read.
func TestNothingIsLeftOfAnUnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, tempPrefix+"x")
	f, err := disk{}.create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("part")); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("while it is written: %v, %v", left, err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "part" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}
