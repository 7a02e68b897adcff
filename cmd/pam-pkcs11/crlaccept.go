package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/verify"
)

func newCRLAccept(flags *crlFlags) *cobra.Command {
	yes := false
	command := &cobra.Command{
		Use:   "accept ISSUER-OR-FILE",
		Short: "Take a list that is refused because a newer one was seen before",
		Long: "accept is for a CA that was restored and counts its lists anew. It shows the list that was seen before and the one\n" +
			"that is refused, and takes the latter after confirmation. ISSUER is the CA's name as crl list prints it; its lists\n" +
			"are looked for in crl_dir, in the store and at the addresses that crl update asks. It ends with 1 when no list is\n" +
			"refused so, or when nothing was confirmed.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &cli.Error{Code: cli.Usage, Err: errors.New("expected one issuer or file (see " + cmd.CommandPath() + " --help)")}
			}
			return acceptCRLs(cmd, flags, args[0], yes)
		},
	}

	command.Flags().BoolVar(&yes, "yes", false, "take the list without a question")
	command.Flags().DurationVar(&flags.timeout, "timeout", flags.timeout, "end after this time")
	return command
}

func acceptCRLs(cmd *cobra.Command, flags *crlFlags, what string, yes bool) error {
	verifiers, err := flags.verifiers(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
	defer cancel()

	var v *verify.Verifier
	var refused []verify.CRLRestart
	for _, v = range verifiers {
		var some error
		if refused, some = v.RefusedCRLs(ctx, what); len(refused) > 0 {
			break
		}
		err = errors.Join(err, some)
	}
	if len(refused) == 0 {
		return errors.Join(fmt.Errorf("no list of %q is refused because a newer one was seen before", what), err)
	}

	o := outputOf(cmd)
	answers := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<10))
	accepted := []crlAnswer{}
	for _, r := range refused {
		out := o.out
		if o.json {
			out = cmd.ErrOrStderr() // for who is asked
		}
		if _, err := fmt.Fprint(out, restartText(r)); err != nil {
			return err
		}
		if !yes && !confirmed(cmd, answers) {
			return errors.New("nothing is changed: not confirmed (--yes confirms)")
		}
		err := v.AcceptCRL(ctx, r)
		if errors.Is(err, os.ErrPermission) {
			return &cli.Error{Code: cli.NoPerm, Err: err}
		}
		if err != nil {
			return err
		}
		accepted = append(accepted, crlAnswerOf(r.List))
	}
	if o.json {
		return o.encode(accepted)
	}
	return nil
}

// restartText shows both lists.
func restartText(r verify.CRLRestart) string {
	seen := "of " + stamp(r.SeenThisUpdate)
	if r.SeenNumber != "" {
		seen = "number " + r.SeenNumber + ", " + seen
	}
	return fmt.Sprintf("seen before: %q %s (%s)\nrefused:     %s\n", r.List.Issuer, seen, r.Note, reportLine(r.List))
}

// confirmed asks whether to take a list.
func confirmed(cmd *cobra.Command, answers *bufio.Reader) bool {
	fmt.Fprint(cmd.ErrOrStderr(), "Who plays back an old list undoes revocations. Does the CA count anew? Take its list? [y/N] ")
	line, _ := answers.ReadString('\n') // the end of the input is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
