// Package fresh holds what proves that a new machine needs nothing but Go and make.
package fresh

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bin makes a directory of programs: each is a script of one line, or, with "", the machine's own.
func bin(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "bash", "sed", "sort", "head", "id", "env"} {
		programs[name] = ""
	}
	for name, script := range programs {
		var err error
		if script != "" {
			err = os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755)
		} else if path, lookErr := exec.LookPath(name); lookErr == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goEnv is a script that answers "go env" like a Go of that version with that compiler.
func goEnv(version, cc, cgo string) string {
	return `case "$2" in GOVERSION) echo ` + version + ` ;; CC) echo ` + cc + ` ;; CGO_ENABLED) echo ` + cgo + ` ;; esac`
}

func TestToolchain(t *testing.T) {
	tests := map[string]struct {
		programs map[string]string
		check    string
		says     string // "" is: all is well
	}{
		"no Go":                 {map[string]string{}, "go", "Go is not installed. Go 1.26.0 or newer is needed"},
		"Go of Debian 12":       {map[string]string{"go": goEnv("go1.19.8", "gcc", "1")}, "go", "Go 1.19.8 is installed; Go 1.26.0 or newer is needed"},
		"one release too old":   {map[string]string{"go": goEnv("go1.25.9", "gcc", "1")}, "go", "Go 1.25.9 is installed"},
		"a Go that is broken":   {map[string]string{"go": "exit 1"}, "go", "Go of an unknown version"},
		"the lowest Go":         {map[string]string{"go": goEnv("go1.26.0", "gcc", "1")}, "go", ""},
		"a newer Go":            {map[string]string{"go": goEnv("go1.30.1", "gcc", "1")}, "go", ""},
		"a Go with experiments": {map[string]string{"go": goEnv("'go1.26.8 X:nodwarf5'", "gcc", "1")}, "go", ""},
		"no C compiler":         {map[string]string{"go": goEnv("go1.26.0", "gcc", "0")}, "cc", "No C compiler (gcc)"},
		"cgo switched off":      {map[string]string{"go": goEnv("go1.26.0", "gcc", "0"), "gcc": "true"}, "cc", "cgo is switched off"},
		"a C compiler":          {map[string]string{"go": goEnv("go1.26.0", "'gcc -m64'", "1"), "gcc": "true"}, "cc", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			script, err := filepath.Abs("../../.ci/toolchain")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(script, tt.check)
			cmd.Dir = "../.."
			cmd.Env = []string{"PATH=" + bin(t, tt.programs)}
			out, err := cmd.CombinedOutput()
			if (err == nil) != (tt.says == "") || !strings.Contains(string(out), tt.says) {
				t.Errorf("%v, said %q, want %q", err, out, tt.says)
			}
		})
	}
}

// TestDepsOnlyNamesPackagesElsewhere: where dpkg is not, nothing is changed.
func TestDepsOnlyNamesPackagesElsewhere(t *testing.T) {
	script, err := filepath.Abs("../../.ci/deps")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "gcc", "softhsm2")
	cmd.Env = []string{"PATH=" + bin(t, map[string]string{})}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "  softhsm2\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDepsAsksForNothingThatIsThere: no apt-get is run when every package is installed.
func TestDepsAsksForNothingThatIsThere(t *testing.T) {
	script, err := filepath.Abs("../../.ci/deps")
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"dpkg-query": "printf 'ii '", "apt-get": "echo apt-get was run; exit 1"}
	cmd := exec.Command(script, "gcc", "softhsm2")
	cmd.Env = []string{"PATH=" + bin(t, programs)}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
