package mapfile

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// TestNearestLineIsBounded: only so many lines are read as names, and neither a context that ends nor a file that has
// gone is an error.
func TestNearestLineIsBounded(t *testing.T) {
	s := newNearSearch("f", []string{"CN=Alice Example,O=Example,C=IT", strings.Repeat("x", maxNearKey+1)})
	for i := range maxNearDNs + 10 {
		s.block(fmt.Appendf(nil, "CN=Alice Example+UID=%d,O=Example,C=CH -> alice\n", i))
	}
	if s.rank != notNear || s.parsed != maxNearDNs || len(s.texts) != 1 {
		t.Errorf("nearness %d, %d names read, %d texts", s.rank, s.parsed, len(s.texts))
	}
	s.block([]byte(strings.Repeat("y", maxNearKey+1) + " -> alice\nCN=Alice Example,O=Exampel,C=IT -> alice\n"))
	if s.best.Line != maxNearDNs+12 {
		t.Errorf("%+v", s.best)
	}

	m := mapfileWith(t, "ALICE -> alice\n", false)
	nearest := m.nearest([]string{"Alice"})
	if near := nearest(t.Context()); near == nil || near.Line != 1 {
		t.Errorf("%+v", near)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if near := nearest(ended); near != nil {
		t.Errorf("%+v", near)
	}
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	if near := nearest(t.Context()); near != nil {
		t.Errorf("%+v", near)
	}
}

// FuzzNearest: a line that is told of is one of the file, and not one that fits.
func FuzzNearest(f *testing.F) {
	f.Add([]byte("Alice -> alice\nalice->a\n"), "ALICE")
	f.Add([]byte("subject=C = IT, CN = A -> a\n\"x\" -> b\n"), "CN=A,C=IT")
	f.Add([]byte("1 CN=A -> a\n"), "1 CN=B")
	f.Add([]byte("0 -> 0\n0  -> 0\n"), "0 ")
	f.Add([]byte("\rCC00 -> 0\n"), "\rCC00")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		if text == "" || strings.ContainsAny(text, "\n\x00") || len(file) > 1<<12 || len(text) > 1<<8 {
			return
		}
		s := newNearSearch("f", []string{text})
		s.block(file)
		if s.rank == notNear {
			return
		}
		lines := strings.Split(string(file), "\n")
		if s.best.Line < 1 || s.best.Line > len(lines) || !strings.Contains(lines[s.best.Line-1], s.best.Key) || s.best.Why == "" {
			t.Fatalf("%+v of %q", s.best, file)
		}
		one := newScan(&File{log: slog.New(slog.DiscardHandler)}, []string{text})
		one.take([]byte(lines[s.best.Line-1]))
		if len(one.logins[0]) > 0 {
			t.Errorf("%+v fits", s.best)
		}
	})
}
