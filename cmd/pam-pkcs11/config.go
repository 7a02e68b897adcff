package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/confcheck"
)

func newConfig() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Work on the configuration file",
		Args:  noArguments,
		RunE:  onlySubcommands,
	}

	var online, old bool
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Print errors of the configuration and of the files that it names",
		Long: "check reads a configuration file as the PAM module would, by default " + config.DefaultFile + ", and opens what it\n" +
			"points to: PKCS#11 libraries, ca_dir, crl_dir, mapfiles, certificates and passwords. Run it as root, who sees\n" +
			"what a login sees.\n\n" +
			"It prints one line for each finding, with its kind in brackets: first what refuses every login [error], then\n" +
			"what refuses some, what is a risk, what means something else than to earlier versions, and what has no effect.\n" +
			"It ends with 78 where every login would be refused, and otherwise with 0 and a line that begins with \"fine:\".\n" +
			"With --old it also tells what the file means otherwise than to pam_pkcs11 0.6, and what changed since earlier\n" +
			"versions for any file. With --online it asks the OCSP responders too, and ends with 1 when one does not answer.",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			file := config.DefaultFile
			if len(args) == 1 {
				file = args[0]
			}
			return checkConfig(cmd.OutOrStdout(), confcheck.Options{File: file, Online: online, Old: old})
		},
	}
	check.Flags().BoolVar(&online, "online", false, "ask the OCSP responders that are configured or named in ca_dir")
	check.Flags().BoolVar(&old, "old", false, "also compare with pam_pkcs11 0.6.12 and 0.6.13, and tell what changed for any file")
	command.AddCommand(check)
	return command
}

// checkConfig prints all findings, the heaviest first.
func checkConfig(out io.Writer, o confcheck.Options) error {
	r, err := confcheck.Look(o)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(out, "%s [%s]\n", f.Text, f.Kind); err != nil {
			return err
		}
	}

	switch {
	case r.Has(confcheck.RefusesEvery):
		return &cli.Error{Code: cli.Config}
	case r.Silent:
		return &cli.Error{Code: cli.Failure}
	case r.Has(confcheck.RefusesYet):
		return nil // not a fault of the file, and not fine
	}
	_, err = fmt.Fprintf(out, "fine: %s: nothing that was looked at refuses every login\n", o.File)
	return err
}
