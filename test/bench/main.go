// Command bench compares a login through this module with one through Debian's libpam-pkcs11: the same SoftHSM token,
// the same configuration file and policy, whole processes in alternation. What counts is the median of the ratios of
// the rounds, since the machine is as busy for one as for the other within a round.
//
//	bench [-rounds N] DIRECTORY-OF-THE-MODULE
//
// It fails when this module takes longer than the other (the goals are printed), or makes more PKCS#11 calls than
// one login needs.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("rounds", 60, "rounds for each kind of key")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *rounds < 3 {
		fmt.Fprintln(stderr, "usage: bench [-rounds N] DIRECTORY-OF-THE-MODULE")
		return 2
	}
	good, err := compare(flags.Arg(0), *rounds, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if !good {
		return 1
	}
	return 0
}
