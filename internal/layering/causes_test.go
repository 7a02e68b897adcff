package layering

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// causesNumber is how many causes of refusals there are.
const causesNumber = 56

// TestCausesNameTests: doc/causes.md has a row for each cause, each test that it names is there, and each id is said by a
// tool.
func TestCausesNameTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "doc", "causes.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, said := testsAndWords(t)
	testName := regexp.MustCompile("`([a-z0-9/-]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	id := regexp.MustCompile("`([a-z][a-z0-9-]+)`")

	row := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		if row++; n != row {
			t.Errorf("row %d has the number %d", row, n)
		}

		ids := id.FindAllStringSubmatch(cells[4], -1)
		if len(ids) == 0 {
			t.Errorf("%d: no id", n)
		}
		for _, one := range ids {
			if !said[one[1]] {
				t.Errorf("%d: no tool says %s", n, one[1])
			}
		}
		named := testName.FindAllStringSubmatch(cells[6], -1)
		if len(named) == 0 && !strings.Contains(cells[6], "not produced without hardware") {
			t.Errorf("%d: neither a test, nor why there is none", n)
		}
		for _, one := range named {
			if !tests[one[1]] {
				t.Errorf("%d: the test %s is not there", n, one[1])
			}
		}
	}
	if row != causesNumber {
		t.Errorf("%d rows, not %d", row, causesNumber)
	}
}

// testsAndWords are the tests of the sources, as folder.Name, and the strings in the code of the tools that say causes.
func testsAndWords(t *testing.T) (tests, said map[string]bool) {
	t.Helper()
	tests, said = map[string]bool{}, map[string]bool{}
	for _, f := range goFiles(t) {
		for _, decl := range f.ast.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok && f.test && d.Recv == nil {
				tests[f.dir+"."+d.Name.Name] = true
			}
		}
		if f.test || !listed("doctor explain internal/causes cmd/pam-pkcs11", f.dir) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if word, err := strconv.Unquote(lit.Value); err == nil {
					said[word] = true
				}
			}
			return true
		})
	}
	return tests, said
}
