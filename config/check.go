package config

import (
	"fmt"
	"io"
	"slices"

	"pam_pkcs11/config/internal/finding"
)

// CheckReport is what `pam-pkcs11 config check` has to say about a file.
type CheckReport struct {
	File   string
	Errors finding.Errors // for each of them, every login is refused
	Notes  []finding.Note // in the order of the file; those about the whole file first
}

// Check reads a configuration file and compares it with what pam_pkcs11 0.6.12 and 0.6.13 made of
// it. An error means that the file could not be read at all; everything else is in the report.
func Check(file string) (*CheckReport, error) {
	data, reports, err := readFile(file)
	if err != nil {
		return nil, err
	}

	r := CheckData(file, data)

	// Only noted here: it is Load that obeys strict_permissions.
	for _, p := range reports {
		r.Notes = append(r.Notes, finding.Note{
			File: file,
			Kind: finding.NotePermission,
			Text: p.Path + ": " + p.Problem,
		})
	}
	return r, nil
}

// CheckData is Check for a file in memory.
func CheckData(file string, data []byte) *CheckReport {
	b, errs := parse(file, data, &Arguments{})

	r := &CheckReport{File: file, Errors: errs, Notes: b.conf.Notes}
	// With errors a part of the configuration is missing, and its rest would be compared wrongly.
	if len(errs) == 0 {
		r.Notes = append(r.Notes, b.differences()...)
	}

	slices.SortStableFunc(r.Notes, func(x, y finding.Note) int { return x.Line - y.Line })
	return r
}

// OK reports whether the file lets anybody log in at all.
func (r *CheckReport) OK() bool { return len(r.Errors) == 0 && len(r.Of(finding.NoteRefuses)) == 0 }

// Of gives the notes of one kind.
func (r *CheckReport) Of(kind finding.NoteKind) []finding.Note {
	var some []finding.Note
	for _, n := range r.Notes {
		if n.Kind == kind {
			some = append(some, n)
		}
	}
	return some
}

// The sections of the report, in its order.
var checkSections = []struct {
	kind  finding.NoteKind
	title string
}{
	{finding.NoteRefuses, "Every login is refused:"},
	{finding.NoteInsecure, "Obeyed, but a risk (logged at every login):"},
	{finding.NotePermission,
		"Files and directories that others than root may change (refused with strict_permissions):"},
	{finding.NoteChanged, "Different from earlier versions of this program:"},
	{finding.NoteGeneral, "Different from earlier versions, for any file of this kind:"},
	{finding.NoteDifferent, "Different from pam_pkcs11 0.6.12 and 0.6.13:"},
	{finding.NoteNoEffect, "Without effect:"},
	{finding.NoteUnused, "In blocks that are not in use:"},
	{finding.NoteTolerated, "Tolerated:"},
}

// WriteText writes the report for a person. What it says of each finding stands on one line, with
// the place in front as compilers write it.
func (r *CheckReport) WriteText(w io.Writer) error {
	p := printer{w: w}
	if len(r.Errors) == 0 {
		p.line(r.File + ": no errors")
	} else {
		p.line("Errors (every login is refused):")
		for _, e := range r.Errors {
			p.line("  " + e.Error())
		}
	}

	for _, s := range checkSections {
		notes := r.Of(s.kind)
		if len(notes) > 0 {
			p.line("")
			p.line(s.title)
		}
		for _, n := range notes {
			p.line("  " + n.String())
		}
	}
	return p.err
}

// printer keeps the first error of its writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(s string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, s)
	}
}
