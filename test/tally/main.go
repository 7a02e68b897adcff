// Command tally reads what `go test -json` writes and says what `go test` says: a line for each package, and the output
// of what failed. It closes with the skipped tests, the slowest packages and the counts, and ends with 1 where a package
// failed:
//
//	go test -json ./... | go run ./test/tally
package main

import (
	"fmt"
	"os"
)

func main() {
	t := newTally(os.Stdout)

	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}

	t.close()
	if t.bad() {
		os.Exit(1)
	}
}
