// Command gencatalogs writes translations.go from the catalogues *.po in po, which are the
// module's, and in po/tool, which are those of the command-line tool. It is run by `make pot` in
// the top directory of the sources. A login thus reads no catalogue and has no parser of them.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/leonelquinteros/gotext"

	"pam_pkcs11/po"
)

// domains are the directories of catalogues, each a package of that name.
var domains = []string{"po", "po/tool"}

// outputFile is what is written in each.
const outputFile = "translations.go"

func main() { os.Exit(run(os.Stderr)) }

func run(stderr io.Writer) int {
	for _, directory := range domains {
		if err := generate(directory); err != nil {
			fmt.Fprintln(stderr, "gencatalogs:", err)
			return 1
		}
	}
	return 0
}

// generate writes the Go source of one directory.
func generate(directory string) error {
	catalogues, err := readAll(directory)
	if err != nil {
		return err
	}
	source, err := write(filepath.Base(directory), catalogues)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, outputFile), source, 0o644)
}

// catalogue is what one .po file says: message ids and their translations.
type catalogue struct {
	language     string
	translations map[string]string
}

// readAll reads the catalogues of a directory, in the order of their names.
func readAll(dir string) ([]catalogue, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.po"))
	if err != nil {
		return nil, err
	}

	var all []catalogue
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}

		c, err := read(strings.TrimSuffix(filepath.Base(name), ".po"), text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}

		all = append(all, c)
	}
	return all, nil
}

// read reads the text of a catalogue. A message that is not translated yet is left out; a
// translation that is unfit is an error.
func read(language string, text []byte) (catalogue, error) {
	if !utf8.Valid(text) {
		return catalogue{}, fmt.Errorf("not UTF-8")
	}
	p := gotext.NewPo()
	p.Parse(text)

	c := catalogue{language: language, translations: make(map[string]string)}
	for id, t := range p.GetDomain().GetTranslations() {
		translation := t.Get()
		// The entry with the empty id is the header.
		if id == "" || !t.IsTranslated() {
			continue
		}
		if err := po.Check(id, translation); err != nil {
			return catalogue{}, err
		}

		c.translations[id] = translation
	}
	return c, nil
}

// write returns the Go source of a package that holds the catalogues.
func write(name string, catalogues []catalogue) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(
		"// Code generated from the catalogues by \"make pot\"; DO NOT EDIT.\n\npackage " + name +
			"\n\n")
	b.WriteString(
		"// translations returns the message ids, sorted, each before its translation into the language.\n")
	b.WriteString("func translations(language string) []string {\n\tswitch language {\n")
	for i, c := range catalogues {
		fmt.Fprintf(&b, "\tcase %q:\n\t\treturn catalogue%d[:]\n", c.language, i)
	}
	b.WriteString("\t}\n\treturn nil\n}\n")

	for i, c := range catalogues {
		fmt.Fprintf(&b, "\nvar catalogue%d = [...]string{ // %s\n", i, c.language)
		// Sorted, so that the file changes only when a translation does.
		for _, id := range slices.Sorted(maps.Keys(c.translations)) {
			fmt.Fprintf(&b, "\t%q,\n\t%q,\n", id, c.translations[id])
		}
		b.WriteString("}\n")
	}
	return format.Source(b.Bytes())
}
