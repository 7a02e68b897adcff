//go:build reference

package readertest

import (
	"os"
	"path/filepath"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
)

// Data is the folder of reference data.
func Data(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PAM_PKCS11_SHARED")
	if dir == "" {
		t.Fatal("PAM_PKCS11_SHARED is not set")
	}
	return filepath.Join(dir, "data")
}

// Descriptions returns all descriptions of readers, by file name.
func Descriptions(t *testing.T) map[string][]*ccidtest.Profile {
	t.Helper()
	pattern := filepath.Join(Data(t), "ccid-reader-descriptors", "*.txt")
	names, err := filepath.Glob(pattern)
	// Fewer are an incomplete copy, over which a test of all readers would pass by mistake.
	if err != nil || len(names) < 600 {
		t.Fatalf("%d descriptions: %v", len(names), err)
	}

	all := map[string][]*ccidtest.Profile{}
	for _, name := range names {
		// The one file that is a list, and no description.
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
