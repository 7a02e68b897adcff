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

// TestTheWorkerIsInstalledFirst: `make install` puts the worker's library and its launcher into their places before the
// module. A new launcher serves the module of an older release; an old launcher looks for the worker in the module
// itself, where a new one has none.
func TestTheWorkerIsInstalledFirst(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, target := range []string{
		"-m 0644 $(BUILD)/install/pam_pkcs11_worker.so $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker.so\n",
		"-m 0755 $(BUILD)/install/pam_pkcs11_worker $(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker\n",
		"-m 0644 $(BUILD)/install/pam_pkcs11.so $(DESTDIR)$(PAMDIR)/pam_pkcs11.so\n",
	} {
		at := strings.Index(string(makefile), "\tinstall -D "+target)
		if at <= last {
			t.Errorf("%q stands at %d, after %d is wanted", target, at, last)
		}
		last = at
	}

	_, uninstall, _ := strings.Cut(string(makefile), "\nuninstall:")
	for _, path := range []string{
		"$(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker.so\n",
		"$(DESTDIR)$(LIBEXECDIR)/pam_pkcs11_worker ",
		"$(DESTDIR)$(PAMDIR)/pam_pkcs11.so ",
	} {
		if !strings.Contains(uninstall, path) {
			t.Errorf("make uninstall leaves %s", path)
		}
	}
}
