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

// TestUnitsAreInstalled: each unit is put into its place by a target, and taken away by another.
func TestUnitsAreInstalled(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob("systemd/*.*")
	if err != nil || len(units) < 7 {
		t.Fatalf("units %v, %v", units, err)
	}
	for _, unit := range units {
		target := "lib/systemd/system/" + filepath.Base(unit)
		if strings.HasSuffix(unit, ".sysusers") {
			target = "lib/sysusers.d/pcscd.conf"
		}
		if n := strings.Count(string(makefile), target); n < 2 {
			t.Errorf("%s: %s is named %d times in the Makefile", unit, target, n)
		}
	}
}
