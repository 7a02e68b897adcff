// Package foreign builds programs of another module against this one.
package foreign

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestForeignModule: a module of somebody else's needs one replace line to use pcsc and ccid. The programs are the
// doc/go.md's and testdata's.
func TestForeignModule(t *testing.T) {
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(top, "doc/go.md"))
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)# Use it from your Go program\n.*?```go\n(.*?)```\n").FindSubmatch(page)
	if program == nil {
		t.Fatal("doc/go.md has no program")
	}
	daemon, err := os.ReadFile("testdata/daemon.go")
	if err != nil {
		t.Fatal(err)
	}

	for name, source := range map[string][]byte{"the page's": program[1], "the daemon": daemon} {
		t.Run(name, func(t *testing.T) { build(t, top, source) })
	}
}

// build compiles a program in a module of its own, with the modules that are on this machine.
func build(t *testing.T, top string, source []byte) {
	directory := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(top, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"main.go": source, "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"mod", "init", "example.org/foreign"},
		{"mod", "edit", "-require=pam_pkcs11@v0.0.0", "-replace=pam_pkcs11=" + top},
		{"build", "-o", "program", "."},
		{"vet", "."},
	} {
		command := exec.Command("go", args...)
		command.Dir = directory
		command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(directory, "program")); err != nil {
		t.Error(err)
	}
}
