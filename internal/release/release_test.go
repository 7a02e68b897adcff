package release_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/internal/release"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOneVersion: CHANGELOG.md, the Debian package and the rpm have the version of the programs. A
// version in preparation stands in CHANGELOG.md under "Unreleased", a released one with its day.
func TestOneVersion(t *testing.T) {
	version, before, inPreparation := release.Version, "", false
	if version, before, inPreparation = strings.Cut(release.Version, "-"); inPreparation {
		before = "~" + before // sorts before the release, for dpkg and rpm
	}

	heading := regexp.MustCompile(`^## ` + regexp.QuoteMeta(version) + ` - \d{4}-\d\d-\d\d$`)
	if inPreparation {
		heading = regexp.MustCompile(`^## Unreleased$`)
	}
	for line := range strings.Lines(read(t, "CHANGELOG.md")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "## ") {
			continue
		}
		if !heading.MatchString(line) {
			t.Errorf("CHANGELOG.md begins with %q, which is not of %s", line, release.Version)
		}
		break
	}

	debian := "pam-pkcs11 (" + version + before + "-"
	if !strings.HasPrefix(read(t, "packaging/debian/changelog"), debian) {
		t.Errorf("Debian's changelog does not begin with %s", debian)
	}
	rpm := "%global upstream " + version + before + "\n"
	if !strings.Contains(read(t, "packaging/rpm/pam-pkcs11.spec"), rpm) {
		t.Errorf("the rpm spec has not the line %s", rpm)
	}
}
