package layering

import (
	"bytes"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxFunction is the longest function in lines, from its first to its last.
const maxFunction = 80

func TestPackageNamesSaySomething(t *testing.T) {
	for _, f := range goFiles(t) {
		if slices.Contains(strings.Fields(emptyNames), f.ast.Name.Name) {
			t.Errorf("%s: a package named %s says nothing", f.name, f.ast.Name.Name)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			if fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s: init()", f.name)
			}
			lines := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			if lines > maxFunction && longFunctions[f.dir+"."+fn.Name.Name] == "" {
				t.Errorf("%s: %s has %d lines, more than %d", f.name, fn.Name.Name, lines, maxFunction)
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s has no comment", f.set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(t, f, d)
			}
		}
	}
}

// exportedReceiver tells whether a function is none of a type's, or of an exported type's.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// undocumented reports exported types, constants and variables without a comment of their own or of their group.
func undocumented(t *testing.T, f *goFile, d *ast.GenDecl) {
	t.Helper()
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
				t.Errorf("%s: %s has no comment", f.set.Position(s.Pos()), s.Name.Name)
			}
		case *ast.ValueSpec:
			if s.Doc != nil || d.Doc != nil || s.Comment != nil || enumerates(f, d) {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					t.Errorf("%s: %s has no comment", f.set.Position(name.Pos()), name.Name)
				}
			}
		}
	}
}

// enumerates tells whether a group of constants is the enumeration of a type whose comment, in the same file, says
// what its values are.
func enumerates(f *goFile, d *ast.GenDecl) bool {
	first, ok := d.Specs[0].(*ast.ValueSpec)
	if !ok || d.Tok != token.CONST {
		return false
	}
	typ, ok := first.Type.(*ast.Ident)
	if !ok {
		return false
	}
	for _, decl := range f.ast.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			if s := spec.(*ast.TypeSpec); s.Name.Name == typ.Name && (g.Doc != nil || s.Doc != nil) {
				return true
			}
		}
	}
	return false
}

// TestNoPathOfAMachine looks for paths that mean something on one machine only. They are put together here so
// that this file does not hold them.
func TestNoPathOfAMachine(t *testing.T) {
	slash := "/"
	var forbidden [][]byte
	for _, p := range []string{"work" + slash, "tmp/brief", "root/go", "tmp/bash_jobs"} {
		forbidden = append(forbidden, []byte(slash+p))
	}
	forbidden = append(forbidden, []byte("proxy.golang"+".org"))
	walk(t, func(name string) {
		text := read(t, name)
		if !utf8.Valid(text) {
			return
		}
		for _, p := range forbidden {
			if i := bytes.Index(text, p); i >= 0 {
				t.Errorf("%s:%d: names %s, which is of one machine", name, 1+bytes.Count(text[:i], []byte("\n")), p)
			}
		}
	})
}
