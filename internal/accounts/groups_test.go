package accounts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSystemGroups: what the C library says of root is what getent and id say.
func TestSystemGroups(t *testing.T) {
	groups := SystemGroups()
	root, err := System().Lookup("root")
	if err != nil {
		t.Fatal(err)
	}

	g, err := groups.Group("root")
	if err != nil || g.Name != "root" || g.GID != 0 {
		t.Errorf("the group root is %+v: %v", g, err)
	}
	of, err := groups.Of(root)
	if err != nil || !slices.Contains(of, 0) || !g.Has(root, of) {
		t.Errorf("root's groups are %v: %v", of, err)
	}

	text, err := exec.Command("id", "-G", "root").Output()
	if err != nil {
		t.Fatal("needs the Debian package coreutils: ", err)
	}
	if want := len(strings.Fields(string(text))); want != len(of) {
		t.Errorf("root's groups are %v, id says %s", of, text)
	}
}

func TestNoSuchGroup(t *testing.T) {
	for _, name := range []string{"", "no-such-group-here", "a:b", "a\x00b", "a\nb", strings.Repeat("x", 300)} {
		for _, groups := range []Groups{SystemGroups(), StaticGroups{}} {
			if _, err := groups.Group(name); !errors.Is(err, ErrNoGroup) {
				t.Errorf("%T %.20q: %v", groups, name, err)
			}
		}
	}
}

func TestGroupHas(t *testing.T) {
	alice := &Account{Name: "alice", UID: 1000, GID: 100}
	for _, row := range []struct {
		name  string
		group Group
		of    []uint32
		want  bool
	}{
		{"her own group", Group{GID: 100}, nil, true},
		{"in its list", Group{GID: 7, Members: []string{"bob", "alice"}}, nil, true},
		{"by its number, as for nested groups", Group{GID: 7}, []uint32{100, 7}, true},
		{"neither", Group{GID: 7, Members: []string{"bob", "Alice", ""}}, []uint32{100, 8}, false},
	} {
		if got := row.group.Has(alice, row.of); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestIsLocal(t *testing.T) {
	for name, want := range map[string]bool{"root": true, "no-such-user-here": false, "": false, "roo": false, "root:x": false} {
		if got := IsLocal(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if isIn("/nonexistent/passwd", "root") {
		t.Error("found in no file")
	}

	long := filepath.Join(t.TempDir(), "group")
	line := "staff:x:50:" + strings.Repeat("somebody,", 20_000) + "alice\nlast:x:51:\n"
	if err := os.WriteFile(long, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if !isIn(long, "last") {
		t.Error("a name behind a long line is not found")
	}
}
