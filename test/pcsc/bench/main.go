// Command bench compares our PC/SC daemon with Debian's pcscd: the same client (c/scbench.c) over the libpcsclite that is
// installed, in alternation, with a reader whose card answers at once. What counts is the median of the ratios of the
// rounds, since the machine is as busy for one as for the other within a round. Root is needed for pcscd's namespace.
//
//	bench [-rounds N] [-only NAME] DIRECTORY
//
// DIRECTORY holds pcscd-sim. It fails when a goal is missed; goals are printed beside what was measured.
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
	rounds := flags.Int("rounds", 9, "rounds of each measurement")
	only := flags.String("only", "", "measure this alone: apdu, load, handover, events, idle")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *rounds < 1 {
		fmt.Fprintln(stderr, "usage: bench [-rounds N] [-only NAME] DIRECTORY")
		return 2
	}
	b, err := newBench(flags.Arg(0), *rounds, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	defer b.close()
	for _, m := range []struct {
		name string
		run  func() error
	}{{"apdu", b.apdus}, {"load", b.loads}, {"handover", b.handovers}, {"events", b.events}, {"idle", b.idle}} {
		if *only != "" && *only != m.name {
			continue
		}
		if err := m.run(); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
	}
	if b.missed > 0 {
		fmt.Fprintf(stdout, "%d goals missed\n", b.missed)
		return 1
	}
	return 0
}
