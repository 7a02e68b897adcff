package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/diagnosis"
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
			"points to: PKCS#11 libraries, ca_dir, crl_dir, mapfiles, certificates and passwords. It looks up the users and\n" +
			"groups of the lists that say who must, may or must not use a card, and tells for whom they close every way in\n" +
			"[lock-out]. Run it as root, who sees what a login sees.\n\n" +
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
			file := cmp.Or(arguments.ConfigFile, config.DefaultFile)
			if len(args) == 1 {
				file = args[0]
			}
			return checkConfig(outputOf(cmd), confcheck.Options{File: file, Arguments: arguments, Online: online, Old: old})
		},
	}
	check.Flags().StringArrayVar(&words, "argument", nil, "an argument of the module, as in a line of /etc/pam.d; may be repeated")
	check.Flags().BoolVar(&online, "online", false, "ask the OCSP responders that are configured or named in ca_dir")
	check.Flags().BoolVar(&old, "old", false, "also compare with pam_pkcs11 0.6.12 and 0.6.13, and tell what changed for any file")
	jsonFlag(check)
	command.AddCommand(check, newConfigConvert(), newConfigShow())
	return command
}

// checkAnswer is the JSON of config check.
type checkAnswer struct {
	File     string         `json:"file"`
	Fine     bool           `json:"fine"`     // nothing that was looked at refuses every login
	Findings []checkFinding `json:"findings"` // the heaviest first
}

// checkFinding is one line.
type checkFinding struct {
	Severity diagnosis.Severity `json:"severity"` // "refusal" refuses every login
	Kind     string             `json:"kind"`     // the word in the brackets
	Text     string             `json:"text"`     // with file, line and column, where there are
}

// checkConfig prints all findings, the heaviest first, and a line that says where all is fine.
func checkConfig(out *output, o confcheck.Options) error {
	r, err := confcheck.Look(o)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	if err := writeCheck(out, o.File, r); err != nil {
		return err
	}

	switch {
	case r.Has(confcheck.RefusesEvery):
		return &cli.Error{Code: cli.Config}
	case r.Silent:
		return &cli.Error{Code: cli.Failure}
	}
	return nil // an empty directory of authorities is not a fault of the file, and not fine
}

// writeCheck writes the findings.
func writeCheck(o *output, file string, r *confcheck.Result) error {
	if o.json {
		answer := checkAnswer{File: file, Fine: r.Fine(), Findings: []checkFinding{}}
		for _, f := range r.Findings {
			answer.Findings = append(answer.Findings, checkFinding{f.Weight.Severity(), f.Kind, f.Text})
		}
		return o.encode(answer)
	}

	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(o.out, "%s [%s]\n", f.Text, f.Kind); err != nil {
			return err
		}
	}
	if !r.Fine() {
		return nil
	}
	_, err := fmt.Fprintf(o.out, "fine: %s: nothing that was looked at refuses every login\n", file)
	return err
}
