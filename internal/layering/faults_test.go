package layering

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestFaultsNameTests: each test that doc/faults.md names is there, in that folder.
func TestFaultsNameTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "doc", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}

	there := make(map[string]bool)
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok && d.Recv == nil {
				there[f.dir+"."+d.Name.Name] = true
			}
		}
	}
	named := regexp.MustCompile("`([a-z0-9/-]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllSubmatch(text, -1)
	if len(named) < 100 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !there[string(name[1])] {
			t.Errorf("doc/faults.md names %s, which is not there", name[1])
		}
	}
}
