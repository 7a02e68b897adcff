package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/login"
	"pam_pkcs11/verify"
)

// checkAuthorities reads ca_dir as a login does, where cert_policy asks for it, and prints what the administrator should
// know of its files. It gives the verifier for further questions: nil when the file has errors, which are printed
// already, or when ca_dir cannot be read at all.
func checkAuthorities(cmd *cobra.Command, conf *config.Config, file string) (*verify.Verifier, error) {
	options, err := login.VerifyOptions(conf)
	if err != nil || !options.Policy.CA {
		return nil, err
	}
	options.StoreDir = "" // nothing is kept here

	out := cmd.OutOrStdout()
	v, err := verify.New(options)
	if err != nil {
		_, err = fmt.Fprintf(out, "%s: the certificates of authorities were not looked at: %v [ca_dir]\n", file, err)
		return nil, err
	}

	for _, p := range v.Problems() {
		if _, err := fmt.Fprintf(out, "%s: %s [ca_dir]\n", p.Path, p.Text); err != nil {
			return nil, err
		}
	}
	for _, f := range v.Findings() {
		note := config.Note{File: f.Path, Text: f.Text, Restore: f.Restore}
		if _, err := fmt.Fprintf(out, "%s [ca_dir]\n", note); err != nil {
			return nil, err
		}
	}
	return v, nil
}
