package layering

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributingPointsAtWhatIsThere: the files and folders that CONTRIBUTING.md and doc/architecture.md name exist.
func TestContributingPointsAtWhatIsThere(t *testing.T) {
	named := regexp.MustCompile("`([a-z][a-z0-9_-]*(?:/[A-Za-z0-9_*.-]+)+/?)`")
	for _, document := range []string{"CONTRIBUTING.md", "doc/architecture.md"} {
		for _, m := range named.FindAllStringSubmatch(string(read(t, document)), -1) {
			pattern := strings.NewReplacer("/...", "", "XX", "it").Replace(m[1])
			found, err := filepath.Glob(filepath.Join(top, pattern))
			if err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", document, m[1])
			}
		}
	}
}

// TestEveryTestFolderIsOnTheMap: CONTRIBUTING.md has each folder below test/.
func TestEveryTestFolderIsOnTheMap(t *testing.T) {
	text := string(read(t, "CONTRIBUTING.md"))
	entries, err := os.ReadDir(filepath.Join(top, "test"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !strings.Contains(text, "`"+entry.Name()+"`") {
			t.Errorf("CONTRIBUTING.md does not say what test/%s asks", entry.Name())
		}
	}
}
