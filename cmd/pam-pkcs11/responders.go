package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/verify"
)

// checkResponders prints what can be told about OCSP before a login: CA certificates without a responder and, when
// asked to go online, responders that do not answer; with one of these the answer is no.
func checkResponders(cmd *cobra.Command, v *verify.Verifier, conf *config.Config, file string, online bool) error {
	if !conf.Module.Policy.OCSP {
		return nil
	}
	out := cmd.OutOrStdout()
	if v == nil {
		_, err := fmt.Fprintf(out, "%s: OCSP responders were not looked at [ocsp]\n", file)
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
