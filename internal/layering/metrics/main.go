// Command metrics measures how the product's Go code reads: paragraphs, comments, sizes of
// functions, conditions. It is run by .ci/metrics, which says how; doc/architecture.md has no
// figures, since these are made anew each time.
//
// Product is every Go file but tests, generated code and what is below test/, vendor/, build/ and
// testdata/.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "the top `directory` of the sources")
	hold := flag.Bool("hold", false, "fail where a limit is broken, and name the places")
	sample := flag.Int("sample", 0,
		"print so `many` functions of 20 lines and more, drawn by the seed")
	seed := flag.Uint64("seed", 1, "`seed` of the sample")
	list := flag.String("list", "",
		"name the places of one `measure`: blank, tuple, condition, literal, switch, columns")
	under := flag.String("under", "", "only packages at and below this `directory`")
	flag.Parse()

	t, err := readTree(*root, *under)
	if err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}

	switch {
	case *sample > 0:
		t.printSample(os.Stdout, *seed, *sample)
	case *list != "":
		t.printPlaces(os.Stdout, *list)
	case *hold:
		if broken := t.broken(); len(broken) > 0 {
			for _, line := range broken {
				fmt.Println(line)
			}
			os.Exit(1)
		}
	default:
		t.printTable(os.Stdout)
	}
}
