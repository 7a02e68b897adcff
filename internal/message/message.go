// Package message is a sentence for a person that is not yet in a language: the English format,
// which is its id in the catalogues of package po, and what its verbs stand for.
//
// A finding is made once, and shown in several ways: on a terminal in the user's language, in JSON
// and in logs in English, so that programs and administrators read the same everywhere.
package message

import (
	"encoding/json"
	"fmt"
)

// Text is one sentence, or a short phrase. The zero Text is empty.
type Text struct {
	Format string // with the verbs of fmt; whole sentences, never pieces that are put together
	Args   []any
}

// Textf makes a Text. The format must be a constant: it is what translators see.
func Textf(format string, args ...any) Text { return Text{Format: format, Args: args} }

// String is the text in English.
func (t Text) String() string {
	if len(t.Args) == 0 {
		return t.Format
	}
	return fmt.Sprintf(t.Format, t.Args...)
}

// Catalogue translates formats. *po.Catalog is one.
type Catalogue interface {
	Get(msgid string) string
	Getf(msgid string, args ...any) string
}

// In is the text in the language of a catalogue. Arguments that are texts themselves are
// translated, too. A nil catalogue is English.
func (t Text) In(c Catalogue) string {
	if c == nil || t.Format == "" {
		return t.String()
	}
	if len(t.Args) == 0 {
		return c.Get(t.Format)
	}

	args := make([]any, len(t.Args))
	for i, a := range t.Args {
		// A text within a text, as the reason of a refusal.
		if inner, ok := a.(Text); ok {
			a = inner.In(c)
		}
		args[i] = a
	}

	return c.Getf(t.Format, args...)
}

// Empty reports whether there is nothing to say.
func (t Text) Empty() bool { return t.Format == "" }

// MarshalJSON gives the English text as a string.
func (t Text) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }
