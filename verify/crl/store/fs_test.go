package store

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNothingIsLeftOfAnUnfinishedFile: a process that ends while it writes leaves no part of a file,
// and what is finished is there under its name, for everybody to read.
func TestNothingIsLeftOfAnUnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, tempPrefix+"x")
	f, err := Disk{}.Create(path)
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
