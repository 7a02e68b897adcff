package layering

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// Sizes of packages that one can hold in the head. Tests do not count.
const (
	maxFiles   = 25
	maxTypes   = 60 // declared at the level of the package
	smallFiles = 15 // a package of no more files may have any cycle
	maxCycle   = 40 // percent of the files
)

// tooLarge are the packages of the product that may break these sizes, each with its reason.
var tooLarge = map[string]string{
	"cmd/pam-pkcs11": "a file or two for each subcommand; what subcommands share is in packages",
}

// size is what a package measures.
type size struct {
	files int // whatever build takes them
	types int // of different names
	lines int
	built int      // files that this machine's build takes
	cycle []string // the largest set of them of which each is used by every other, if by way of more
}

// percent is the share of the files in the largest cycle.
func (s *size) percent() int {
	if s.built == 0 {
		return 0
	}
	return (100*len(s.cycle) + s.built/2) / s.built
}

// excess says which size a package breaks; "" is none.
func (s *size) excess() string {
	switch {
	case s.files > maxFiles:
		return fmt.Sprintf("%d files, more than %d", s.files, maxFiles)
	case s.types > maxTypes:
		return fmt.Sprintf("%d types, more than %d", s.types, maxTypes)
	case s.files > smallFiles && 100*len(s.cycle) > maxCycle*s.built:
		return fmt.Sprintf("%d of %d files in a cycle, more than %d %%: %s",
			len(s.cycle), s.built, maxCycle, strings.Join(s.cycle, " "))
	}
	return ""
}

// TestSizes holds every package of the product to the sizes, and prints them with -v.
func TestSizes(t *testing.T) {
	sizes := make(map[string]*size)
	for _, f := range goFiles(t) {
		if f.test || strings.HasPrefix(f.dir+"/", "test/") {
			continue
		}
		if sizes[f.dir] == nil {
			sizes[f.dir] = &size{}
		}
		sizes[f.dir].files++
		sizes[f.dir].lines += f.set.File(f.ast.FileStart).LineCount()
	}
	for dir, s := range sizes {
		s.types = len(typeNames(goFiles(t), dir))
	}
	for _, p := range goPackages(t) {
		sizes[p.dir].built = len(p.files)
		sizes[p.dir].cycle = largestCycle(p.uses())
	}

	for dir, s := range sizes {
		problem, reason := s.excess(), tooLarge[dir]
		switch {
		case problem != "" && reason == "":
			t.Errorf("%s has %s", dir, problem)
		case problem == "" && reason != "":
			t.Errorf("%s is not too large (any more): its row in tooLarge goes", dir)
		}
	}
	for dir := range tooLarge {
		if sizes[dir] == nil {
			t.Errorf("tooLarge has a row for %s, which is not there", dir)
		}
	}
	printSizes(t.Output(), sizes)
}

// printSizes prints a table of all packages.
func printSizes(out io.Writer, sizes map[string]*size) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "files\ttypes\tlines\tlargest cycle\t  package\n")
	for _, dir := range slices.Sorted(maps.Keys(sizes)) {
		s := sizes[dir]
		fmt.Fprintf(w, "%d\t%d\t%d\t%d of %d, %d %%\t  %s", s.files, s.types, s.lines,
			len(s.cycle), s.built, s.percent(), dir)
		if s.excess() != "" {
			fmt.Fprintf(w, " (%s)", tooLarge[dir])
		}
		fmt.Fprintln(w)
	}
}

// typeNames are the names of the types that the files of a folder declare, tests left out.
func typeNames(files []*goFile, dir string) map[string]bool {
	names := make(map[string]bool)
	for _, f := range files {
		if f.test || f.dir != dir {
			continue
		}
		for _, decl := range f.ast.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				names[spec.(*ast.TypeSpec).Name.Name] = true
			}
		}
	}
	return names
}

// uses tells for each file of a package which other files of it declare something that the file
// uses: a name of the package, or a method.
func (p *goPackage) uses() map[string][]string {
	all := make(map[string][]string)
	for _, f := range p.files {
		all[f.name] = nil
	}
	for id, o := range p.info.Uses {
		if o.Pkg() != p.types || o.Parent() != p.types.Scope() && !isMethod(o) {
			continue
		}
		from, to := p.fileOf(id.Pos()), p.fileOf(o.Pos())
		if from != to && !slices.Contains(all[from], to) {
			all[from] = append(all[from], to)
		}
	}
	return all
}

func isMethod(o types.Object) bool {
	f, ok := o.(*types.Func)
	return ok && f.Signature().Recv() != nil
}

// fileOf is the name of the file of a place.
func (p *goPackage) fileOf(pos token.Pos) string {
	return p.dir + "/" + path.Base(positions.File(pos).Name())
}

// largestCycle is the largest set of nodes of which each is reached from every other, by their
// base names, in order. A node alone is none.
func largestCycle(edges map[string][]string) []string {
	var largest []string
	for _, cycle := range components(edges) {
		if len(cycle) > len(largest) && len(cycle) > 1 {
			largest = cycle
		}
	}
	names := make([]string, len(largest))
	for i, name := range largest {
		names[i] = path.Base(name)
	}
	slices.Sort(names)
	return names
}

// components are the strongly connected components of a graph (Tarjan's algorithm).
func components(edges map[string][]string) [][]string {
	g := &graph{
		edges: edges,
		index: make(map[string]int),
		low:   make(map[string]int),
		waits: make(map[string]bool),
	}
	for _, node := range slices.Sorted(maps.Keys(edges)) {
		if g.index[node] == 0 {
			g.visit(node)
		}
	}
	return g.found
}

// graph is the state of Tarjan's algorithm.
type graph struct {
	edges map[string][]string
	index map[string]int // in the order of visits, from 1; 0 is not visited
	low   map[string]int // the lowest index that is known to be in the same component
	stack []string       // nodes whose component is not complete
	waits map[string]bool
	found [][]string
}

func (g *graph) visit(node string) {
	n := len(g.index) + 1
	g.index[node], g.low[node] = n, n
	g.stack = append(g.stack, node)
	g.waits[node] = true

	for _, next := range g.edges[node] {
		if g.index[next] == 0 {
			g.visit(next)
			g.low[node] = min(g.low[node], g.low[next])
		} else if g.waits[next] {
			g.low[node] = min(g.low[node], g.index[next])
		}
	}
	if g.low[node] != n {
		return
	}

	first := slices.Index(g.stack, node)
	cycle := slices.Clone(g.stack[first:])
	g.stack = g.stack[:first]
	for _, member := range cycle {
		g.waits[member] = false
	}
	g.found = append(g.found, cycle)
}

// TestLargestCycle keeps the measure honest.
func TestLargestCycle(t *testing.T) {
	for name, tt := range map[string]struct{ edges, want string }{
		"nothing":          {"", ""},
		"a row":            {"a>b b>c", ""},
		"two":              {"a>b b>a c>a", "a b"},
		"two cycles":       {"a>b b>a b>c c>d d>e e>c", "c d e"},
		"by way of others": {"a>b a>c b>d c>d d>a e>a e>d", "a b c d"},
	} {
		edges := make(map[string][]string)
		for _, edge := range strings.Fields(tt.edges) {
			from, to, _ := strings.Cut(edge, ">")
			edges[from] = append(edges[from], to)
		}

		if got := strings.Join(largestCycle(edges), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
