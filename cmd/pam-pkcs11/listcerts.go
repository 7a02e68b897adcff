package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"github.com/spf13/cobra"
)

// newListCerts is the old command pkcs11_listcerts.
func newListCerts() *cobra.Command {
	return &cobra.Command{
		Use:    "pkcs11_listcerts [ARGUMENT...] [CERT...]",
		Short:  "Print the certificates on the card, and what is wrong with each",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			// The old tool's exit codes: for the PIN, for a list that cannot be read, and for all
			// else.
			return exit(listCerts(cmd, args), 4, 3, 1)
		},
	}
}

// listCerts prints each certificate with the result of its checks.
// listCerts prints each certificate with the verdict on it.
func listCerts(cmd *cobra.Command, args []string) error {
	conf, checkers, certs, err := oldTool(cmd, args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), conf.Global.VerifyTimeout)
	defer cancel()

	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Found %d certificate(s)\n", len(certs))
	for i, c := range certs {
		fmt.Fprintf(out, "Certificate #%d:\n", i+1)
		fmt.Fprintf(out, "Subject:   %s\n", shown(c.cert.Subject.RFC4514()))
		fmt.Fprintf(out, "Issuer:    %s\n", shown(c.cert.Issuer.RFC4514()))
		fmt.Fprintf(out, "Algorithm: %s\n", keyName(c.cert.PublicKey))

		checker, err := checkers.of(c)
		if err != nil {
			return err
		}
		// Refused certificates are listed too: the error is what is wanted of this tool.
		if _, err := checker.Check(ctx, c.cert, certificatesOf(certs)); err != nil {
			fmt.Fprintf(out, "Verify:    %s\n", shown(err.Error()))
		}
	}
	return nil
}

// keyName names the algorithm of a public key with its size.
func keyName(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}
