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
	return &cli.Error{
		Code: cli.Usage,
		Err: errors.New("unknown argument \"" + args[0] + "\" (see " + cmd.CommandPath() +
			" --help)"),
	}
}

// twoIsRefusal lets a command whose exit code 2 says that a login is refused tell wrong flags and
// arguments by another one.
func twoIsRefusal(command *cobra.Command) *cobra.Command {
	otherCode := func(err error) error {
		var e *cli.Error
		// A command that chose another code keeps it: only wrong usage shares the 2.
		if err == nil || errors.As(err, &e) && e.Code != cli.Usage {
			return err
		}
		return &cli.Error{Code: cli.UsageBeside2, Err: err}
	}

	if arguments := command.Args; arguments != nil {
		command.Args = func(cmd *cobra.Command, args []string) error {
			return otherCode(arguments(cmd, args))
		}
	}
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return otherCode(err) })
	return command
}

// atMostOne allows one argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return noArguments(cmd, args[1:])
}
