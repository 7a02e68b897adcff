package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestNoFloorImportsOneAbove: the picture of the floors is true.
func TestNoFloorImportsOneAbove(t *testing.T) {
	const module = "pam_pkcs11/"
	level := make(map[string]int) // of each room: 0 is the top
	for i, f := range house {
		for _, wing := range f.wings {
			for _, room := range wing {
				level[room] = i
			}
		}
	}

	seen := make(map[string]bool)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		if d.IsDir() && (d.Name() == "build" || d.Name() == "vendor" || name == "test") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}

		room, ok := roomOf(level, filepath.ToSlash(filepath.Dir(name)))
		if !ok {
			return nil
		}
		seen[room] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			other, ok := roomOf(level, strings.TrimPrefix(imported, module))
			if ok && strings.HasPrefix(imported, module) && level[other] < level[room] {
				t.Errorf("%s, of the floor %q, imports %s of %q", name, house[level[room]].title,
					imported, house[level[other]].title)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	for room := range level {
		if !seen[room] {
			t.Errorf("%s is drawn, and is not there", room)
		}
	}
}

// roomOf is the room that a package is in: its own, or the nearest above it.
func roomOf(level map[string]int, dir string) (string, bool) {
	for {
		if _, ok := level[dir]; ok {
			return dir, true
		}
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return "", false
		}
		dir = dir[:i]
	}
}
