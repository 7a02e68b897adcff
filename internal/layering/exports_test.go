package layering

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// public are the packages that programs of others import.
var public = []string{"ccid", "pcsc", "pcsc/resmgr", "pcsc/server"}

// TestPublicSignaturesAreUsable: what an exported name of a public package mentions can be named by
// who imports it.
func TestPublicSignaturesAreUsable(t *testing.T) {
	seen := 0
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(public, f.dir) {
			continue
		}
		seen++
		for _, problem := range internalMentions(f.ast) {
			t.Errorf("%s: %s", f.name, problem)
		}
	}
	if seen == 0 {
		t.Error("no file was looked at")
	}
}

// internalMentions says which exported names of a file mention a type of an internal package.
func internalMentions(file *ast.File) []string {
	internal := map[string]bool{}
	for _, imported := range file.Imports {
		p, err := strconv.Unquote(imported.Path.Value)
		if err != nil || !strings.Contains("/"+p+"/", "/internal/") {
			continue
		}
		name := path.Base(p)
		if imported.Name != nil {
			name = imported.Name.Name
		}
		internal[name] = true
	}

	var problems []string
	look := func(name string, n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && internal[x.Name] {
					problems = append(problems, name+" mentions "+x.Name+"."+s.Sel.Name)
				}
			}
			return true
		})
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
				look(d.Name.Name, d.Type)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				lookAtSpec(s, look)
			}
		}
	}
	return problems
}

// receiver is the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) (name string) {
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return true
	})
	return name
}

// lookAtSpec looks at the types of what a declaration exports. The value of a constant may come
// from anywhere.
func lookAtSpec(s ast.Spec, look func(name string, n ast.Node)) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
			look(s.Names[0].Name, s.Type)
		}
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		structure, ok := s.Type.(*ast.StructType)
		if !ok {
			look(s.Name.Name, s.Type)
			return
		}
		for _, field := range structure.Fields.List {
			if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
				look(s.Name.Name, field.Type)
			}
		}
	}
}

// TestInternalMentionsAreSeen keeps the check honest.
func TestInternalMentionsAreSeen(t *testing.T) {
	const source = `package p
import ("x/internal/a"; b "x/internal/c"; "x/d")
func Bad1(a.T) {}
func (*T) Bad2() b.T { return nil }
func (*t) good1() b.T { return nil }
func good2(a.T) {}
func Good3(d.T) { var _ a.T }
type Bad3 = a.T
type Bad4 struct { X []a.T; y a.T }
type Good4 struct { y a.T }
type Bad5 interface { M(b.T) }
var Bad6 map[string]a.T
const Good5 = a.C
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := internalMentions(file)
	for i := range 6 {
		name := "Bad" + strconv.Itoa(i+1)
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, name+" ") }) {
			t.Errorf("%s is not seen", name)
		}
	}
	if len(got) != 6 {
		t.Errorf("seen: %q", got)
	}
}
