package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is what `go test -json` says in one line (go doc test2json).
type event struct {
	Action     string
	Package    string
	Test       string // "" is the package itself
	ImportPath string // of what could not be built
	Output     string
	Elapsed    float64 // seconds
}

// count has the tests, and their subtests, by how they ended.
type count struct{ passed, failed, skipped int }

// name is one test of one package.
type name struct{ pkg, test string }

func (n name) String() string { return n.pkg + " " + n.test }

// ended is a package that is over.
type ended struct {
	pkg  string
	took time.Duration
}

// tally follows the events of one or several runs.
type tally struct {
	out    io.Writer
	output map[name][]string // what a running test, or package, has said
	count
	skips  []name
	ends   []ended
	broken []string // packages that failed, and those that could not be built
}

// mostListed is how many skipped tests and slow packages the end names.
const mostListed = 10

func newTally(out io.Writer) *tally {
	return &tally{out: out, output: map[name][]string{}}
}

// read follows events to their end. A line that is no event, as of a tool that go starts, is shown as it is.
func (t *tally) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			_, _ = t.out.Write(line)
		default:
			t.take(e)
		}

		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "start", "run":
		t.output[n] = nil
	case "output":
		t.output[n] = append(t.output[n], e.Output)
	case "build-output":
		_, _ = io.WriteString(t.out, e.Output)
	case "build-fail":
		t.broken = append(t.broken, e.ImportPath)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e)
		} else {
			t.endTest(n, e.Action)
		}
	}
}

func (t *tally) endTest(n name, how string) {
	switch how {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		t.skips = append(t.skips, n)
	case "fail":
		t.failed++
		t.show(t.output[n], "")
	}
	delete(t.output, n)
}

// endPackage counts as failed what is still running: the package was killed, or ended itself. Of a package that passed
// only go's own closing line is shown, as go does.
func (t *tally) endPackage(e event) {
	var cut []name
	for n := range t.output {
		if n.pkg == e.Package && n.test != "" {
			cut = append(cut, n)
		}
	}
	slices.SortFunc(cut, func(a, b name) int { return cmp.Compare(a.test, b.test) })
	for _, n := range cut {
		t.endTest(n, "fail")
	}

	own := name{pkg: e.Package}
	if e.Action == "fail" {
		t.broken = append(t.broken, e.Package)
		t.show(t.output[own], "")
	} else {
		t.show(t.output[own], "ok  \t", "?   \t")
	}
	delete(t.output, own)

	t.ends = append(t.ends, ended{e.Package, time.Duration(e.Elapsed * float64(time.Second))})
}

// show writes the lines that begin with one of the prefixes; those of package testing about its own progress are left
// out.
func (t *tally) show(lines []string, prefixes ...string) {
	for _, line := range lines {
		wanted := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) })
		if wanted && !strings.HasPrefix(line, "=== ") {
			_, _ = io.WriteString(t.out, line)
		}
	}
}

// close writes the end: the counts are the last line.
func (t *tally) close() {
	list(t.out, "skipped", t.skips)

	slices.SortStableFunc(t.ends, func(a, b ended) int { return cmp.Compare(b.took, a.took) })
	fmt.Fprintln(t.out, "slowest packages:")
	for _, e := range t.ends[:min(len(t.ends), mostListed)] {
		fmt.Fprintf(t.out, "  %8.1fs  %s\n", e.took.Seconds(), e.pkg)
	}

	list(t.out, "failed", t.broken)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped (with subtests; packages: %d)\n",
		t.passed, t.failed, t.skipped, len(t.ends))
}

// list names the first of some things.
func list[T any](out io.Writer, what string, all []T) {
	if len(all) == 0 {
		return
	}

	fmt.Fprintf(out, "%s:\n", what)
	for _, one := range all[:min(len(all), mostListed)] {
		fmt.Fprintf(out, "  %v\n", one)
	}
	if more := len(all) - mostListed; more > 0 {
		fmt.Fprintf(out, "  and %d more\n", more)
	}
}

// bad reports whether the runs failed. Runs without a package are no success either: nothing was tested.
func (t *tally) bad() bool {
	return len(t.broken) > 0 || t.failed > 0 || len(t.ends) == 0
}
