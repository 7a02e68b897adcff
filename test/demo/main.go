// Command demo shows the whole way of a login, from libpam to the USB wire, with nothing between
// that is not of this repository: PIV cards in simulated USB readers, which our CCID driver drives,
// behind our PC/SC daemon on a private socket; and the PAM module with the built-in card, through
// the real libpam. alice logs in, and is refused in the ways that matter. The machine is not
// touched and nothing is left behind. It fails when any answer is not the one the story tells.
//
//	demo [--trace] [-began SECONDS] DIRECTORY
//
// DIRECTORY holds what was built. With --trace each command to the card, and its answer, is shown.
// -began is when the making of it began, in seconds since 1970: the time until now is told apart
// from that of the demo.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"pam_pkcs11/test/scene"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	trace := flags.Bool("trace", false, "show each command to the card")
	began := flags.Int64("began", 0, "when the making of it began, in seconds since 1970")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		fmt.Fprintln(stderr, "usage: demo [--trace] [-began SECONDS] DIRECTORY")
		return 2
	}
	if err := scene.InEnglish(); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}

	start := time.Now()
	if err := tell(flags.Arg(0), *trace, stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	if *began > 0 {
		fmt.Fprintf(stderr, "\ndemo: downloaded and compiled in %.0f s, played in %.1f s\n",
			start.Sub(time.Unix(*began, 0)).Seconds(), time.Since(start).Seconds())
	}
	return 0
}
