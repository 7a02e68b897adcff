package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify"
)

// inspection is one run of `config check`.
type inspection struct {
	file      string
	arguments *config.Arguments // the module's, which name the file
	online    bool              // ask responders
	old       bool              // compare with pam_pkcs11 0.6
	conf      *config.Config    // as it is for the block that is looked at; nil while the file has errors
	later     bool              // that block is not the first
	verifier  *verify.Verifier  // with the certificates of ca_dir; nil: none are asked for, or they cannot be read
	silent    bool              // a responder that was asked gave no answer

	findings []finding
}

// finding is one line.
type finding struct {
	weight weight
	kind   string // in the brackets
	text   string // with the place
}

// weight orders findings: what matters most comes first.
type weight uint8

const (
	refusesEvery weight = iota // every login is refused
	refusesYet                 // so it is until a directory that is still empty is filled: no fault of the file
	refusesSome                // some logins are refused, or a file is not used
	isRisk                     // obeyed, and dangerous
	isChanged                  // means something else than to earlier versions of this program
	isMinor                    // no effect, not in use, tolerated
	isOld                      // told with --old: something else than to pam_pkcs11 0.6, or for any file
)

var noteWeights = map[config.NoteKind]weight{
	config.NoteRefuses:    refusesEvery,
	config.NoteInsecure:   isRisk,
	config.NotePermission: isRisk,
	config.NoteChanged:    isChanged,
	config.NoteNoEffect:   isMinor,
	config.NoteUnused:     isMinor,
	config.NoteTolerated:  isMinor,
	config.NoteGeneral:    isOld,
	config.NoteDifferent:  isOld,
}

// add adds a finding, once: several blocks may have the same.
func (i *inspection) add(w weight, kind, text string) {
	f := finding{weight: w, kind: kind, text: text}
	if !slices.Contains(i.findings, f) {
		i.findings = append(i.findings, f)
	}
}

// refuses adds what refuses every login, or every one with a card of a later block.
func (i *inspection) refuses(err error) {
	if i.later {
		i.add(refusesSome, "error", i.placed(err))
		return
	}
	i.add(refusesEvery, "error", i.placed(err))
}

// fault adds what is wrong with something that a key points to. What this user may not see is no fault of it: root
// may.
func (i *inspection) fault(w weight, err error) {
	switch {
	case hidden(err):
		i.add(refusesSome, "not looked at", i.placed(err)+" (run this as root)")
	case w == refusesEvery:
		i.refuses(err)
	default:
		i.add(w, "file", i.placed(err))
	}
}

// hidden reports whether a file could not be looked at only because this process is not root's.
func hidden(err error) bool { return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) }

// reports adds what safefile tolerates about a file.
func (i *inspection) reports(found []safefile.Report) {
	for _, r := range found {
		i.add(isRisk, config.NotePermission.String(), r.Path+": "+r.Problem)
	}
}

// has reports whether there is a finding of that weight.
func (i *inspection) has(w weight) bool {
	return slices.ContainsFunc(i.findings, func(f finding) bool { return f.weight == w })
}

// write prints a line for each finding, the heaviest first, and of one weight in the order in which they were found.
func (i *inspection) write(out io.Writer) error {
	slices.SortStableFunc(i.findings, func(a, b finding) int { return int(a.weight) - int(b.weight) })
	for _, f := range i.findings {
		if _, err := fmt.Fprintf(out, "%s [%s]\n", f.text, f.kind); err != nil {
			return err
		}
	}
	return nil
}

// warningFindings makes findings of what a login would log as a warning.
type warningFindings struct{ inspection *inspection }

// Enabled is for warnings and errors.
func (w warningFindings) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle adds a record as a risk.
func (w warningFindings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s %s", a.Key, a.Value)
		return true
	})
	w.inspection.add(isRisk, "warning", w.inspection.file+": "+text)
	return nil
}

// WithAttrs and WithGroup change nothing: attributes of a whole logger say whose record it is, which the text says.
func (w warningFindings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup is as WithAttrs.
func (w warningFindings) WithGroup(string) slog.Handler { return w }
