package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper"
	"pam_pkcs11/verify"
)

func newConfig() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Work on the configuration file",
		Args:  noArguments,
		RunE:  onlySubcommands,
	}
	var online bool
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Print errors, keys without effect and what the file means otherwise than to pam_pkcs11 0.6",
		Long: "check reads a configuration file as the PAM module would, by default " + config.DefaultFile + ".\n" +
			"It prints one line for each finding, with its kind in brackets, and ends with 78 when the file has errors:\n" +
			"every login would be refused. It names the files of ca_dir that are not used, and those whose certificates\n" +
			"mean something else than before. With ocsp_on it names the CA certificates that name no OCSP responder;\n" +
			"with --online it asks the responders too, and ends with 1 when one does not answer.",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			file := config.DefaultFile
			if len(args) == 1 {
				file = args[0]
			}
			if err := checkConfig(cmd, file); err != nil {
				return err
			}
			if err := checkMappers(cmd, file); err != nil {
				return err
			}
			conf, err := config.Load(&config.Arguments{ConfigFile: file})
			if err != nil {
				return nil // its errors are printed already
			}
			v, err := checkAuthorities(cmd, conf, file)
			if err != nil {
				return err
			}
			return checkResponders(cmd, v, conf, file, online)
		},
	}
	check.Flags().BoolVar(&online, "online", false, "ask the OCSP responders that are configured or named in ca_dir")
	command.AddCommand(check)
	return command
}

// checkMappers sets the mappers in use up, as a login does: rules, filters and addresses are read then.
func checkMappers(cmd *cobra.Command, file string) error {
	conf, err := config.Load(&config.Arguments{ConfigFile: file})
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	options := mapper.Options{PartialChain: conf.Module.Chain.Partial, Authorities: authoritiesOf(conf)}
	chain, err := mapper.New(conf.Mappers, options)
	if err == nil {
		for _, note := range chain.BoundByName() {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s [issuer]\n", file, note); err != nil {
				return err
			}
		}
		options.AllowUnknownUser = conf.Global.AllowUnknownUser
		options.StrictPermissions = conf.Global.StrictPermissions
		for _, fault := range mapper.CheckMapfiles(cmd.Context(), conf.Mappers, options) {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s [mapfile]\n", fault); err != nil {
				return err
			}
		}
		return nil
	}
	var placed *config.Error
	if errors.As(err, &placed) {
		err = placed
	} else {
		err = fmt.Errorf("%s: %w", file, err)
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s [error]\n", err); err != nil {
		return err
	}
	return &cli.Error{Code: cli.Config}
}

// authoritiesOf are the certificates of ca_dir; nil where no chain is asked for, or ca_dir cannot be read.
func authoritiesOf(conf *config.Config) []*certinfo.Certificate {
	if !conf.Module.Policy.CA {
		return nil
	}
	options, err := login.VerifyOptions(conf)
	if err != nil {
		return nil
	}
	options.StoreDir = "" // nothing is kept here
	options.Policy = verify.Policy{CA: true}
	v, err := verify.New(options)
	if err != nil {
		return nil
	}
	return v.Certificates()
}

// checkConfig prints what config.Check finds, in the order of the file.
func checkConfig(cmd *cobra.Command, file string) error {
	report, err := config.Check(file)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	out := cmd.OutOrStdout()
	for _, e := range report.Errors {
		if _, err := fmt.Fprintf(out, "%s [error]\n", e); err != nil {
			return err
		}
	}
	for _, n := range report.Notes {
		if _, err := fmt.Fprintf(out, "%s [%s]\n", n, n.Kind); err != nil {
			return err
		}
	}
	if !report.OK() {
		return &cli.Error{Code: cli.Config}
	}
	return nil
}
