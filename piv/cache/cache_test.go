package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/iso7816"
)

func open(t *testing.T, dir string, o Options) *Cache {
	t.Helper()
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// entry is one whose object is that of the n-th card.
func entry(n uint32, length int) (piece []byte, e *Entry) {
	object := binary.BigEndian.AppendUint32([]byte{0x53, 0x82}, n)
	object = append(object, bytes.Repeat([]byte{0x5A}, length-len(object))...)
	return object[:min(length, MaxPiece)], &Entry{
		Object:      object,
		APT:         []byte{0x61, 0x00},
		Discovery:   []byte{0x4F, 0x00},
		Metadata:    []byte{0x01, 0x01, 0x11},
		PINMetadata: []byte{0x05, 0x01, 0x01},
		Serial:      "0123456789abcdef",
		MostTries:   15,
	}
}

func put(t *testing.T, c *Cache, piece []byte, e *Entry) {
	t.Helper()
	if err := c.Put(piece, e); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		list = append(list, f.Name())
	}
	return list
}

func TestEntriesStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pam_pkcs11", "piv")
	for _, length := range []int{6, 255, 256, 257, 2000, 16 << 10} {
		piece, want := entry(uint32(length), length)
		put(t, open(t, dir, Options{}), piece, want)

		got, ok := open(t, dir, Options{}).Get(piece)
		if !ok {
			t.Fatalf("%d bytes: no entry", length)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Error(d, info.Mode(), err)
		}
	}
	for _, name := range names(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 || !isName(name) {
			t.Error(name, info.Mode(), err)
		}
	}
}

func TestWhatIsNotKnownStaysSo(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "piv"), Options{})
	piece, e := entry(1, 500)
	want := &Entry{Object: e.Object}
	put(t, c, piece, want)
	if got, ok := c.Get(piece); !ok || !cmp.Equal(want, got) {
		t.Error(got, ok)
	}
}

func TestReplacedAndDropped(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "piv"), Options{})
	piece, e := entry(1, 500)
	put(t, c, piece, e)
	e.MostTries = 3
	put(t, c, piece, e)
	if got, ok := c.Get(piece); !ok || got.MostTries != 3 {
		t.Fatal(got, ok)
	}

	c.Drop(piece)
	c.Drop(piece)
	if _, ok := c.Get(piece); ok {
		t.Error("a dropped entry is there")
	}
}

func TestPutRefuses(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "piv"), Options{})
	piece, e := entry(1, 500)
	other, _ := entry(2, 500)
	large := *e
	large.APT = bytes.Repeat([]byte{1}, MaxEntry-400)
	larger := *e
	larger.APT = bytes.Repeat([]byte{1}, 17<<20)
	many := *e
	many.MostTries = 256
	for name, tt := range map[string]struct {
		piece []byte
		entry *Entry
	}{
		"no piece":                {nil, e},
		"a long piece":            {e.Object[:MaxPiece+1], e},
		"the piece of another":    {other, e},
		"too long":                {piece, &large},
		"longer than a length is": {piece, &larger},
		"too many tries":          {piece, &many},
	} {
		if err := c.Put(tt.piece, tt.entry); err == nil {
			t.Errorf("%s is kept", name)
		}
	}
	if got := names(t, c.dir.Name()); len(got) > 0 {
		t.Error(got)
	}
}

// TestNoCache: a login has none where the directory is not to be had.
func TestNoCache(t *testing.T) {
	var c *Cache
	piece, e := entry(1, 500)
	if err := c.Put(piece, e); err != nil {
		t.Error(err)
	}
	if _, ok := c.Get(piece); ok {
		t.Error("an entry of no cache")
	}
	c.Drop(piece)
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	closed := open(t, filepath.Join(t.TempDir(), "piv"), Options{})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Error("closed twice:", err)
	}
	if _, ok := closed.Get(piece); ok || closed.Put(piece, e) == nil {
		t.Error("a closed cache works")
	}
	closed.Drop(piece)
}

// TestTheOldestGoes: of more than 64 entries, the one that was not used for the longest time.
func TestTheOldestGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "piv")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := open(t, dir, Options{Now: func() time.Time { return now }})
	for n := range uint32(MaxEntries) {
		piece, e := entry(n, 300)
		put(t, c, piece, e)
		now = now.Add(touchAfter)
	}
	for n := range uint32(8) { // used again, all but the ninth
		piece, _ := entry(n, 300)
		if _, ok := c.Get(piece); !ok {
			t.Fatal("no entry", n)
		}
		now = now.Add(time.Second)
	}
	bystander := filepath.Join(dir, "README")
	if err := os.WriteFile(bystander, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	piece, e := entry(MaxEntries, 300)
	put(t, c, piece, e)
	for n := range uint32(MaxEntries + 1) {
		piece, _ := entry(n, 300)
		if _, ok := c.Get(piece); ok == (n == 8) {
			t.Errorf("entry %d: %v", n, ok)
		}
	}
	if got := len(names(t, dir)); got != MaxEntries+1 {
		t.Errorf("%d files", got)
	}
}

// TestWhatAKilledProcessLeft is removed, but not what another process is writing now.
func TestWhatAKilledProcessLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "piv")
	c := open(t, dir, Options{})
	for name, age := range map[string]time.Duration{".new-old": 2 * time.Hour, ".new-fresh": time.Minute} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	piece, e := entry(1, 300)
	put(t, c, piece, e)
	if diff := cmp.Diff([]string{".new-fresh", nameOf(piece)}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestStrangeFilesAreIgnored: what is at the place of an entry and was not written by Put.
func TestStrangeFilesAreIgnored(t *testing.T) {
	piece, e := entry(1, 300)
	good, err := e.marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, other := entry(2, 300)
	ofAnother, err := other.marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := func(content []byte, mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, make := range map[string]func(t *testing.T, path string){
		"empty":              file(nil, 0o600),
		"cut short":          file(good[:len(good)-1], 0o600),
		"with a hole":        file(holed(good), 0o600),
		"with a tail":        file(append(bytes.Clone(good), 0), 0o600),
		"of another card":    file(ofAnother, 0o600),
		"of another version": file(bytes.Replace(good, []byte("cache 1"), []byte("cache 2"), 1), 0o600),
		"giant":              file(append(bytes.Clone(good), bytes.Repeat([]byte{0}, 1<<20)...), 0o600),
		"open to the group":  file(good, 0o640),
		"open to all":        file(good, 0o604),
		"a symbolic link": func(t *testing.T, path string) {
			elsewhere := filepath.Join(t.TempDir(), "file")
			file(good, 0o600)(t, elsewhere)
			if err := os.Symlink(elsewhere, path); err != nil {
				t.Fatal(err)
			}
		},
		"a hard link": func(t *testing.T, path string) {
			elsewhere := filepath.Join(filepath.Dir(filepath.Dir(path)), "file")
			file(good, 0o600)(t, elsewhere)
			if err := os.Link(elsewhere, path); err != nil {
				t.Fatal(err)
			}
		},
		"a FIFO": func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"of a foreign owner": func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			file(good, 0o600)(t, path)
			if err := os.Chown(path, 12345, -1); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "piv")
			c := open(t, dir, Options{})
			make(t, filepath.Join(dir, nameOf(piece)))
			if got, ok := c.Get(piece); ok {
				t.Fatalf("it is read: %+v", got)
			}

			put(t, c, piece, e)
			if got, ok := c.Get(piece); !ok || !cmp.Equal(got, e) {
				t.Error("it is not replaced:", got, ok)
			}
		})
	}
}

// holed is a file of which the machine has lost some blocks.
func holed(b []byte) []byte {
	b = bytes.Clone(b)
	clear(b[100:200])
	return b
}

// TestADirectoryInPlaceOfAFile: it stays, and what would be there is not kept.
func TestADirectoryInPlaceOfAFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "piv")
	c := open(t, dir, Options{})
	piece, e := entry(1, 300)
	if err := os.Mkdir(filepath.Join(dir, nameOf(piece)), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Get(piece); ok || c.Put(piece, e) == nil {
		t.Error("a directory is an entry")
	}
	if got := names(t, dir); len(got) != 1 {
		t.Error("left behind:", got)
	}
}

func TestWhoseDirectory(t *testing.T) {
	base := t.TempDir()
	mkdir := func(name string, mode os.FileMode) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	refused := map[string]string{
		"relative":    "piv",
		"group":       mkdir("group", 0o770),
		"all":         mkdir("all", 0o777),
		"sticky":      mkdir("sticky", 0o777|os.ModeSticky),
		"no parent":   filepath.Join(base, "a", "b", "c"),
		"below group": filepath.Join(mkdir("below", 0o770), "piv"),
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused["a file"] = filepath.Join(base, "file")
	if os.Geteuid() == 0 {
		foreign := mkdir("foreign", 0o700)
		if err := os.Chown(foreign, 12345, -1); err != nil {
			t.Fatal(err)
		}
		refused["foreign"] = foreign
	}
	for name, dir := range refused {
		if c, err := Open(dir, Options{}); err == nil {
			c.Close()
			t.Errorf("%s: %s is opened", name, dir)
		}
	}

	readable := mkdir("readable", 0o755)
	open(t, readable, Options{})
	if info, err := os.Stat(readable); err != nil || info.Mode().Perm() != 0o700 {
		t.Error("not closed to others:", info.Mode(), err)
	}
}

// TestManyAtOnce: readers are looked at side by side, and logins run at the same time.
func TestManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "piv")
	var all sync.WaitGroup
	for range 4 {
		c := open(t, dir, Options{})
		for worker := range uint32(4) {
			all.Go(func() {
				for n := range uint32(40) {
					piece, e := entry(worker*20+n, 300)
					if err := c.Put(piece, e); err != nil {
						t.Error(err)
					}
					if got, ok := c.Get(piece); ok && !cmp.Equal(got, e) {
						t.Error("another entry")
					}
				}
			})
		}
	}
	all.Wait()
	list := names(t, dir)
	if len(list) > MaxEntries || strings.HasPrefix(list[0], freshPrefix) {
		t.Errorf("%d files, the first %s", len(list), list[0])
	}
}

// TestOneFile holds the format: a change of it needs another number in magic.
func TestOneFile(t *testing.T) {
	want := []byte("pam_pkcs11 PIV cache 1\n\x81\x02\x53\x00\x82\x01\x61\x86\x02ab\x87\x01\x03")
	hash := sha256.Sum256(want)
	want = iso7816.AppendTLV(want, 0x88, hash[:])
	e := &Entry{Object: []byte{0x53, 0}, APT: []byte{0x61}, Serial: "ab", MostTries: 3}
	if got, err := e.marshal(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v\nwant %q", got, err, want)
	}
	if got, err := unmarshal(want); err != nil || !cmp.Equal(got, e) {
		t.Error(got, err)
	}
}

// FuzzFile: what is read is what would be written.
func FuzzFile(f *testing.F) {
	for _, length := range []int{6, 300} {
		_, e := entry(1, length)
		file, err := e.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file[:len(file)-34])
	}
	f.Add([]byte(magic + "\x81\x00"))
	f.Add([]byte(magic + "\x87\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := unmarshal(b); err == nil && !bytes.Contains(b, []byte(magic)) {
			t.Error("no magic")
		}
		hash := sha256.Sum256(b) // so that the fuzzer need not find one
		b = iso7816.AppendTLV(bytes.Clone(b), tagHash, hash[:])
		e, err := unmarshal(b)
		if err != nil {
			return
		}
		again, err := e.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := unmarshal(again); err != nil || !cmp.Equal(back, e) {
			t.Fatal(fmt.Sprintf("%+v", e), err)
		}
	})
}
