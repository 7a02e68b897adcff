package layering

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// goPackage is a package of the product, without its tests, with the types of everything in it. The
// files are those that the machine's own build takes.
type goPackage struct {
	dir   string // from the top of the sources
	files []*goFile
	types *types.Package
	info  *types.Info
}

// goPackages returns the packages of the product, which is everything outside test/. They are
// checked once for all tests.
func goPackages(t *testing.T) []*goPackage {
	t.Helper()
	all, err := checkedTree()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// listedPackage is what `go list -json` says of a package.
type listedPackage struct {
	ImportPath string
	Export     string // the file with the types of what the package exports
	GoFiles    []string
	CgoFiles   []string
}

var checkedTree = sync.OnceValues(func() ([]*goPackage, error) {
	files, err := parsedTree()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*goFile)
	for _, f := range files {
		byName[f.name] = f
	}

	list, err := listPackages(productDirs(files))
	if err != nil {
		return nil, err
	}
	c := newChecker(list)
	var all []*goPackage
	for _, l := range list {
		dir, ours := strings.CutPrefix(l.ImportPath, module+"/")
		if !ours {
			continue
		}

		p := &goPackage{dir: dir}
		for _, name := range append(l.GoFiles, l.CgoFiles...) {
			f := byName[dir+"/"+name]
			if f == nil {
				return nil, fmt.Errorf("%s/%s is built, and is none of the sources", dir, name)
			}
			p.files = append(p.files, f)
		}
		if err := c.check(p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
})

// productDirs lists the folders with Go files of the product.
func productDirs(files []*goFile) []string {
	var dirs []string
	seen := make(map[string]bool)
	for _, f := range files {
		if f.test || f.dir == "test" || strings.HasPrefix(f.dir, "test/") || seen[f.dir] {
			continue
		}
		seen[f.dir] = true
		dirs = append(dirs, f.dir)
	}
	return dirs
}

// listPackages asks the go command for packages and everything that they import, in such an order
// that a package comes after its imports.
func listPackages(dirs []string) ([]listedPackage, error) {
	args := []string{"list", "-deps", "-export", "-json=ImportPath,Export,GoFiles,CgoFiles"}
	for _, dir := range dirs {
		args = append(args, "./"+dir)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = top
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}

	var list []listedPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listedPackage
		if err := decoder.Decode(&l); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, l)
	}
}

// checker finds the types of packages. Ours are checked from their source, one after the other; the
// others are read from what the compiler wrote.
type checker struct {
	ours   map[string]*types.Package
	others types.Importer
}

func newChecker(list []listedPackage) *checker {
	exports := make(map[string]string)
	for _, l := range list {
		exports[l.ImportPath] = l.Export
	}
	lookup := func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("%s has not been built", path)
		}
		return os.Open(exports[path])
	}
	return &checker{
		ours:   make(map[string]*types.Package),
		others: importer.ForCompiler(positions, "gc", lookup),
	}
}

// Import finds a package that another imports.
func (c *checker) Import(path string) (*types.Package, error) {
	if p := c.ours[path]; p != nil {
		return p, nil
	}
	return c.others.Import(path)
}

// check finds the types in a package. What comes from C has none.
func (c *checker) check(p *goPackage) error {
	p.info = &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	var first error
	config := types.Config{
		Importer:    c,
		FakeImportC: true,
		Error: func(err error) {
			if first == nil {
				first = err
			}
		},
	}

	var parsed []*ast.File
	for _, f := range p.files {
		parsed = append(parsed, f.ast)
	}
	path := module + "/" + filepath.ToSlash(p.dir)
	p.types, _ = config.Check(path, positions, parsed, p.info)
	c.ours[path] = p.types
	if first != nil {
		return first
	}
	return nil
}
