//go:build reference

package ccid_test

import (
	"os"
	"pam_pkcs11/ccid/ccidtest"
	"path/filepath"
	"testing"
)

// shared is the folder of reference data.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PAM_PKCS11_SHARED")
	if dir == "" {
		t.Fatal("PAM_PKCS11_SHARED is not set")
	}
	return filepath.Join(dir, "data")
}

// descriptions are all descriptions of readers, by file name.
func descriptions(t *testing.T) map[string][]*ccidtest.Profile {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(shared(t), "ccid-reader-descriptors", "*.txt"))
	if err != nil || len(names) < 600 {
		t.Fatalf("%d descriptions: %v", len(names), err)
	}
	all := map[string][]*ccidtest.Profile{}
	for _, name := range names {
		if filepath.Base(name) == "supported_readers.txt" {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		profiles, err := ccidtest.ReadDescription(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[filepath.Base(name)] = profiles
	}
	return all
}
