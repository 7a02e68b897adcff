package main

import (
	"fmt"
	"go/ast"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// totals are sums over all functions of the product.
type totals struct {
	body     int // lines between braces
	blanks   int
	comments int
	long     int // functions of longFunction lines and more
	unbroken int // of these, without a blank line
	lines    int // of all files
}

func (t *tree) totals() totals {
	var s totals
	for _, fn := range t.functions {
		s.body += fn.bodyLines()
		s.blanks += fn.blanks
		s.comments += fn.comments
		if fn.length() < longFunction {
			continue
		}
		s.long++
		if fn.blanks == 0 {
			s.unbroken++
		}
	}
	for _, f := range t.product {
		s.lines += len(f.lines)
	}
	return s
}

// broken are the limits that do not hold, with the places.
func (t *tree) broken() []string {
	var lines []string
	s := t.totals()
	name := func(measure string) {
		for _, p := range t.places(measure) {
			lines = append(lines, fmt.Sprintf("%s: %s", p.at, p.what))
		}
	}

	if share := percent(s.unbroken, s.long); share > maxUnbroken {
		lines = append(lines, fmt.Sprintf(
			"%.1f %% of the functions of %d lines and more have no blank line, more than %d %%",
			share, longFunction, maxUnbroken))
		name("blank")
	}
	if share := percent(s.comments, s.body); share < minComments {
		lines = append(lines, fmt.Sprintf(
			"%.1f %% of the lines of bodies are comments, less than %d %%", share, minComments))
	}
	if rate := perThousand(len(t.places("condition")), s.lines); rate > maxConditions {
		lines = append(lines, fmt.Sprintf(
			"%.2f ifs of %d terms and more for 1,000 lines, more than %.1f",
			rate, termsOfALongOne, maxConditions))
		name("condition")
	}
	name("tuple")
	name("switch")
	name("literal")
	for _, fn := range t.functions {
		if fn.cognitive > maxCognitive {
			lines = append(lines, fmt.Sprintf(
				"%s:%d: %s has the cognitive complexity %d, more than %d",
				fn.file.name, fn.first, fn.decl.Name.Name, fn.cognitive, maxCognitive))
		}
	}
	return lines
}

// printTable prints all measures, one a line.
func (t *tree) printTable(w io.Writer) {
	s := t.totals()
	row := func(measure, format string, values ...any) {
		fmt.Fprintf(w, "%-58s %s\n", measure, fmt.Sprintf(format, values...))
	}

	row("files of the product: number, med/p90/max lines", "%d: %s", len(t.product),
		spread(t.product, fileLength, 50, 90, 100))
	row("functions: number, med/p90/p99/max lines", "%d: %s", len(t.functions),
		spread(t.functions, (*function).length, 50, 90, 99, 100))
	row("cyclomatic p90/p99/max, over 10", "%s, %.1f %%",
		spread(t.functions, func(f *function) int { return f.cyclomatic }, 90, 99, 100),
		percent(count(t.functions, func(f *function) bool { return f.cyclomatic > 10 }),
			len(t.functions)))
	row("cognitive p90/max, over 15, over 25", "%s, %.1f %%, %d",
		spread(t.functions, func(f *function) int { return f.cognitive }, 90, 100),
		percent(count(t.functions, func(f *function) bool { return f.cognitive > 15 }),
			len(t.functions)),
		count(t.functions, func(f *function) bool { return f.cognitive > 25 }))
	t.documentation(row)

	row("test lines / code lines, tests beside the code", "%.2f",
		ratio(t.testLines(false), s.lines))
	row("the same with test/", "%.2f", ratio(t.testLines(true), s.lines))
	row("blank lines inside bodies", "%.1f %%", percent(s.blanks, s.body))
	row(fmt.Sprintf("functions of %d lines and more without a blank line", longFunction),
		"%.1f %% (%d of %d)",
		percent(s.unbroken, s.long), s.unbroken, s.long)
	row("comment lines inside bodies", "%.1f %% (%d of %d)", percent(s.comments, s.body),
		s.comments, s.body)
	row("a, b, c = x, y, z with 3 targets and more, per 1,000 lines", "%.2f (%d)",
		perThousand(len(t.places("tuple")), s.lines), len(t.places("tuple")))
	row("ifs of 4 joined terms and more, per 1,000 lines", "%.2f (%d)",
		perThousand(len(t.places("condition")), s.lines), len(t.places("condition")))
	row("literals of 4 fields and more, several on a line", "%d", len(t.places("literal")))
	row("switches with one arm", "%d", len(t.places("switch")))
	row("lines of more than 120 bytes", "%.1f %%", percent(t.longLines(), s.lines))
	row(fmt.Sprintf("lines of more than %d columns, with tests", maxColumns), "%d",
		len(t.places("columns")))
	t.largest(row)
}

// documentation prints the shares that have comments.
func (t *tree) documentation(row func(string, string, ...any)) {
	var names, named, values, valued, comments, lines int
	packages := make(map[string]bool)
	for _, f := range t.product {
		lines += len(f.lines)
		for _, line := range f.lines {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				comments++
			}
		}
		dir := path.Dir(f.name)
		packages[dir] = packages[dir] || f.ast.Doc != nil

		for _, decl := range f.ast.Decls {
			a, b, c, d := documented(decl)
			names += a
			named += b
			values += c
			valued += d
		}
	}

	with := 0
	for _, has := range packages {
		if has {
			with++
		}
	}
	row("exported functions and types with a comment", "%.0f %% of %d", percent(named, names),
		names)
	row("exported constants and fields with a comment", "%.0f %% of %d", percent(valued, values),
		values)
	row("packages with a comment", "%.0f %% of %d", percent(with, len(packages)), len(packages))
	row("comment lines", "%.0f %%", percent(comments, lines))
}

// documented counts the exported functions and types, and the exported constants and fields, of a
// declaration, each with how many of them have a comment.
func documented(decl ast.Decl) (names, named, values, valued int) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() {
			names++
			if d.Doc != nil {
				named++
			}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if !s.Name.IsExported() {
					continue
				}
				names++
				if s.Doc != nil || d.Doc != nil {
					named++
				}
				if st, ok := s.Type.(*ast.StructType); ok {
					a, b := fields(st)
					values += a
					valued += b
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if !name.IsExported() {
						continue
					}
					values++
					if s.Doc != nil || s.Comment != nil {
						valued++
					}
				}
			}
		}
	}
	return names, named, values, valued
}

func fields(st *ast.StructType) (all, commented int) {
	for _, field := range st.Fields.List {
		for _, name := range field.Names {
			if !name.IsExported() {
				continue
			}
			all++
			if field.Doc != nil || field.Comment != nil {
				commented++
			}
		}
	}
	return all, commented
}

// largest prints the packages with the most lines.
func (t *tree) largest(row func(string, string, ...any)) {
	type size struct {
		dir   string
		files int
		lines int
	}
	sizes := make(map[string]*size)
	for _, f := range t.product {
		dir := path.Dir(f.name)
		if sizes[dir] == nil {
			sizes[dir] = &size{dir: dir}
		}
		sizes[dir].files++
		sizes[dir].lines += len(f.lines)
	}

	var all []*size
	for _, s := range sizes {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *size) int { return b.lines - a.lines })
	for _, s := range all[:min(4, len(all))] {
		row("package "+s.dir+": files/lines", "%d/%d", s.files, s.lines)
	}
}

func (t *tree) testLines(all bool) int {
	n := 0
	for _, f := range t.tests {
		if all || !strings.HasPrefix(f.name, "test/") {
			n += len(f.lines)
		}
	}
	return n
}

func (t *tree) longLines() int {
	n := 0
	for _, f := range t.product {
		n += count(f.lines, func(line string) bool { return len(line) > 120 })
	}
	return n
}

// printSample prints functions of longFunction lines and more, drawn by a seed, with their places.
// The same seed draws functions of the same names from two trees as far as both have them: the
// order is that of a hash of the name.
func (t *tree) printSample(w io.Writer, seed uint64, many int) {
	var long []*function
	for _, fn := range t.functions {
		if fn.length() >= longFunction {
			long = append(long, fn)
		}
	}

	random := rand.New(rand.NewPCG(seed, seed))
	random.Shuffle(len(long), func(i, j int) { long[i], long[j] = long[j], long[i] })

	for _, fn := range long[:min(many, len(long))] {
		fmt.Fprintf(w, "== %s %s\n", path.Dir(fn.file.name), fn.decl.Name.Name)
		for n := fn.first; n <= fn.last; n++ {
			fmt.Fprintln(w, fn.file.lines[n-1])
		}
		fmt.Fprintln(w)
	}
}

func fileLength(f *file) int { return len(f.lines) }

// spread is the given percentiles of a measure, joined by strokes.
func spread[T any](all []T, measure func(T) int, percentiles ...int) string {
	values := make([]int, 0, len(all))
	for _, one := range all {
		values = append(values, measure(one))
	}
	slices.Sort(values)
	if len(values) == 0 {
		return "none"
	}

	var words []string
	for _, p := range percentiles {
		words = append(words, fmt.Sprint(values[min(len(values)-1, len(values)*p/100)]))
	}
	return strings.Join(words, "/")
}

func count[T any](all []T, is func(T) bool) int {
	n := 0
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

func ratio(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func percent(part, whole int) float64 { return 100 * ratio(part, whole) }

func perThousand(part, whole int) float64 { return 1000 * ratio(part, whole) }
