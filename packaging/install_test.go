package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManualPagesAreInstalled: `make install` and `make install-pcscd` put every page of doc/ into its section, and
// what takes them away again names it too.
func TestManualPagesAreInstalled(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../doc/*.[1-8]")
	if err != nil || len(pages) < 4 {
		t.Fatalf("pages %v, %v", pages, err)
	}

	for _, page := range pages {
		name := filepath.Base(page)
		target := "$(DESTDIR)$(MANDIR)/man" + name[len(name)-1:] + "/" + name
		install, remove := false, false
		for line := range strings.Lines(string(makefile)) {
			named := strings.Contains(line, target)
			install = install || named && strings.Contains(line, "install -D -m 0644 doc/"+name+" ")
			remove = remove || named && !strings.Contains(line, "install ")
		}
		if !install || !remove {
			t.Errorf("%s: installed %v, removed %v", name, install, remove)
		}
	}
}
