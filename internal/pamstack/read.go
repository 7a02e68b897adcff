package pamstack

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/internal/message"
)

// abortError ends the reading of a file, or of everything, where libpam itself does not come back.
type abortError struct {
	place Place
	what  message.Text
	fatal bool
}

// Error names the place and the fault.
func (a *abortError) Error() string { return a.place.String() + ": " + a.what.String() }

// maxLevel is the depth of substacks at which libpam stops.
const maxLevel = 16

// reader reads one service.
type reader struct {
	tree    tree
	dialect dialect
	stack   *Stack
	count   int // of the lines so far
}

// source is a file that is being read.
type source struct {
	file    string
	service string // whose lines they are; "" where the first word of each line says it
	kind    Kind   // the only one that is taken, or anyKind
	level   int
	from    []Place // the lines that included it
	open    []opened
}

// opened is a file that is being read, itself or for the sake of what it includes.
type opened struct {
	file  string
	level int
}

// file reads a file, and what it includes.
func (r *reader) file(from source, data []byte) error {
	if !slices.Contains(r.stack.Files, from.file) {
		r.stack.Files = append(r.stack.Files, from.file)
	}

	lines := newLines(data)
	last := undefined("") // the control of the line before
	for {
		text, err := lines.next()
		if err != nil {
			return &abortError{
				place: Place{from.file, text.number},
				what:  lineFault(err),
				fatal: errors.Is(err, errEndless),
			}
		}
		if text.number == 0 {
			return nil
		}

		r.lookAt(from, text)
		if err := r.line(from, text, &last); err != nil {
			return err
		}
	}
}

// lineFault says why a line ends the reading.
func lineFault(err error) message.Text {
	if errors.Is(err, errUnfinished) {
		return message.Textf("the file ends with a backslash, which promises one more line")
	}
	return message.Textf("libpam waits for ever: the 1023rd byte of this line is a backslash")
}

// lookAt notes what is odd about a line's text.
func (r *reader) lookAt(from source, text logical) {
	at := Place{from.file, text.number}
	if text.split {
		r.problem(at, "pam-line-long", message.Textf(
			"the line is longer than 1023 bytes; PAM takes what follows for a line of its own"))
	}
	if text.nul {
		r.problem(at, "pam-line-nul",
			message.Textf("PAM does not read what stands behind a NUL byte in this line"))
	}
	if strings.Contains(text.text, "\r") {
		r.problem(at, "pam-line-crlf", message.Textf(
			"the line ends with a carriage return, which PAM takes for a part of its last word"))
	}
}

// problem notes a problem of a place, each once: a file may be included more than once.
func (r *reader) problem(at Place, id string, what message.Text) {
	problem := Problem{at, id, what}
	known := slices.ContainsFunc(r.stack.Problems, func(p Problem) bool {
		return p.Place == at && p.ID == id
	})
	if !known {
		r.stack.Problems = append(r.stack.Problems, problem)
	}
}

// line reads one logical line: [SERVICE] TYPE CONTROL MODULE ARGUMENT...
func (r *reader) line(from source, text logical, last *Control) error {
	words := &words{text.text}
	service := from.service
	// In pam.conf each line begins with the name of its service.
	if service == "" {
		service, _, _ = words.next()
		service = lower(service)
		if service != r.stack.Service && service != "other" {
			return nil
		}
	}

	from.service = service
	line := Line{
		File:   from.file,
		Number: text.number,
		Level:  from.level,
		From:   from.from,
	}

	atInclude := r.kind(from, words, &line)
	if atInclude {
		return r.atInclude(from, words, line, *last)
	}
	// An include of one kind leaves out the lines of others.
	if from.kind != anyKind && line.Kind != from.kind {
		return nil
	}

	include, substack := r.control(words, &line)
	*last = line.Control // for an @include that cannot be read (see atInclude)
	if include || substack {
		return r.include(from, words, line, substack, last)
	}

	module, _, named := words.next()
	if !named {
		r.broken(&line, "pam-line-module", message.Textf("the line names no module"))
	}
	if named && isNameless(module) {
		return &abortError{
			place: line.Place(),
			what:  message.Textf("%q is no name of a module", module),
		}
	}

	line.Module = module
	line.Args = words.all()
	return r.add(from, line)
}

// kind reads the first word. It reports whether that is Debian's @include, which has no kind.
func (r *reader) kind(from source, words *words, line *Line) (atInclude bool) {
	line.Kind = from.kind
	if from.kind == anyKind {
		line.Kind = Auth // libpam's choice for a line that says nothing: the most sensitive
	}

	word, _, more := words.next()
	if !more {
		r.broken(line, "pam-line-type", message.Textf("the line has no type"))
		return false
	}

	word, line.Optional = strings.CutPrefix(word, "-")
	if index := slices.Index(kindNames[:], lower(word)); index >= 0 {
		line.Kind = Kind(index)
		return false
	}
	if r.dialect.atInclude && lower(word) == "@include" {
		return true
	}
	r.broken(line, "pam-line-type", message.Textf("PAM does not know the type %q", word))
	return false
}

// control reads the second word.
func (r *reader) control(words *words, line *Line) (include, substack bool) {
	word, bracketed, more := words.next()
	if !more {
		line.Control = undefined("")
		line.Control.fill(ActBad)
		r.broken(line, "pam-line-control", message.Textf("the line has no control"))
		return false, false
	}

	text := word
	if bracketed {
		text = "[" + word + "]"
	}

	var known bool
	if line.Control, known = keyword(word, text); known {
		return false, false
	}

	// They are looked for after the four words of controls, as in libpam.
	switch lower(word) {
	case "include":
		return true, false
	case "substack":
		return true, true
	}

	// It is no error to libpam, which goes on with a control that fails.
	if line.Control, known = listed(word, text); !known {
		r.problem(line.Place(), "pam-line-control", message.Textf(
			"PAM cannot read the control %s and takes every answer of the module for a failure",
			text))
	}
	return false, false
}

// broken makes a line one that fails without a module.
func (r *reader) broken(line *Line, id string, why message.Text) {
	if line.Broken.Empty() {
		line.Broken = why
	}
	r.problem(line.Place(), id, why)
}

// include reads "TYPE include FILE" and "TYPE substack FILE".
func (r *reader) include(from source, words *words, line Line, substack bool, last *Control) error {
	name, _, named := words.next()
	if !named && r.dialect.crashes {
		return &abortError{
			place: line.Place(),
			what:  message.Textf("libpam crashes: the line includes, and names no file"),
			fatal: true,
		}
	}

	inner := source{service: from.service, kind: line.Kind, level: from.level}
	if substack {
		// The place where a substack begins is an entry of its own, which jumps count as one line.
		inner.level++
		begin := line
		begin.substack = true
		begin.Module = name
		begin.Broken = message.Text{}
		if named && isNameless(name) {
			return &abortError{
				place: line.Place(),
				what:  message.Textf("%q is no name of a file to include", name),
			}
		}
		if err := r.add(from, begin); err != nil {
			return err
		}
	}

	why, err := r.included(from, inner, line.Place(), name, named)
	if err != nil || why.Empty() {
		return err
	}

	// A file that cannot be included leaves a line that fails in its place.
	line.Control.fill(ActBad)
	*last = line.Control
	line.Module = ""
	line.Broken = message.Text{}
	r.broken(&line, "pam-include", why)
	return r.add(from, line)
}

// atInclude reads "@include FILE".
func (r *reader) atInclude(from source, words *words, line Line, last Control) error {
	name, _, named := words.next()
	if !named {
		return &abortError{
			place: line.Place(),
			what:  message.Textf("libpam crashes: the line includes, and names no file"),
			fatal: true,
		}
	}

	inner := source{service: from.service, kind: from.kind, level: from.level}
	why, err := r.included(from, inner, line.Place(), name, true)
	if err != nil || why.Empty() {
		return err
	}
	// In a file that was itself included for one kind it fails as a line; else the service does not
	// start.
	if from.kind == anyKind {
		return &abortError{place: line.Place(), what: why}
	}

	// libpam then takes the control that it read last in this file. Before the first it is what
	// chance has left in its memory.
	if last.Text == "" {
		r.problem(line.Place(), "pam-include-chance", message.Textf(
			"%s; what PAM makes of that is chance", why))
	}
	line.Control = last
	line.Control.Text = "@include"
	line.Control.fill(ActBad)
	r.broken(&line, "pam-include", why)
	return r.add(from, line)
}

// included reads a file that a line includes. Where it cannot be read it says why.
func (r *reader) included(
	from, inner source, line Place, name string, named bool,
) (why message.Text, err error) {
	if inner.level >= maxLevel {
		return message.Textf("substacks are more than %d deep", maxLevel-1), nil
	}
	if !named {
		return message.Textf("the line includes, and names no file"), nil
	}

	file, data, err := r.findIncluded(name)
	if err != nil && isMissing(err) {
		return message.Textf("the file %s, which this line includes, is missing", file), nil
	}
	if err != nil {
		return why, err
	}

	inner.file = file
	inner.from = append(slices.Clone(from.from), line)
	inner.open = append(slices.Clone(from.open), opened{from.file, from.level})

	// libpam goes on until it has no descriptor or no stack left. Substacks end by their depth.
	if slices.Contains(inner.open, opened{file, inner.level}) {
		return why, &abortError{
			place: line,
			what:  message.Textf("libpam crashes: the file %s includes itself", file),
			fatal: true,
		}
	}

	err = r.file(inner, data)
	var abort *abortError
	if errors.As(err, &abort) && !abort.fatal {
		return message.Textf("%s, in the file %s that this line includes", abort.what,
			abort.place), nil
	}
	return why, err
}

// findIncluded reads a file that is included by its name or path.
func (r *reader) findIncluded(name string) (file string, data []byte, err error) {
	switch {
	case strings.HasPrefix(name, "/"):
		data, err = r.tree.read(name)
		return name, data, err
	case !r.dialect.etcOnly:
		return r.find(name)
	}

	file = path.Join(etcDir, name)
	if !r.tree.isDir(etcDir) {
		return file, nil, fs.ErrNotExist
	}
	data, err = r.tree.read(file)
	return file, data, err
}

// isNameless reports whether libpam finds no name in a module's path, which it then does not take.
func isNameless(module string) bool {
	name := module[strings.LastIndexByte(module, '/')+1:]
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		name = name[:dot]
	}
	return name == "" || name == "?"
}

// add appends a line to the stack of its kind.
func (r *reader) add(from source, line Line) error {
	if r.count++; r.count > maxLines {
		return fmt.Errorf("the PAM service %s has more than %d lines, with all that it includes",
			r.stack.Service, maxLines)
	}

	list := &r.stack.own[line.Kind]
	if from.service == "other" && r.stack.Service != "other" {
		list = &r.stack.other[line.Kind]
	}
	line.index = len(*list)
	*list = append(*list, line)
	return nil
}
