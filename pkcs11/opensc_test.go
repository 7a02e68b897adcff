package pkcs11

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestCopiesOfACard: those of OpenSC's files that are of this token, by the end of their name's first part.
func TestCopiesOfACard(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home) // C sees it too
	t.Setenv("XDG_CACHE_HOME", "")
	if dir := openSCCache(); dir != filepath.Join(home, ".cache", "opensc") {
		t.Errorf("below HOME: %s", dir)
	}
	t.Setenv("XDG_CACHE_HOME", home)
	dir := openSCCache()
	if dir != filepath.Join(home, "opensc") || cachedFiles(dir, "ace5b01ce25285f5") != nil {
		t.Errorf("below XDG_CACHE_HOME: %s", dir)
	}

	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"5eb9640ff854482dace5b01ce25285f5_NODATE_0101CECE",
		"5eb9640ff854482dace5b01ce25285f6_NODATE_0101CECE",
		"another",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Join(dir, "5eb9640ff854482dace5b01ce25285f5_NODATE_0101CECE")}
	if got := cachedFiles(dir, "ACE5B01CE25285F5"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "relative")
	if dir := openSCCache(); dir != "" {
		t.Errorf("a relative directory: %s", dir)
	}
}
