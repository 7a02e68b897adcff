// Command pam-pkcs11 looks at a machine's smart-card login from the outside: it checks the configuration and tells
// what the PAM module would do with it. Its manners are those of internal/cli.
package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/setup"
	"pam_pkcs11/setup/revert"
)

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// oldNames are the tools of pam_pkcs11 that this program also answers to when it is called by their names, each
// with the subcommand that does its work.
var oldNames = map[string][]string{
	"pklogin_finder":        {"pklogin_finder"},
	"pkcs11_inspect":        {"pkcs11_inspect"},
	"pkcs11_listcerts":      {"pkcs11_listcerts"},
	"pkcs11_make_hash_link": {"pkcs11_make_hash_link"},
	"pkcs11_setup":          {"pkcs11_setup"},
}

// run is the program: args as in os.Args, the answer is the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if code, ok := probe.Main(args); ok {
		return code // the child in which libraries and cards are looked at
	}
	if code, ok := setup.Child(args); ok {
		return code // those of the rehearsal
	}
	if code, ok := revert.Child(args); ok {
		return code // which takes back a setup that nobody has confirmed
	}

	name, rest := program, []string(nil)
	if len(args) > 0 {
		name, rest = filepath.Base(args[0]), args[1:]
	}
	if command, ok := oldNames[name]; ok {
		rest = append(append([]string(nil), command...), rest...)
	}

	root := newRoot()
	root.SetArgs(rest)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return cli.Exit(stderr, program, root.Execute())
}

// newRoot makes the command and its subcommands. Wrong flags and arguments are told as usage errors.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           program,
		Short:         "Smart-card login: check the configuration and see what the PAM module sees",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          onlySubcommands,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &cli.Error{Code: cli.Usage, Err: err}
	})

	root.AddCommand(
		newATR(), newCompletion(), newConfig(), newCRL(), newDoctor(), newExplain(), newList(), newLog(), newMap(), newPIN(),
		newReport(), newSetup(), newUndo(), newVersion(),
	)
	root.AddCommand( // under their old names
		newLoginFinder(), newInspect(), newListCerts(), newHashLinks(),
		newOldSetup(oldFiles{module: config.DefaultFile, event: eventFile}),
	)
	root.SetHelpCommand(newHelp())
	root.CompletionOptions.DisableDefaultCmd = true
	root.InitDefaultHelpCmd()
	translateHelp(root, userCatalogue())
	return root
}
