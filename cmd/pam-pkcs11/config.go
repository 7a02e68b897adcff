package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
)

func newConfig() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Work on the configuration file",
		Args:  noArguments,
		RunE:  onlySubcommands,
	}

	var online, old bool
	var words []string
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
			"versions for any file. With --online it asks the OCSP responders too, and ends with 1 when one does not answer.\n" +
			"With --argument it reads the file as a line of /etc/pam.d with these arguments would, and the arguments too.",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments, _, err := config.ParseArguments(words)
			if err != nil {
				return &cli.Error{Code: cli.Config, Err: err}
			}
			if len(args) == 1 {
				arguments.ConfigFile = args[0]
			}
			i := &inspection{file: arguments.ConfigFile, arguments: arguments, online: online, old: old}
			return checkConfig(cmd.OutOrStdout(), i)
		},
	}
	check.Flags().StringArrayVar(&words, "argument", nil, "an argument of the module, as in a line of /etc/pam.d; may be repeated")
	check.Flags().BoolVar(&online, "online", false, "ask the OCSP responders that are configured or named in ca_dir")
	check.Flags().BoolVar(&old, "old", false, "also compare with pam_pkcs11 0.6.12 and 0.6.13, and tell what changed for any file")
	command.AddCommand(check)
	return command
}

// fileChecks look at what a file without errors points to, in this order, for each block in use. Each adds its
// findings; an error is a fault of the program itself.
var fileChecks = []func(*inspection) error{
	checkLibrary,
	checkDaemon,
	checkTokenURI,
	checkAuthorities,
	checkLists,
	checkMappers,
	checkMapfileLines,
	checkResponders,
}

// checkBlocks goes through the checks for each block in use.
func (i *inspection) checkBlocks() error {
	whole := i.conf
	for n := range whole.Modules {
		i.conf, i.later, i.verifier = whole.Block(n), n > 0, nil
		for _, check := range fileChecks {
			if err := check(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkConfig prints all findings, the heaviest first.
func checkConfig(out io.Writer, i *inspection) error {
	report, err := config.Check(i.file)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	i.addReport(report)

	// What Load refuses beside the errors of the report are the permissions of the file, with strict_permissions.
	i.conf, err = config.Load(i.arguments)
	switch {
	case err != nil && len(report.Errors) == 0:
		i.refuses(err)
	case err == nil:
		if err := i.checkBlocks(); err != nil {
			return err
		}
	}

	if err := i.write(out); err != nil {
		return err
	}
	switch {
	case i.has(refusesEvery):
		return &cli.Error{Code: cli.Config}
	case i.silent:
		return &cli.Error{Code: cli.Failure}
	case i.has(refusesYet):
		return nil // not a fault of the file, and not fine
	}
	_, err = fmt.Fprintf(out, "fine: %s: nothing that was looked at refuses every login\n", i.file)
	return err
}

// addReport takes what is told of the text of the file.
func (i *inspection) addReport(report *config.CheckReport) {
	for _, e := range report.Errors {
		i.refuses(e)
	}
	for _, n := range report.Notes {
		weight := noteWeights[n.Kind]
		if weight == isOld && !i.old {
			continue
		}
		i.add(weight, n.Kind.String(), n.String())
	}
}

// placed is an error with the name of the file in front.
func (i *inspection) placed(err error) string {
	var e *config.Error
	if errors.As(err, &e) {
		return err.Error()
	}
	return i.file + ": " + err.Error()
}
