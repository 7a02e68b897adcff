package layering

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of this module in go.mod.
const module = "pam_pkcs11"

// goFile is one parsed Go file.
type goFile struct {
	name string // from the top of the sources, with slashes
	dir  string
	test bool
	ast  *ast.File
	set  *token.FileSet
}

// imports returns the paths that the file imports.
func (f *goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// top is the top directory of the sources, seen from this package.
const top = "../.."

// isModule tells whether a folder is a Go module of its own, which has its own imports.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// walk calls fn for every file that belongs to the sources, by its name from the top.
func walk(t *testing.T, fn func(name string)) {
	t.Helper()
	if err := walkTree(fn); err != nil {
		t.Fatal(err)
	}
}

func walkTree(fn func(name string)) error {
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name == "build" || name == ".git" || name != "." && isModule(p) {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && name != ".git" { // a file in a worktree of git
			fn(name)
		}
		return nil
	})
}

// goFiles returns all Go files of the sources, whatever their build tags; testdata is not Go of
// ours. They are parsed once for all tests.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	files, err := parsedTree()
	if err != nil {
		t.Error(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go file found")
	}
	return files
}

// positions holds the places of everything that is parsed here.
var positions = token.NewFileSet()

var parsedTree = sync.OnceValues(func() ([]*goFile, error) {
	var files []*goFile
	var problems []error
	err := walkTree(func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "testdata/") {
			return
		}

		parsed, err := parser.ParseFile(positions, filepath.Join(top, name), nil, parser.ParseComments)
		if err != nil {
			problems = append(problems, err)
			return
		}
		files = append(files, &goFile{
			name: name,
			dir:  path.Dir(name),
			test: strings.HasSuffix(name, "_test.go"),
			ast:  parsed,
			set:  positions,
		})
	})
	return files, errors.Join(append(problems, err)...)
})

// read returns the text of a file of the sources.
func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// listed tells whether a package, or a path above it, is in a list separated by blanks.
func listed(list, importPath string) bool {
	for _, entry := range strings.Fields(list) {
		if entry == "*" || importPath == entry || strings.HasPrefix(importPath, entry+"/") {
			return true
		}
	}
	return false
}

// contains tells whether a package itself is in a list separated by blanks; "*" is any.
func contains(list, name string) bool {
	for _, entry := range strings.Fields(list) {
		if entry == "*" || entry == name {
			return true
		}
	}
	return false
}
