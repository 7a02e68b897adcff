// Package po serves the sentences that a user can see in the user's own language.
//
// A message id is the English sentence itself, as it stands in login/messages.go; English therefore
// needs no catalogue and is what is left whenever a translation is missing. The catalogues are the
// .po files of this directory; `make pot` checks them and writes them into translations.go, so that
// a login parses none. The locale of the process is neither read nor changed: the caller says which
// languages are wanted.
package po

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxMessage is the longest message in bytes that Get and Getf return: PAM_MAX_MSG_SIZE of
// Linux-PAM.
const MaxMessage = 512

// Catalog translates messages into one language. The nil Catalog and the zero Catalog answer in
// English. It may be used by several goroutines at once.
type Catalog struct {
	language     string
	longest      int // of an answer, in bytes; 0 is MaxMessage
	translations map[string]string
}

// Table holds catalogues: for a language the message ids, each before its translation, and nil
// where there is no catalogue of exactly that name.
type Table func(language string) []string

// New returns the catalogue of the first of the given languages that there is, in the form that
// Languages returns; for every language it also tries the language without its country ("it" for
// "it_CH"). "en", "C" and "POSIX" end the search in English, and so does an empty list.
func New(languages []string) *Catalog { return From(translations, MaxMessage, languages) }

// From is New for another program's sentences: those of a table, with answers of at most longest
// bytes.
func From(table Table, longest int, languages []string) *Catalog {
	for _, language := range languages {
		if isEnglish(language) {
			break
		}
		for _, name := range fallbacks(language) {
			if c := load(table, name); c != nil {
				c.longest = longest
				return c
			}
		}
	}
	return &Catalog{longest: longest}
}

// load returns the catalogue of exactly that name, nil when there is none.
func load(table Table, language string) *Catalog {
	pairs := table(language)
	if pairs == nil {
		return nil
	}

	c := &Catalog{language: language, translations: make(map[string]string, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		c.translations[pairs[i]] = pairs[i+1]
	}

	return c
}

// Language returns the name of the catalogue in use, for example "it", or "en".
func (c *Catalog) Language() string {
	if c == nil || c.translations == nil {
		return "en"
	}
	return c.language
}

// Get returns the translation of a message without verbs, at most MaxMessage bytes long, or what
// From was given.
func (c *Catalog) Get(msgid string) string {
	return c.limit(c.lookup(msgid))
}

// Getf returns the translation of a message with its verbs filled in by args, no longer than Get's.
// The verbs of every translation are those of its message id, in the same order (see Check).
func (c *Catalog) Getf(msgid string, args ...any) string {
	if len(args) == 0 {
		return c.Get(msgid)
	}
	return c.limit(fmt.Sprintf(c.lookup(msgid), args...))
}

// lookup returns a fitting translation, else the message id.
func (c *Catalog) lookup(msgid string) string {
	if c == nil {
		return msgid
	}
	if translation, ok := c.translations[msgid]; ok {
		return translation
	}
	return msgid
}

// Check returns an error where a translation cannot stand in for a message id: it must not be empty
// and not longer than MaxMessage, be valid UTF-8 without control characters, and have the same
// verbs in the same order.
func Check(msgid, translation string) error {
	switch {
	case translation == "":
		return fmt.Errorf("%q: no translation", msgid)
	case len(translation) > MaxMessage:
		return fmt.Errorf("%q: the translation is %d bytes long, more than %d", msgid,
			len(translation), MaxMessage)
	case !utf8.ValidString(translation):
		return fmt.Errorf("%q: the translation is not UTF-8", msgid)
	case strings.ContainsFunc(translation, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q: the translation has a control character", msgid)
	}

	// Sprintf would fill a wrong verb with the wrong argument, or complain in front of the user.
	want, got := verbs(msgid), verbs(translation)
	if strings.Join(want, " ") != strings.Join(got, " ") {
		return fmt.Errorf("%q: the translation has the verbs %q, not %q", msgid, got, want)
	}
	return nil
}

// verbs returns the verbs of a format in their order, each with its flags; "%%" is none, and a "%"
// at the very end counts as a verb, because Sprintf would complain about it.
func verbs(format string) []string {
	var found []string
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		start := i
		for i++; i < len(format) && strings.IndexByte("+-# 0123456789.[]*", format[i]) >= 0; i++ {
		}

		if i < len(format) && format[i] == '%' && i == start+1 {
			continue
		}

		found = append(found, format[start:min(i+1, len(format))])
	}
	return found
}

// limit cuts a message to what the catalogue answers at most, without splitting a character.
func (c *Catalog) limit(s string) string {
	longest := MaxMessage
	if c != nil && c.longest > 0 {
		longest = c.longest
	}
	if len(s) <= longest {
		return s
	}

	end := longest
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
