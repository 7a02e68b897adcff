package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/po"
	"pam_pkcs11/po/tool"
	"pam_pkcs11/token"
)

// output is where and how a subcommand says what was asked for.
type output struct {
	out       io.Writer
	catalogue message.Catalogue // of the user's language; nil: English
	json      bool              // for a program
	colour    bool              // at a terminal whose user has not set NO_COLOR
	width     int               // of the terminal, in columns; 80 where there is none
}

// outputOf is that of a command. jsonFlag has been called for it where it can answer in JSON.
func outputOf(cmd *cobra.Command) *output {
	o := &output{out: cmd.OutOrStdout(), catalogue: userCatalogue(), width: 80}
	o.json, _ = cmd.Flags().GetBool("json")

	file, isFile := o.out.(*os.File)
	if !isFile || o.json || !term.IsTerminal(int(file.Fd())) {
		return o
	}
	o.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
		o.width = columns
	}
	return o
}

// jsonFlag gives a command the flag --json.
func jsonFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "answer in JSON, in English, for programs")
}

// userCatalogue is that of the language which the environment asks for.
func userCatalogue() message.Catalogue { return tool.New(po.Languages(os.Getenv)) }

// say prints a sentence on a line of its own, in the user's language.
func (o *output) say(format string, args ...any) error {
	_, err := fmt.Fprintln(o.out, message.Textf(format, args...).In(o.catalogue))
	return err
}

// encode prints a value as indented JSON, in which a terminal shows each character as it is: texts of cards,
// certificates and logs may hold controls of its own.
func (o *output) encode(value any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(o.out, escaped(b.String()))
	return err
}

// escaped writes what a terminal may not show in JSON as \u: outside of its strings JSON has no such character.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.String()
}

// findings prints each finding: what is so on one line, its cure on the next. Whatever a card, a file or a user has put
// into them, they stay on their lines, and a terminal shows them as they are.
func (o *output) findings(list diagnosis.Findings) error {
	for _, f := range list {
		fact := shown(f.Subject + ": " + f.Fact.In(o.catalogue))
		if _, err := fmt.Fprintf(o.out, "%s %s\n", o.mark(f.Severity), o.within(fact, findingColumn)); err != nil {
			return err
		}
		if f.Remedy.Empty() {
			continue
		}
		cure := shown(f.Remedy.In(o.catalogue))
		if _, err := fmt.Fprintf(o.out, "%*s %s\n", findingColumn, "->", o.within(cure, findingColumn+1)); err != nil {
			return err
		}
	}
	return nil
}

// findingColumn is where the facts of findings begin, behind their marks.
const findingColumn = 8

// within breaks a text that begins at a column into lines of the terminal, between words; the others begin there too.
// Elsewhere it stays one line.
func (o *output) within(text string, column int) string {
	width := o.columns()
	if column+utf8.RuneCountInString(text) <= width {
		return text
	}
	lines := strings.TrimSuffix(wrapped(text, "", max(width-column, 1)), "\n")
	return strings.ReplaceAll(lines, "\n", "\n"+strings.Repeat(" ", column))
}

// shown is a text as a terminal shows it, on one line.
func shown(text string) string {
	return token.Printable(strings.NewReplacer("\n", "; ", "\t", " ").Replace(text))
}

// marks are the words in front of findings, all of one width, and their colours (ECMA-48).
var marks = map[diagnosis.Severity]struct{ word, colour string }{
	diagnosis.OK:      {"ok     ", "32"},
	diagnosis.Note:    {"note   ", "36"},
	diagnosis.Warning: {"warning", "33"},
	diagnosis.Refusal: {"refusal", "31"},
}

// mark is the word for a severity.
func (o *output) mark(s diagnosis.Severity) string {
	m := marks[s]
	if !o.colour {
		return m.word
	}
	return "\x1b[" + m.colour + "m" + m.word + "\x1b[0m"
}
