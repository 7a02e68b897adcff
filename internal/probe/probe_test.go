package probe

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMain: this program is its own child.

func TestMain(m *testing.M) {
	if code, ok := Main(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// privateDir is a directory that nobody else may write.

func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// store is SoftHSM with the card of alice.

// TestLibrary: what a library shows.

// TestCards: a configuration's cards with their certificates, and no PIN.

// TestLibrariesThatFail: each of them is an answer.

// TestALibraryThatHangs ends with the context, its children too.

// TestNoLibrary: a file that is none, and one that is not there.

func TestNoLibrary(t *testing.T) {
	dir := privateDir(t)
	path := filepath.Join(dir, "text.so")
	if err := os.WriteFile(path, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, filepath.Join(dir, "missing.so"), "relative.so"} {
		a, err := Library(t.Context(), path, nil)
		if err != nil || a.Failure == nil {
			t.Errorf("%s: %v %+v", path, err, a)
		}
	}
}

// TestSaid: what is shown of the child's words.

func TestSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"one\ntwo\x1b[31m\n":      "two?[31m",
		"panic: x\n\ngoroutine 1": "panic: x",
	} {
		w := &said{limit: maxSaid}
		_, _ = w.Write([]byte(text))
		if got := w.String(); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}

	w := &said{limit: 4}
	for _, part := range []string{"ab", "cdefghi", "jkl"} {
		_, _ = w.Write([]byte(part))
	}
	if string(w.head) != "abcd" || string(w.end) != "ijkl" {
		t.Errorf("%q %q", w.head, w.end)
	}
}
