package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is one parsed file of the sources, with its text by lines.
type file struct {
	name  string // from the root
	test  bool   // a test, or below test/
	lines []string
	ast   *ast.File
}

// function is a function of the product with a body.
type function struct {
	file *file
	decl *ast.FuncDecl

	first int // line of the word func, from 1
	last  int // line of the closing brace

	blanks     int
	comments   int // lines of the body that are comments
	cyclomatic int
	cognitive  int
}

func (f *function) length() int { return f.last - f.first + 1 }

// bodyLines is how many lines stand between the braces.
func (f *function) bodyLines() int { return max(0, f.length()-2) }

// tree is all that is measured.
type tree struct {
	set       *token.FileSet
	product   []*file
	tests     []*file
	functions []*function
}

// skipped are directories without code of ours.
var skipped = map[string]bool{"vendor": true, "build": true, "testdata": true, ".git": true}

func readTree(root, under string) (*tree, error) {
	t := &tree{set: token.NewFileSet()}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped[d.Name()] {
			return fs.SkipDir
		}

		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() || !strings.HasSuffix(name, ".go") || !strings.HasPrefix(name, under) {
			return nil
		}
		return t.readFile(path, name)
	})
	return t, err
}

func (t *tree) readFile(path, name string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.set, path, text, parser.ParseComments)
	if err != nil {
		return err
	}
	// Nobody reads or writes generated code by hand.
	if ast.IsGenerated(parsed) {
		return nil
	}

	f := &file{
		name:  name,
		test:  strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/"),
		lines: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"),
		ast:   parsed,
	}
	if f.test {
		t.tests = append(t.tests, f)
		return nil
	}

	t.product = append(t.product, f)
	for _, decl := range parsed.Decls {
		if d, ok := decl.(*ast.FuncDecl); ok && d.Body != nil {
			t.functions = append(t.functions, t.measure(f, d))
		}
	}
	return nil
}

// measure counts what one function has. Lines inside a raw string are text, no lines of the body.
func (t *tree) measure(f *file, d *ast.FuncDecl) *function {
	fn := &function{
		file:       f,
		decl:       d,
		first:      t.line(d.Pos()),
		last:       t.line(d.End()),
		cyclomatic: cyclomatic(d.Body),
		cognitive:  cognitive(d),
	}

	// What looks like a blank line or a comment may be text.
	text := t.rawStrings(d.Body)
	for n := t.line(d.Body.Lbrace) + 1; n < fn.last; n++ {
		if text[n] {
			continue
		}
		line := strings.TrimSpace(f.lines[n-1])
		switch {
		case line == "":
			fn.blanks++
		case strings.HasPrefix(line, "//"):
			fn.comments++
		}
	}
	return fn
}

// rawStrings are the lines below a node that begin inside a raw string.
func (t *tree) rawStrings(n ast.Node) map[int]bool {
	inside := make(map[int]bool)
	ast.Inspect(n, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if ok && lit.Kind == token.STRING {
			for line := t.line(lit.Pos()) + 1; line <= t.line(lit.End()); line++ {
				inside[line] = true
			}
		}
		return true
	})
	return inside
}

func (t *tree) line(p token.Pos) int { return t.set.Position(p).Line }
