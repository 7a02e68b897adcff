package verify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl/store"
)

// failing is a disk on which the n-th write, and what comes after it, fails: because it is full, or because the power
// is gone. A loss of power also takes what was not brought to the disk.
type failing struct {
	store.Disk
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

func (f *failing) Create(path string) (store.File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	real, err := f.Disk.Create(path)
	if err != nil {
		return nil, err
	}
	file := &failingFile{File: real, fs: f}
	f.files[path] = file
	return file, nil
}

func (f *failing) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	before, err := os.ReadFile(to)
	existed := err == nil
	if err := f.Disk.Rename(from, to); err != nil {
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

func (f *failing) Remove(path string) error {
	if f.failed && f.power {
		return errPower
	}
	return f.Disk.Remove(path)
}

func (f *failing) SyncDir(path string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.undo = nil
	return f.Disk.SyncDir(path)
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
	store.File
	fs     *failing
	synced bool
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *failingFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	f.synced = true
	return f.File.Sync()
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
	leafOnly := verify.Options{CRLLeafOnly: true}
	eachFailure(t, func(t *testing.T, fs *failing) {
		dir := storeDir(t)
		again := func(*store.Hooks) { forget(t, dir) }
		o.inter.Store(first)
		if err := o.login(t, dir, leafOnly); err != nil {
			t.Fatal(err)
		}
		o.inter.Store(second)
		if err := o.login(t, dir, leafOnly, again, func(h *store.Hooks) { h.FS = fs }); verify.ReasonOf(err) != verify.ReasonRevoked {
			t.Fatalf("the login itself: %v", err)
		}
		fs.restart()
		o.inter.Store(dead)
		err := o.login(t, dir, leafOnly, again)
		if noted := newestNumber(t, dir); err == nil && noted != "5" {
			t.Errorf("good by the old list, while number %q was noted", noted)
		}
		o.inter.Store(first) // played back
		if err := o.login(t, dir, leafOnly, again); err == nil && newestNumber(t, dir) != "5" {
			t.Errorf("good by a list that was played back")
		}
		o.inter.Store(second)
		for range 2 {
			if err := o.login(t, dir, leafOnly, again); verify.ReasonOf(err) != verify.ReasonRevoked {
				t.Errorf("not healed: %v", err)
			}
		}
		if n := newestNumber(t, dir); n != "6" {
			t.Errorf("number %q is noted", n)
		}
	})
}

// forget makes the store ask the servers again.
func forget(t *testing.T, dir string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "crl", "*.json"))
	for _, p := range paths {
		if data, err := os.ReadFile(p); err != nil || !json.Valid(data) {
			continue
		}
		changeNote(t, p, func(note map[string]any) {
			checked, err := time.Parse(time.RFC3339Nano, fmt.Sprint(note["checked"]))
			if err != nil {
				t.Fatal(err)
			}
			note["checked"] = checked.AddDate(0, 0, -1)
			delete(note, "due")
		})
	}
	failed, _ := filepath.Glob(filepath.Join(dir, "crl", "*"+".failed"))
	for _, p := range failed {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// newestNumber is the CRL number that is noted: for the intermediate CA, whose list alone is looked at.
func newestNumber(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "newest", "[0-9a-f]*"))
	if err != nil || len(paths) != 1 {
		return fmt.Sprintf("%v, %v", paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		return err.Error()
	}
	var n struct {
		Number string `json:"number"`
	}
	if err := json.Unmarshal(data, &n); err != nil {
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
		o := verify.Options{StoreDir: storeDir(t)}
		broken := o
		broken.Hooks().FS = fs
		_, _ = d.verifier(t, broken).UpdateCRLs(t.Context(), nil)
		fs.restart()
		for range 2 {
			if _, err := scansOf(t, d, o); verify.ReasonOf(err) != verify.ReasonRevoked {
				t.Errorf("got %v", err)
			}
		}
		if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if scans, err := scansOf(t, d, o); verify.ReasonOf(err) != verify.ReasonRevoked || scans > 1 {
			t.Errorf("not healed: %v, %d scans", err, scans)
		}
	})
}
