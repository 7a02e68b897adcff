package enrolled

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// keyNumber is one of several keys.
func keyNumber(n byte) Key { return Key{n} }

func place(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "enrolled")
	if text == "" {
		return path
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLines(t *testing.T) {
	key := keyNumber(0xab)
	colons := keyPrefix + strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	same := Key(bytes.Repeat([]byte{0xab}, 32))
	for _, c := range []struct {
		line  string
		want  Entry
		fault string
	}{
		{line: key.String() + " alice", want: Entry{Key: key, User: "alice"}},
		{line: "\t" + key.String() + "\talice  # 0001, CN=Alice, 2026-11-30\r", want: Entry{Key: key, User: "alice", Comment: "0001, CN=Alice, 2026-11-30"}},
		{line: key.String() + " alice chain # c", want: Entry{Key: key, User: "alice", Chain: true, Comment: "c"}},
		{line: key.String() + ` EXAMPLE\alice@example.org`, want: Entry{Key: key, User: `EXAMPLE\alice@example.org`}},
		{line: colons + " alice", want: Entry{Key: same, User: "alice"}},
		{line: "# " + key.String() + " alice"}, {line: ""}, {line: "   \t"},

		{line: key.String(), fault: "names no user"},
		{line: key.String() + " alice bob", fault: `"bob" is not known`},
		{line: key.String() + " alice chain bob", fault: "is not known"},
		{line: "sha256:12 alice", fault: "64 hexadecimal digits"},
		{line: "sha1:12 alice", fault: "does not begin with sha256:"},
		{line: strings.Repeat("ab", 32) + " alice", fault: "does not begin with sha256:"},
		{line: key.String() + " al\x00ice", fault: "no text"},
		{line: key.String() + " alice\rbob", fault: "no text"},
		{line: key.String() + " \xff", fault: "no text"},
		{line: key.String() + " alice#1", fault: "no login"},
		{line: key.String() + " a:b", fault: "no login"},
		{line: key.String() + " ../alice", fault: "no login"},
		{line: key.String() + " " + strings.Repeat("a", maxUser+1), fault: "longer than 256"},
		{line: key.String() + " alice #" + strings.Repeat("c", maxLine), fault: "longer than 1024"},
	} {
		file, err := parse([]byte("# head\n" + c.line + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.fault != "":
			if len(file.Entries) > 0 || len(file.Faults) != 1 || file.Faults[0].Line != 2 || !strings.Contains(file.Faults[0].Text, c.fault) {
				t.Errorf("%q: %v, want line 2: %s", c.line, file, c.fault)
			}
		case c.want.User == "":
			if len(file.Entries)+len(file.Faults) > 0 {
				t.Errorf("%q: %v", c.line, file)
			}
		default:
			c.want.Line = 2
			if len(file.Faults) > 0 || len(file.Entries) != 1 || file.Entries[0] != c.want {
				t.Errorf("%q: %v, want %v", c.line, file, c.want)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	if _, err := parse(bytes.Repeat([]byte{'#'}, maxFile+1)); err == nil {
		t.Error("a file above the limit is read")
	}
	var many strings.Builder
	for n := range maxEntries + 1 {
		fmt.Fprintf(&many, "%s u%d\n", keyNumber(byte(n)), n)
	}
	if _, err := parse([]byte(many.String())); err == nil || !strings.Contains(err.Error(), "line 10001") {
		t.Errorf("more keys than the limit: %v", err)
	}
	file, err := parse([]byte(strings.Repeat("junk junk\n", 1000)))
	if err != nil || len(file.Faults) != maxFaults {
		t.Errorf("%d faults: %v", len(file.Faults), err)
	}
}

func TestLookup(t *testing.T) {
	one, two := keyNumber(1), keyNumber(2)
	file, err := parse(fmt.Appendf(nil, "%s alice\n%s bob\n%s alice chain\n%s carol\n", one, two, one, two))
	if err != nil {
		t.Fatal(err)
	}
	if e, found, err := file.Lookup(one); err != nil || !found || e.User != "alice" || !e.Chain || e.Line != 1 {
		t.Errorf("%v, %v, %v", e, found, err)
	}
	if _, found, err := file.Lookup(two); !found || !errors.Is(err, errAmbiguous) || !strings.Contains(err.Error(), "bob in line 2, carol in line 4") {
		t.Errorf("%v, %v", found, err)
	}
	if _, found, err := file.Lookup(keyNumber(3)); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}

func TestReadRefusesFilesOfOthers(t *testing.T) {
	if _, err := Read(place(t, ""), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, mode := range []fs.FileMode{0o664, 0o646} {
		path := place(t, keyNumber(1).String()+" alice\n")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, false); err == nil {
			t.Errorf("a file of mode %o is read", mode)
		}
		if _, err := Add(t.Context(), path, Entry{Key: keyNumber(2), User: "bob"}); err == nil {
			t.Errorf("a file of mode %o is written", mode)
		}
	}
}

func TestAddAndRemove(t *testing.T) {
	before := "# keys of this machine\n\njunk\n" + keyNumber(1).String() + " alice  # 1\r\n# end"
	path := place(t, before)
	add := func(want bool, e Entry) {
		t.Helper()
		if changed, err := Add(t.Context(), path, e); changed != want || err != nil {
			t.Errorf("%v: %v, %v", e, changed, err)
		}
	}
	second := keyNumber(2).String() + " bob chain  # 2, CN=Bob\n"
	add(true, Entry{Key: keyNumber(2), User: "bob", Chain: true, Comment: "2, CN=Bob"})
	if got := content(t, path); got != before+"\n"+second {
		t.Errorf("%q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	add(false, Entry{Key: keyNumber(2), User: "bob", Chain: true, Comment: "another comment"})
	add(true, Entry{Key: keyNumber(2), User: "bob"})
	if got := content(t, path); got != before+"\n"+keyNumber(2).String()+" bob\n" {
		t.Errorf("%q", got)
	}

	changed, err := Add(t.Context(), path, Entry{Key: keyNumber(1), User: "bob"})
	if changed || err == nil || !strings.Contains(err.Error(), "for alice already (line 4)") {
		t.Errorf("alice's key for bob: %v, %v", changed, err)
	}
	for _, user := range []string{"", "a b", "a\nb", "a#b", "a\tb"} {
		if _, err := Add(t.Context(), path, Entry{Key: keyNumber(3), User: user}); err == nil {
			t.Errorf("user %q is written", user)
		}
	}

	remove := func(want bool, key Key, user string) {
		t.Helper()
		if changed, err := Remove(t.Context(), path, key, user); changed != want || err != nil {
			t.Errorf("%v of %q: %v, %v", key, user, changed, err)
		}
	}
	remove(false, keyNumber(2), "alice")
	remove(true, keyNumber(2), "bob")
	remove(true, keyNumber(1), "")
	remove(false, keyNumber(1), "")
	if got := content(t, path); got != "# keys of this machine\n\njunk\n# end\n" {
		t.Errorf("%q", got)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

// TestCommentStaysOnItsLine: a card's label and subject are its maker's or its thief's to choose.
func TestCommentStaysOnItsLine(t *testing.T) {
	path := place(t, "")
	hostile := "serial\n" + keyNumber(9).String() + " root\r\x1b[2J\u2028x\xff # y" + strings.Repeat("é", 1000)
	if _, err := Add(t.Context(), path, Entry{Key: keyNumber(1), User: "alice", Comment: hostile}); err != nil {
		t.Fatal(err)
	}
	file, err := Read(path, false)
	if err != nil || len(file.Faults) > 0 || len(file.Entries) != 1 || file.Entries[0].User != "alice" {
		t.Errorf("%v, %v", file, err)
	}
	if _, found, _ := file.Lookup(keyNumber(9)); found {
		t.Error("the comment has enrolled a key")
	}
	if strings.Contains(content(t, path), "\x1b") {
		t.Error("the comment has control characters")
	}
}

// TestLinkIsKept: the file that is replaced is the one that the name leads to.
func TestLinkIsKept(t *testing.T) {
	path := place(t, "# there\n")
	link := filepath.Join(t.TempDir(), "enrolled")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if changed, err := Add(t.Context(), link, Entry{Key: keyNumber(1), User: "alice"}); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if _, err := os.Readlink(link); err != nil || !strings.Contains(content(t, path), "alice") {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	path := place(t, "")
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			if _, err := Add(t.Context(), path, Entry{Key: keyNumber(byte(n)), User: fmt.Sprintf("u%d", n)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if file, err := Read(path, false); err != nil || len(file.Entries) != 20 {
		t.Errorf("%v, %v", file, err)
	}
}

func TestLockIsWaitedForUntilItsEnd(t *testing.T) {
	path := place(t, "")
	unlock, err := lock(t.Context(), filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Add(ctx, path, Entry{Key: keyNumber(1), User: "alice"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// FuzzParse: whatever the file holds, a line that is read can be written and read again, and pairs one key
// with one login.
func FuzzParse(f *testing.F) {
	f.Add([]byte(keyNumber(1).String() + " alice # c\n"))
	f.Add([]byte("#\n" + keyNumber(1).String() + " alice chain\r\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err != nil {
			return
		}
		for _, e := range file.Entries {
			if checkUser(e.User) != nil || e.Line < 1 {
				t.Fatalf("%+v", e)
			}
			again, err := parse([]byte(e.text()))
			if err != nil || len(again.Entries) != 1 || len(again.Faults) > 0 {
				t.Fatalf("%q: %v, %v", e.text(), again, err)
			}
			if a := again.Entries[0]; a.Key != e.Key || a.User != e.User || a.Chain != e.Chain {
				t.Fatalf("%+v became %+v", e, a)
			}
		}
	})
}
