// Command bench compares a login through this module with one through Debian's libpam-pkcs11: the same SoftHSM token,
// the same configuration file and policy, whole processes in alternation. What counts is the median of the ratios of
// the rounds, since the machine is as busy for one as for the other within a round. The same without times, in page
// faults and processor time, is printed beside it, and all of it once more for OpenSC's library over a simulated reader.
//
//	bench [-rounds N] [-other MODULE] DIRECTORY-OF-THE-MODULE
//	bench -crl [-rounds N] [-largest N] DIRECTORY-OF-THE-MODULE
//	bench -card [-rounds N] DIRECTORY-OF-THE-MODULE
//
// With -other another module than Debian's is compared with: a second build of this one shows what a change is worth.
// With -crl it compares what a CRL costs, at 10 to 5,000,000 entries: beside the other module openssl verify, Go's own
// x509.ParseRevocationList, and a program that only computes the SHA-256 of the file. It also measures how far the verdict
// is from its deadline when no server answers in time.
//
// With -card it compares logins with a PIV card: the built-in card over our daemon, opensc-pkcs11 over our daemon, and the
// other module with opensc-pkcs11 over Debian's pcscd, on a card that answers at once and at the pace of real ones.
//
// It fails when this module takes longer than the other (the goals are printed), or makes more PKCS#11 calls than
// one login needs.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"pam_pkcs11/internal/fetch/fetchtest"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	crl := flags.Bool("crl", false, "compare what CRLs cost")
	card := flags.Bool("card", false, "compare logins with a PIV card")
	largest := flags.Int("largest", 5*million, "entries of the largest CRL")
	probe := flags.String("probe", "", "be one of the programs that are measured")
	other := flags.String("other", "", "the module to compare with")
	rounds := flags.Int("rounds", 60, "rounds for each kind of key")
	err := flags.Parse(args)
	if f := probes[*probe]; err == nil && f != nil {
		if err := f(flags.Args()); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		kib, err := fetchtest.PeakMemory()
		if err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		fmt.Fprintln(stdout, kib)
		return 0
	}
	if err != nil || flags.NArg() != 1 || *rounds < 3 {
		fmt.Fprintln(stderr, "usage: bench [-crl|-card] [-rounds N] [-other MODULE] DIRECTORY-OF-THE-MODULE")
		return 2
	}
	work := func(build string, rounds int, out io.Writer) (bool, error) {
		return compare(build, *other, rounds, out)
	}
	if *crl {
		work = func(build string, rounds int, out io.Writer) (bool, error) {
			return compareCRLs(build, min(rounds, 11), *largest, out)
		}
	}
	if *card {
		if os.Getenv(insideVariable) == "" {
			code, err := inside(args, stdout, stderr)
			if err != nil {
				fmt.Fprintln(stderr, "bench:", err)
				return 1
			}
			return code
		}
		work = compareCards
	}
	good, err := work(flags.Arg(0), *rounds, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if !good {
		return 1
	}
	return 0
}
