package packaging

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCopyright: the licence of each module that is built in or tested with is in Debian's copyright file.
func TestCopyright(t *testing.T) {
	copyright := read(t, "debian/copyright")
	modules := regexp.MustCompile(`(?m)^\t(\S+\.\S+/?\S*) v\S+`).FindAllStringSubmatch(read(t, "../go.mod"), -1)
	if len(modules) < 15 {
		t.Fatalf("%d modules in go.mod", len(modules))
	}
	for _, m := range modules {
		if !strings.Contains(copyright, "Files: vendor/"+m[1]+"/*\n") &&
			!(strings.HasPrefix(m[1], "golang.org/x/") && strings.Contains(copyright, "Files: vendor/golang.org/x/*\n")) {
			t.Errorf("the licence of %s is missing", m[1])
		}
	}
}

// TestBundledModules: the rpm names the modules that are in its programs, and their versions.
func TestBundledModules(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}",
		"../cmd/pam-pkcs11", "../cmd/pcscd", "../pam")
	list.Env = append(os.Environ(), "CGO_ENABLED=1") // as the package is built
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " v")
		if version != "" {
			want = append(want, "Provides:       bundled(golang("+path+")) = "+version)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)

	var have []string
	for line := range strings.Lines(read(t, "rpm/pam-pkcs11.spec")) {
		if strings.Contains(line, "bundled(golang(") {
			have = append(have, strings.TrimSpace(line))
		}
	}
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("the spec has\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}
