package main

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
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
		Setup: func(env *testscript.Env) error {
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
