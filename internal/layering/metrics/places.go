package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"io"
	"slices"
	"strings"
)

// Limits of what make check holds.
const (
	maxColumns       = 100 // with a tab as 4
	longFunction     = 20  // lines from which a function has steps
	maxUnbroken      = 10  // percent of the long functions without a blank line
	minComments      = 3   // percent of the lines of bodies
	maxConditions    = 0.7 // ifs of 4 and more joined terms for 1,000 lines
	maxCognitive     = 40
	termsOfALongOne  = 4
	fieldsOfALongOne = 4
)

// place is where something stands.
type place struct {
	at   string // file:line
	what string
}

// places are where a measure finds something: the words are those of the option --list.
func (t *tree) places(measure string) []place {
	var found []place
	add := func(f *file, line int, what string) {
		found = append(found, place{at: fmt.Sprintf("%s:%d", f.name, line), what: what})
	}

	switch measure {
	case "blank":
		for _, fn := range t.functions {
			if fn.length() >= longFunction && fn.blanks == 0 {
				add(fn.file, fn.first, fmt.Sprintf("%s: %d lines without a blank one",
					fn.decl.Name.Name, fn.length()))
			}
		}
		return found
	case "columns":
		for _, f := range slices.Concat(t.product, t.tests) {
			t.wide(f, add)
		}
		return found
	}

	for _, f := range t.product {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			if what := t.oddity(measure, n); what != "" {
				add(f, t.line(n.Pos()), what)
			}
			return true
		})
	}
	return found
}

// oddity says what a node has that the measure counts, or "".
func (t *tree) oddity(measure string, n ast.Node) string {
	switch x := n.(type) {
	case *ast.AssignStmt:
		if measure == "tuple" && len(x.Lhs) >= 3 && len(x.Rhs) >= 3 {
			return fmt.Sprintf("%d assignments in one", len(x.Lhs))
		}
	case *ast.IfStmt:
		if terms := joined(x.Cond); measure == "condition" && terms >= termsOfALongOne {
			return fmt.Sprintf("an if of %d terms", terms)
		}
	case *ast.CompositeLit:
		if fields := t.fieldsOnALine(x); measure == "literal" && fields > 1 {
			return fmt.Sprintf("a literal of %d fields with %d on one line", len(x.Elts), fields)
		}
	case *ast.SwitchStmt:
		if measure == "switch" && x.Tag == nil && len(x.Body.List) == 1 {
			return "a switch with one arm, which is an if"
		}
	}
	return ""
}

// joined is how many terms && and || join.
func joined(e ast.Expr) int {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		if e.Op == token.LAND || e.Op == token.LOR {
			return joined(e.X) + joined(e.Y)
		}
	case *ast.ParenExpr:
		return joined(e.X)
	}
	return 1
}

// fieldsOnALine is the largest number of named fields that stand on one line of a literal of 4
// fields and more. A literal without a type is a row of a table, and is read as one.
func (t *tree) fieldsOnALine(x *ast.CompositeLit) int {
	if len(x.Elts) < fieldsOfALongOne || x.Type == nil {
		return 0
	}
	if _, ok := x.Type.(*ast.MapType); ok {
		return 0
	}

	most := 0
	count := make(map[int]int)
	for _, element := range x.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return 0
		}
		if _, ok := pair.Key.(*ast.Ident); !ok {
			return 0
		}

		line := t.line(pair.Pos())
		count[line]++
		most = max(most, count[line])
	}
	return most
}

// wide finds the lines with too many columns. A line is as long as its only literal, or an address
// in it, is: neither can be broken.
func (t *tree) wide(f *file, add func(*file, int, string)) {
	text := t.rawStrings(f.ast)
	literals := t.literals(f.ast)
	for i, line := range f.lines {
		wide := columns(line) > maxColumns && !text[i+1] && !strings.Contains(line, "://")
		if wide && !mostly(literals[i+1], line) {
			add(f, i+1, fmt.Sprintf("%d columns", columns(line)))
		}
	}
}

// literals are the longest strings of each line.
func (t *tree) literals(n ast.Node) map[int]int {
	longest := make(map[int]int)
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			line := t.line(lit.Pos())
			longest[line] = max(longest[line], len(lit.Value))
		}
		return true
	})
	return longest
}

// mostly reports whether a literal of that length is more than half of the line.
func mostly(literal int, line string) bool {
	return 2*literal > len(strings.TrimSpace(line))
}

func columns(line string) int {
	n := 0
	for _, r := range line {
		if r == '\t' {
			n += 4 - n%4
		} else {
			n++
		}
	}
	return n
}

func (t *tree) printPlaces(w io.Writer, measure string) {
	for _, p := range t.places(measure) {
		fmt.Fprintf(w, "%s: %s\n", p.at, p.what)
	}
}
