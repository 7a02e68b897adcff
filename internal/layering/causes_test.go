package layering

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// causesNumber is how many causes of refusals there are.
const causesNumber = 56

// TestCausesNameTests: doc/causes.md has a row for each cause, each test that it names is there, and
// those of doctor look for each id that doctor says. What explain says is held by its own test.
func TestCausesNameTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "doc", "causes.md"))
	if err != nil {
		t.Fatal(err)
	}
	words := wordsOfTests(t)
	testName := regexp.MustCompile("`([a-z0-9/-]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	id := regexp.MustCompile("`([a-z][a-z0-9-]+)`")

	row := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 9 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		if row++; n != row {
			t.Errorf("row %d has the number %d", row, n)
		}

		named := testName.FindAllStringSubmatch(cells[7], -1)
		if len(named) == 0 {
			t.Errorf("%d: no test", n)
		}
		looked := map[string]bool{}
		for _, one := range named {
			if words[one[1]] == nil {
				t.Errorf("%d: the test %s is not there", n, one[1])
			}
			maps.Copy(looked, words[one[1]])
		}
		for _, one := range id.FindAllStringSubmatch(cells[3], -1) {
			if !looked[one[1]] {
				t.Errorf("%d: none of its tests looks for %s", n, one[1])
			}
		}
	}
	if row != causesNumber {
		t.Errorf("%d rows, not %d", row, causesNumber)
	}
}

// wordsOfTests are the strings in the code of each test, by its folder.Name.
func wordsOfTests(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	for _, f := range goFiles(t) {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok && d.Recv == nil {
				all[f.dir+"."+d.Name.Name] = stringsIn(d)
			}
		}
	}
	return all
}

// stringsIn are the strings in the code of a function.
func stringsIn(d *ast.FuncDecl) map[string]bool {
	words := map[string]bool{}
	ast.Inspect(d, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if word, err := strconv.Unquote(lit.Value); err == nil {
				words[word] = true
			}
		}
		return true
	})
	return words
}
