package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
)

// pklogin_finder and pkcs11_inspect take the arguments of the PAM module, and besides these names
// of files with certificates. Their exit codes are those of pam_pkcs11 0.6.

// newLoginFinder is the old command pklogin_finder.
func newLoginFinder() *cobra.Command {
	return &cobra.Command{
		Use:    "pklogin_finder [ARGUMENT...] [CERT...]",
		Short:  "Print the login that a certificate on the card belongs to",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			// The old tool's exit codes: for the PIN, for a list that cannot be read, and for all
			// else.
			return exit(findLogin(cmd, args), 1, 3, 1)
		},
	}
}

// newInspect is the old command pkcs11_inspect.
func newInspect() *cobra.Command {
	return &cobra.Command{
		Use:    "pkcs11_inspect [ARGUMENT...] [CERT...]",
		Short:  "Print what each mapper reads from the certificates on the card",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return exit(inspect(cmd, args), 2, 3, 1)
		},
	}
}

// oldTool is what both need: the configuration that the arguments name, and the certificates.
func oldTool(cmd *cobra.Command, args []string) (*config.Config, *checkers, []source, error) {
	arguments, files := sortArguments(args)
	conf, err := login.LoadOptions(arguments)
	if err != nil {
		return nil, nil, nil, err
	}

	checkers, err := newCheckers(cmd, conf)
	if err != nil {
		return nil, nil, nil, err
	}

	certs, err := gather(cmd, conf, files)
	return conf, checkers, usable(cmd, certs), err
}

// sortArguments tells names of files from arguments of the module: what is no argument and is there
// as a file.
func sortArguments(args []string) (arguments, files []string) {
	for _, a := range args {
		// A file may be named like an argument: then it is the argument.
		if _, _, err := config.ParseArguments([]string{a}); err != nil {
			if _, err := os.Stat(a); err == nil {
				files = append(files, a)
				continue
			}
		}
		arguments = append(arguments, a)
	}
	return arguments, files
}

// findLogin prints the login of the first good certificate that is somebody's.
func findLogin(cmd *cobra.Command, args []string) error {
	conf, checkers, certs, err := oldTool(cmd, args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), conf.Global.VerifyTimeout)
	defer cancel()

	var why []error
	for _, c := range certs {
		checker, err := checkers.of(c)
		if err != nil {
			return err
		}

		checked, err := checker.Check(ctx, c.cert, certificatesOf(certs))
		if err != nil {
			why = append(why, err)
			continue
		}

		found, err := checker.Find(ctx, login.Checked(c.cert, checked))
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), found.User)
			return err
		}
		why = append(why, fmt.Errorf("%s: %w", c.cert.Subject.RFC4514(), err))
	}
	return oneLine(why)
}

// inspect prints, for each good certificate, what each mapper reads from it.
func inspect(cmd *cobra.Command, args []string) error {
	conf, checkers, certs, err := oldTool(cmd, args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), conf.Global.VerifyTimeout)
	defer cancel()

	var why []error
	good := 0
	for _, c := range certs {
		checker, err := checkers.of(c)
		if err != nil {
			return err
		}

		checked, err := checker.Check(ctx, c.cert, certificatesOf(certs))
		if err != nil {
			why = append(why, err)
			continue
		}
		good++

		explained, err := checker.Explain(ctx, login.Checked(c.cert, checked), "")
		if err != nil {
			return err
		}
		for _, e := range explained {
			// The old tool prints the whole certificate where the mapper compares whole
			// certificates.
			if e.Type == "opensc" && len(e.Read) > 0 {
				e.Read = []string{string(
					pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}))}
			}
			if len(e.Read) == 0 {
				continue
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Printing data for mapper %s:\n%s\n", e.Mapper,
				strings.Join(e.Read, "\n"))
		}
	}

	if good == 0 {
		return oneLine(why)
	}
	return nil
}

// oneLine says why there was no answer.
func oneLine(why []error) error {
	if len(why) == 0 {
		return errors.New("no certificate")
	}

	var lines []string
	for _, err := range why {
		lines = append(lines, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return &cli.Error{Code: cli.Failure, Err: errors.New(strings.Join(lines, "; "))}
}
