package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"pam_pkcs11/internal/probe"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/setup"
)

func TestMain(m *testing.M) {
	if code, ok := probe.Main(os.Args); ok {
		os.Exit(code)
	}
	if code, ok := setup.Child(os.Args); ok {
		os.Exit(code)
	}
	commands := map[string]func(){}
	for _, name := range append(slices.Collect(maps.Keys(oldNames)), program) {
		commands[name] = func() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	}
	testscript.Main(m, commands)
}

// TestScripts runs the conversations of testdata/script. Configuration files must not lie below a directory that
// others may write to, which the system's temporary directory only allows because it is sticky.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                scriptCommands,
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"good.conf", "old.conf"} {
				if err := fillIn(filepath.Join(env.WorkDir, name)); err != nil {
					return err
				}
			}
			return os.Chmod(env.WorkDir, 0o755)
		},
	})
}

func TestOldNamesLeadToSubcommands(t *testing.T) {
	for name, command := range oldNames {
		found, _, err := newRoot().Find(command)
		if err != nil || found.CommandPath() == program {
			t.Errorf("%s: no subcommand %q: %v", name, command, err)
		}
	}
}

// fillIn writes the path of a PKCS#11 library into a file of a script, where there is such a file.
func fillIn(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	path, missing := pkcs11test.Library()
	if err := errors.Join(err, missing); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.ReplaceAll(string(data), "${LIBRARY}", path)), 0o644)
}

// library is a PKCS#11 library that is there.
func library(t *testing.T) string {
	t.Helper()
	path, err := pkcs11test.Library()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
