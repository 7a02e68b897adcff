package layering

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

func TestImportsAreThoseOfTheTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range goFiles(t) {
		dir := f.dir
		if strings.HasPrefix(dir, "test/") {
			dir = "test"
		}
		seen[dir] = true
		r, ok := rows[dir]
		if !ok {
			t.Errorf("%s: the package %s has no row in the import table", f.name, f.dir)
			continue
		}
		for _, imported := range f.imports() {
			if problem := r.check(f, imported); problem != "" {
				t.Errorf("%s imports %s: %s", f.name, imported, problem)
			}
		}
	}
	for dir := range rows {
		if !seen[dir] && !slices.Contains(later, dir) {
			t.Errorf("the import table has a row for %s, which is not there", dir)
		}
	}
}

// check returns what is wrong with an import, or "".
func (r row) check(f *goFile, imported string) string {
	if imported == "C" {
		return ""
	}
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	switch {
	case isOurs && listed(never[f.dir], ours):
		return "never, by the plan of the house"
	case isOurs && isFake(ours) && !mayUseFakes(f):
		return "what exists for tests is imported by tests, the demo and test/ only"
	case isOurs && !f.test && !contains(r.ours, ours):
		return "not in the import table"
	case isOurs, isStandard(imported):
		return ""
	}
	if file := restricted(imported); file != "" && !strings.HasPrefix(f.name, file) && !(f.test && listed(testLibraries, imported)) {
		return "only " + file + " may know it"
	}
	if listed(r.third, imported) || (f.test || isFake(f.dir)) && listed(testLibraries, imported) {
		return ""
	}
	return "not in the import table"
}

// isStandard tells whether a path is of the standard library: its first element has no dot.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// isFake tells whether a package exists for tests.
func isFake(dir string) bool {
	return strings.HasSuffix(dir, "test") && dir != "test" || dir == "internal/testca" ||
		strings.HasPrefix(dir+"/", "internal/simcard/")
}

func mayUseFakes(f *goFile) bool {
	return f.test || isFake(f.dir) || f.dir == "test" || strings.HasPrefix(f.dir, "test/") || f.dir == "cmd/pcscd-sim"
}

// restricted returns the file, or the directory with its slash, that alone may import a package; "" is no limit.
func restricted(imported string) string {
	longest, file := "", ""
	for prefix, name := range onlyIn {
		if listed(prefix, imported) && len(prefix) > len(longest) {
			longest, file = prefix, name
		}
	}
	return file
}

func TestCgoIsBehindItsOwnFiles(t *testing.T) {
	for _, f := range goFiles(t) {
		if !slices.Contains(f.imports(), "C") {
			continue
		}
		if f.test {
			t.Errorf("%s: a test imports C", f.name)
		}
		if !strings.HasSuffix(f.name, "_c.go") {
			t.Errorf("%s imports C and is not named _c.go", f.name)
		}
		if !strings.Contains(buildLine(f), "cgo") {
			t.Errorf("%s imports C without the line //go:build cgo", f.name)
		}
	}
}

// buildLine returns the file's //go:build line.
func buildLine(f *goFile) string {
	for _, group := range f.ast.Comments {
		if group.Pos() > f.ast.Package {
			break
		}
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:build ") {
				return c.Text
			}
		}
	}
	return ""
}

// TestTheTableRefuses keeps the checks honest: each of these imports is an error.
func TestTheTableRefuses(t *testing.T) {
	tests := map[string]struct{ file, imported string }{
		"a reader's package in login":           {"login/x.go", module + "/pcsc"},
		"a reader's package in a test of login": {"login/x_test.go", module + "/ccid"},
		"a library for cards in login":          {"login/x.go", module + "/pkcs11"},
		"a fake outside of tests":               {"login/x.go", module + "/pkcs11/pkcs11test"},
		"a package not in the row":              {"config/x.go", module + "/mapper"},
		"the PKCS#11 library elsewhere":         {"pkcs11/slot.go", "github.com/miekg/pkcs11"},
		"the serial library elsewhere in ccid":  {"ccid/device.go", "go.bug.st/serial"},
		"LDAP in a mapper":                      {"mapper/ldap.go", "github.com/go-ldap/ldap/v3"},
		"a module nobody knows":                 {"config/x.go", "example.org/x"},
		"a module nobody knows, in a test":      {"config/x_test.go", "example.org/x"},
		"libpam in a test of another room":      {"login/x.go", "github.com/msteinert/pam/v2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, _, _ := strings.Cut(tt.file, "/")
			f := &goFile{name: tt.file, dir: dir, test: strings.HasSuffix(tt.file, "_test.go")}
			if rows[dir].check(f, tt.imported) == "" {
				t.Errorf("%s may import %s", tt.file, tt.imported)
			}
		})
	}
}

// TestMappersLookNothingUp: the settings of mappers come as typed values (config/mappers), which the compiler checks;
// names of keys stand in config alone.
func TestMappersLookNothingUp(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.dir != "mapper" && !strings.HasPrefix(f.dir, "mapper/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if inner, ok := s.X.(*ast.SelectorExpr); ok && inner.Sel.Name == "Values" {
				t.Errorf("%s: looks a key of the configuration up by its name", f.name)
			}
			return true
		})
	}
}
