package main

import (
	"errors"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/cli"
)

// What the commands of this program share.

// program is the name in front of each message.
const program = "pam-pkcs11"

// onlySubcommands is run when a subcommand is missing: it says which there are.
func onlySubcommands(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	_ = cmd.Help()
	return &cli.Error{Code: cli.Usage}
}

// noArguments refuses arguments as a usage error; an unknown subcommand is one.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &cli.Error{Code: cli.Usage, Err: errors.New("unknown argument \"" + args[0] + "\" (see " + cmd.CommandPath() + " --help)")}
}

// atMostOne allows one argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return noArguments(cmd, args[1:])
}
