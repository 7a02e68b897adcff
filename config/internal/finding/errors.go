// Package finding is what is reported of a configuration: errors, for which the login is refused,
// and notes, each with its place in the file.
package finding

import (
	"fmt"
	"strings"
)

// MaxErrors bounds how many errors one file reports.
const MaxErrors = 20

// Error is a fault of the configuration for which the login is refused.
type Error struct {
	File string // path of the file, or "module arguments"
	Line int    // 1-based; for module arguments their number; 0 when no line is at fault
	Col  int    // 1-based, in bytes; 0 when unknown
	Text string // what is wrong, in English
	Hint string // what may have been meant, or which key restores the old behaviour; may be empty

	Cause error // for errors.Is; may be nil
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Error gives "file:line:col: text (hint)".
func (e *Error) Error() string {
	s := Place(e.File, e.Line, e.Col) + e.Text
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Place is "file:line:col: ", as far as it is known.
func Place(file string, line, col int) string {
	switch {
	case line == 0:
		return file + ": "
	case col == 0:
		return fmt.Sprintf("%s:%d: ", file, line)
	}
	return fmt.Sprintf("%s:%d:%d: ", file, line, col)
}

// Errors is every fault that was found, at most 20 and one that says that there were more.
type Errors []*Error

// Error joins all to one line, because the log takes one line.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives each error to errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Err is nil when there is no error: a nil Errors in an error interface would not be.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Add appends an error with its texts clipped. After MaxErrors it adds only one that says that
// there are more.
func (e *Errors) Add(one *Error) {
	one.Text = Clip(one.Text)
	one.Hint = Clip(one.Hint)

	switch {
	case len(*e) < MaxErrors:
		*e = append(*e, one)
	case len(*e) == MaxErrors:
		*e = append(*e, &Error{File: one.File, Text: "there are more errors"})
	}
}

// Full reports whether more errors would not be added.
func (e Errors) Full() bool { return len(e) > MaxErrors }

// maxText bounds a message: it may hold a word of the file.
const maxText = 500

// Clip cuts a message that is too long.
func Clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}

// Quote is a word of the file for a message.
func Quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}
