package mapfile

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
	"pam_pkcs11/mapper/internal/mapping"
)

// TestTheTypedLoginEndsTheReading: the file is not read to its end where its first lines answer.
func TestTheTypedLoginEndsTheReading(t *testing.T) {
	m := mapfileWith(t, "A -> alice\nA -> bob\n^[ -> x\nA -> carol\n", false)
	found, err := m.LookupFor(context.Background(), []string{"A"}, mapping.NewPerson(mappertest.Accounts, "bob"))
	if err != nil || !slices.Equal(mapping.Users(found), []string{"alice", "bob"}) {
		t.Errorf("%v, %v", found, err)
	}
}

// TestManyLinesOfOneCertificate: what is kept is bounded, and who is asked for is found all the same.
func TestManyLinesOfOneCertificate(t *testing.T) {
	var b strings.Builder
	for i := range maxMapFits + 50 {
		fmt.Fprintf(&b, "A -> user%d\n", i)
	}
	m := mapfileWith(t, b.String()+"A -> last\n", false)
	found, err := m.Lookup(context.Background(), []string{"A"})
	if err != nil || len(found) != maxMapFits {
		t.Errorf("%d, %v", len(found), err)
	}
	found, err = m.LookupFor(context.Background(), []string{"A"}, mapping.NewPerson(mappertest.Accounts, "last"))
	if err != nil || mapping.Pick(found, mapping.NewPerson(mappertest.Accounts, "last"), false).User != "last" {
		t.Errorf("%d, %v", len(found), err)
	}
}

func mapfileWith(t testing.TB, text string, ignoreCase bool) *File {
	path := filepath.Join(t.TempDir(), "map")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return &File{path: path, ignoreCase: ignoreCase, log: slog.New(slog.DiscardHandler)}
}

func TestMapfile(t *testing.T) {
	cases := []struct {
		name, file, text, want string
		ignoreCase             bool
	}{
		{name: "literal", file: "Alice -> alice\n", text: "Alice", want: "alice"},
		{name: "nothing fits: nobody, not the text itself", file: "Alice -> alice\n", text: "root"},
		{name: "no line end at the end", file: "Alice -> alice", text: "Alice", want: "alice"},
		{
			name: "carriage return and trailing blanks", file: "Alice -> alice \t\r\n",
			text: "Alice", want: "alice",
		},
		{name: "leading blanks", file: "  \tAlice -> alice\n", text: "Alice", want: "alice"},
		{name: "byte order mark", file: "\ufeffAlice -> alice\n", text: "Alice", want: "alice"},
		{name: "comment", file: "# Alice -> alice\n", text: "# Alice"},
		{name: "first line wins", file: "Alice -> one\nAlice -> two\n", text: "Alice", want: "one"},
		{name: "first arrow splits", file: "A -> b -> c\n", text: "A", want: "b -> c"},
		{name: "the text must be the whole key", file: "Alice Example -> alice\n", text: "Example"},
		{name: "the key must be the whole text", file: "Alice -> alice\n", text: "Alice Example"},
		{name: "case counts", file: "alice -> alice\n", text: "ALICE"},
		{
			name: "case does not count", file: "alice -> alice\n", text: "ALICE", want: "alice",
			ignoreCase: true,
		},
		{name: "no arrow", file: "Alice alice\n", text: "Alice"},
		{name: "login missing", file: "Alice -> \n", text: "Alice"},
		{name: "NUL in the line", file: "Alice -> root\x00x\n", text: "Alice"},
		{name: "basic expression", file: `^Al.*e$ -> alice` + "\n", text: "Alice", want: "alice"},
		{name: "basic expression is anchored", file: `^Al$ -> alice` + "\n", text: "Alice"},
		{name: "basic alternatives", file: `^\(Alice\|Bob\)$ -> x` + "\n", text: "Bob", want: "x"},
		{name: "bare parentheses are themselves", file: `^(Alice|Bob)$ -> x` + "\n", text: "Bob"},
		{
			name: "bare parentheses match themselves", file: `^CN (Affiliate)$ -> x` + "\n",
			text: "CN (Affiliate)", want: "x",
		},
		{
			name: "extended alternatives", file: `(^(Alice|Bob)$) -> x` + "\n", text: "Bob",
			want: "x",
		},
		{name: "extended expression is anchored", file: `(^Al|ice$) -> x` + "\n", text: "Alabama"},
		{
			name: "back-reference: that line fits nothing",
			file: `^\(a\)\1$ -> x` + "\n" + "aa -> y\n", text: "aa", want: "y",
		},
		{
			name: "broken expression: the next line counts", file: `^[a$ -> x` + "\na -> y\n",
			text: "a", want: "y",
		},
		{name: "a new line in the text fits no dot line by line", file: `^Al.ce$ -> x` + "\n", text: "Bob\nAlice"},
		{
			name: "expression before literal", file: "^A.*$ -> first\nAlice -> second\n",
			text: "Alice", want: "first",
		},
		{
			name: "literal before expression", file: "Alice -> first\n^A.*$ -> second\n",
			text: "Alice", want: "first",
		},
		{name: "optional letter before a star", file: "^Alicex*$ -> x\n", text: "Alice", want: "x"},
		{name: "interval", file: `^a\{3\}$ -> x` + "\n", text: "aaa", want: "x"},
		{name: "class", file: `^[[:alpha:]]*$ -> x` + "\n", text: "Alice", want: "x"},
		{name: "bracket with backslash", file: `^[\]$ -> x` + "\n", text: `\`, want: "x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found, err := mapfileWith(t, c.file, c.ignoreCase).Lookup(context.Background(), []string{c.text})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(found) > 0 {
				got = found[0].User
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMapfileOverManyBlocks(t *testing.T) {
	var b strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&b, "Person Number %d -> user%d\n", i, i)
	}
	m := mapfileWith(t, b.String(), false)
	for _, i := range []int{0, 1, 9999, 20000, 39999} {
		found, err := m.Lookup(context.Background(), []string{"nobody", fmt.Sprintf("Person Number %d", i)})
		if err != nil || len(found) != 1 || found[0].User != fmt.Sprintf("user%d", i) {
			t.Errorf("%d: %v, %v", i, found, err)
		}
	}
	long := mapfileWith(t, strings.Repeat("x", mapBlock+maxMapLine)+"\n", false)
	if _, err := long.Lookup(context.Background(), []string{"a"}); err == nil {
		t.Error("a line without end is no error")
	}
}

// slow is the mapfile read line by line, as its documentation says.
func slow(file []byte, texts []string, ignoreCase bool) [][]string {
	s := newScan(&File{ignoreCase: ignoreCase, log: slog.New(slog.DiscardHandler)}, texts)
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))))
	for lines.Scan() {
		s.take(lines.Bytes())
	}
	return s.logins
}

func FuzzMapfile(f *testing.F) {
	f.Add([]byte("Alice -> alice\n^B.*$ -> bob\n(^(C|D)$) -> c\r\n# x\n"), "Alice", "C", false)
	f.Add([]byte("\xef\xbb\xbfa -> b\nA -> c\n"), "a", "A", true)
	f.Fuzz(func(t *testing.T, file []byte, one, two string, ignoreCase bool) {
		texts := []string{one, two}
		if one == "" || two == "" || strings.ContainsAny(one+two, "\n\x00") || len(file) > 1<<16 {
			return
		}
		s := newScan(&File{ignoreCase: ignoreCase, log: slog.New(slog.DiscardHandler)}, texts)
		if err := s.run(context.Background(), bytes.NewReader(file)); err != nil {
			return
		}
		want := slow(file, texts, ignoreCase)
		for i := range texts {
			if !slices.Equal(s.logins[i], want[i]) {
				t.Fatalf("text %q: got %q, line by line %q", texts[i], s.logins[i], want[i])
			}
		}
	})
}

func benchmark(b *testing.B, file string, text string) {
	m := mapfileWith(b, file, false)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if found, err := m.Lookup(context.Background(), []string{text}); err != nil || len(found) != 1 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkMapfileExact(b *testing.B) {
	var s strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&s, "Person Number %07d -> user%07d\n", i, i)
	}
	benchmark(b, s.String(), "Person Number 0999999")
}

func BenchmarkMapfileExpressions(b *testing.B) {
	var s strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&s, "^Person Number %06d .*$ -> user%06d\n", i, i)
	}
	benchmark(b, s.String(), "Person Number 099999 of Example")
}

func BenchmarkMapfileIgnoreCase(b *testing.B) {
	var s strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&s, "Person.Number%07d@example.com -> user%07d\n", i, i)
	}
	m := mapfileWith(b, s.String(), true)
	b.SetBytes(int64(s.Len()))
	for b.Loop() {
		if found, err := m.Lookup(context.Background(), []string{"person.number0999999@example.COM"}); err != nil || len(found) != 1 {
			b.Fatal(found, err)
		}
	}
}

func TestLinesThatAreSkippedAtAGlance(t *testing.T) {
	cases := []struct {
		line, text string
		skipped    bool
	}{
		{"^alice$ -> a", "alice", false}, {"^alice$ -> a", "alicia", false}, {"^alice$ -> a", "ali", true}, {"^alice$ -> a", "bob", true},
		{"^bo*b$ -> b", "bb", false}, {"^bo*b$ -> b", "xb", true}, {"^bo*b$ -> b", "bx", false}, {`^b\{0,1\}ob$ -> b`, "ob", false}, {`^a\|b$ -> b`, "b", false},
		{"^.*bob$ -> b", "bob", false}, {"^alice -> a", "^alice", false}, {"alice -> a", "bob", false}, {"", "bob", false}, {"^", "", false},
		{"^ab$ -> x", "", true},
	}
	for _, c := range cases {
		s := newScan(&File{}, []string{c.text})
		if got := s.cannotFit([]byte(c.line)); got != c.skipped {
			t.Errorf("%q and %q: skipped %v", c.line, c.text, got)
		}
	}
}

// TestMapfileIsReadLikeItsDescription compares the reading in blocks with the lines that have the text as their key.
func TestMapfileIsReadLikeItsDescription(t *testing.T) {
	dir := t.TempDir()
	word := rapid.SampledFrom([]string{"A", "AB", "B", "A B", "A ->", "-> A", "a", "É", "é", "A\tB", "#A", "A#", "(A)", "A$", "x@y"})
	rapid.Check(t, func(t *rapid.T) {
		ignoreCase := rapid.Bool().Draw(t, "ignore case")
		var b strings.Builder
		var keys, logins []string
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			key, login := word.Draw(t, "key"), rapid.SampledFrom([]string{"one", "two", "three -> four"}).Draw(t, "login")
			fmt.Fprintf(&b, "%s%s -> %s%s", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "before"), key, login, rapid.SampledFrom([]string{"\n", "\r\n", " \t\n"}).Draw(t, "end"))
			if !strings.HasPrefix(key, "#") {
				k, l, _ := strings.Cut(key+arrow+login, arrow)
				keys, logins = append(keys, k), append(logins, strings.TrimLeft(l, " \t"))
			}
		}
		path := filepath.Join(dir, "map")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		m := &File{path: path, ignoreCase: ignoreCase, log: slog.New(slog.DiscardHandler)}
		text := word.Draw(t, "text")
		var want []string
		for i, k := range keys {
			if (k == text || ignoreCase && certtext.Lower(k) == certtext.Lower(text)) && !slices.Contains(want, logins[i]) {
				want = append(want, logins[i])
			}
		}
		found, err := m.Lookup(context.Background(), []string{text})
		if err != nil || !slices.Equal(mapping.Users(found), want) {
			t.Fatalf("%q: got %v, %v, want %q in %q", text, found, err, want, b.String())
		}
	})
}

// TestMillionLines: a mapfile costs time, not memory.
func TestMillionLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 0, 1<<20)
	for i := range 1_000_000 {
		if block = fmt.Appendf(block, "Person Number %07d -> user%07d\n", i, i); len(block) > 1<<20-64 || i == 999_999 {
			if _, err := f.Write(block); err != nil {
				t.Fatal(err)
			}
			block = block[:0]
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m := &File{path: path, log: slog.New(slog.DiscardHandler)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found, err := m.Lookup(context.Background(), []string{"nobody", "Person Number 0999999", "Person Number 0000000"})
	runtime.ReadMemStats(&after)
	if err != nil || len(found) != 2 || found[0].User != "user0999999" || found[1].User != "user0000000" {
		t.Errorf("%v, %v", found, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d octets of memory", grown)
	}
}
