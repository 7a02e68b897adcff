package layering

import (
	"strings"
	"testing"
)

// TestEveryDependencyIsExplained: each module that go.mod requires itself has a line in doc/development.md.
func TestEveryDependencyIsExplained(t *testing.T) {
	explained := string(read(t, "doc/development.md"))
	used := make(map[string]bool)
	for _, f := range goFiles(t) {
		for _, imported := range f.imports() {
			used[imported] = true
		}
	}
	for line := range strings.Lines(string(read(t, "go.mod"))) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) < 2 || !strings.Contains(fields[0], ".") || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		if imports(used, fields[0]) && !strings.Contains(explained, fields[0]) {
			t.Errorf("doc/development.md does not say what %s is for", fields[0])
		}
	}
}

// imports tells whether a package of a module is imported anywhere.
func imports(used map[string]bool, module string) bool {
	for imported := range used {
		if listed(module, imported) {
			return true
		}
	}
	return false
}
