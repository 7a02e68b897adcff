package confcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/safefile"
)

// add adds a finding, once: several blocks may have the same.
func (i *inspection) add(w Weight, kind, text string) {
	f := Finding{Weight: w, Kind: kind, Text: text}
	if !slices.Contains(i.Findings, f) {
		i.Findings = append(i.Findings, f)
	}
}

// refuses adds what refuses every login, or every one with a card of a later block.
func (i *inspection) refuses(err error) {
	if i.later {
		i.add(RefusesSome, KindError, i.placed(err))
		return
	}
	i.add(RefusesEvery, KindError, i.placed(err))
}

// fault adds what is wrong with something that a key points to. What this user may not read is no
// fault of it: root may.
func (i *inspection) fault(w Weight, err error) {
	switch {
	case hidden(err):
		i.add(RefusesSome, KindNotLooked, i.placed(err)+" (run this as root)")
	case w == RefusesEvery:
		i.refuses(err)
	default:
		i.add(w, KindFile, i.placed(err))
	}
}

// hidden reports whether a file could not be looked at only because this process is not root's.
func hidden(err error) bool { return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) }

// reports adds what safefile tolerates about a file.
func (i *inspection) reports(found []safefile.Report) {
	for _, r := range found {
		i.add(Risk, config.NotePermission.String(), r.Path+": "+r.Problem)
	}
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
	w.inspection.add(Risk, KindWarning, w.inspection.File+": "+text)
	return nil
}

// WithAttrs and WithGroup change nothing: attributes of a whole logger say whose record it is,
// which the text says.
func (w warningFindings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup is as WithAttrs.
func (w warningFindings) WithGroup(string) slog.Handler { return w }
