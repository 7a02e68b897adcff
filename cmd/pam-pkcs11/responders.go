package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
	"pam_pkcs11/verify"
)

// checkResponders prints what can be told about OCSP before a login: CA certificates without a responder and, when
// asked to go online, responders that do not answer; with one of these the answer is no.
func checkResponders(cmd *cobra.Command, file string, online bool) error {
	conf, err := config.Load(&config.Arguments{ConfigFile: file})
	if err != nil || !conf.Module.Policy.OCSP {
		return nil // its errors are printed already
	}
	var v *verify.Verifier
	options, err := login.VerifyOptions(conf)
	if err == nil {
		options.StoreDir = "" // nothing is kept here
		v, err = verify.New(options)
	}
	out := cmd.OutOrStdout()
	if err != nil {
		_, err := fmt.Fprintf(out, "%s: OCSP responders were not looked at: %v [ocsp]\n", file, err)
		return err
	}
	for _, c := range v.WithoutResponder() {
		if _, err := fmt.Fprintf(out, "%s: CA certificate %q names no OCSP responder: set ocsp_url, or a CRL word beside ocsp_on [ocsp]\n", conf.Module.CADir, c.Subject.RFC4514()); err != nil {
			return err
		}
	}
	if !online {
		return nil
	}
	return askResponders(cmd, v, conf)
}

func askResponders(cmd *cobra.Command, v *verify.Verifier, conf *config.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), conf.Global.VerifyTimeout)
	defer cancel()
	asked, silent := v.AskResponders(ctx), false
	out := cmd.OutOrStdout()
	for _, r := range asked {
		said := "answers"
		if r.Err != nil {
			silent, said = true, "gives no answer that can be believed: "+r.Err.Error()
		}
		if _, err := fmt.Fprintf(out, "%s: OCSP responder asked about %q %s [ocsp]\n", r.URL, r.Cert.Subject.RFC4514(), said); err != nil {
			return err
		}
	}
	if len(asked) == 0 {
		_, err := fmt.Fprintf(out, "%s: no OCSP responder is known before a card is there [ocsp]\n", conf.Module.CADir)
		return err
	}
	if silent {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}
