package pamstack

import (
	"fmt"
	"path"
	"strings"

	"pam_pkcs11/internal/message"
)

// Place is a line of a file.
type Place struct {
	File   string // as the machine calls it, without the root that was given to Load
	Number int    // from 1
}

// String is FILE:NUMBER, or the file alone where the whole of it is meant.
func (p Place) String() string {
	if p.Number == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Number)
}

// Line is a line that libpam runs: a module, or a line that it cannot read and lets fail.
type Line struct {
	File   string
	Number int // of the line's first line

	Kind     Kind
	Control  Control
	Module   string // as written: pam_unix.so, or an absolute path; empty where none is named
	Args     []string
	Optional bool // a leading dash: that the module is missing is not logged

	Level  int          // how many substacks it stands in
	From   []Place      // the lines that included its file, the outermost first
	Broken message.Text // why libpam lets the line fail without a module; empty for a good one

	substack bool // only the place where a substack begins: no module, but jumps count it
	index    int  // in the stack of its kind
}

// Place is where the line stands.
func (l Line) Place() Place { return Place{l.File, l.Number} }

// Index tells the lines of one kind of a stack apart.
func (l Line) Index() int { return l.index }

// Name is the module's file without its directory: "pam_unix.so".
func (l Line) Name() string { return path.Base(l.Module) }

// IsOurs reports whether the line names pam_pkcs11.so, ours or that of another pam_pkcs11.
func (l Line) IsOurs() bool { return l.Module != "" && l.Name() == "pam_pkcs11.so" }

// String is the line as pam.d would have it, on one line.
func (l Line) String() string {
	dash := ""
	if l.Optional {
		dash = "-"
	}
	return strings.TrimSpace(dash + l.Kind.String() + " " + l.Control.Text + " " + l.Module + " " +
		strings.Join(l.Args, " "))
}

// Problem is something in a file that libpam reads otherwise than it looks.
type Problem struct {
	Place
	ID   string // stable: "pam-line-type", "pam-include"
	What message.Text
}

// Stack is what one service asks of PAM.
type Stack struct {
	Service string
	Files   []string // those that were read, each once, in the order of reading
	// what libpam reads otherwise than it looks, the lines that it cannot read among it
	Problems []Problem

	own   [kindCount][]Line // the service's
	other [kindCount][]Line // the default's, for a kind of which the service says nothing
}

// Lines are those of one kind, in their order, with what is included.
func (s *Stack) Lines(k Kind) []Line {
	var lines []Line
	for _, line := range s.entries(k) {
		if !line.substack {
			lines = append(lines, line)
		}
	}
	return lines
}

// IsDefault reports whether the lines of a kind are those of "other", since the service has none.
func (s *Stack) IsDefault(k Kind) bool { return len(s.own[k]) == 0 }

// Ours are the lines of all kinds that name our module.
func (s *Stack) Ours() []Line {
	var ours []Line
	for _, k := range Kinds() {
		for _, line := range s.Lines(k) {
			if line.IsOurs() {
				ours = append(ours, line)
			}
		}
	}
	return ours
}

// entries are the lines of a kind, with the places where substacks begin.
func (s *Stack) entries(k Kind) []Line {
	if len(s.own[k]) > 0 {
		return s.own[k]
	}
	return s.other[k]
}
