package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/leonelquinteros/gotext"

	"pam_pkcs11/po"
)

func TestTheTranslationsAreUpToDate(t *testing.T) {
	t.Chdir("../..")
	for _, directory := range domains {
		t.Run(directory, func(t *testing.T) {
			catalogues, err := readAll(directory)
			if err != nil {
				t.Fatal(err)
			}
			if len(catalogues) == 0 {
				t.Fatalf("no catalogue in %s", directory)
			}
			want, err := write(filepath.Base(directory), catalogues)
			if err != nil {
				t.Fatal(err)
			}
			have, err := os.ReadFile(filepath.Join(directory, outputFile))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, want) {
				t.Errorf("%s is not what the catalogues say: run make pot", outputFile)
			}
		})
	}
}

func TestUnfitTranslations(t *testing.T) {
	entry := func(translation string) string {
		return fmt.Sprintf("msgid \"\"\nmsgstr \"\"\n\"Content-Type: text/plain; charset=UTF-8\\n\"\n\nmsgid \"Welcome %%s\"\nmsgstr \"%s\"\n", translation)
	}
	tests := map[string]struct {
		text  string
		want  string
		fails bool
	}{
		"a fitting one":        {text: entry("Benvenuto %s, 100%%"), want: "Benvenuto %s, 100%%"},
		"not translated yet":   {text: entry("")},
		"another verb":         {text: entry("Benvenuto %d"), fails: true},
		"a verb too many":      {text: entry("Benvenuto %s %s"), fails: true},
		"no verb":              {text: entry("Benvenuto"), fails: true},
		"another width":        {text: entry("Benvenuto %900000000s"), fails: true},
		"an indexed verb":      {text: entry("Benvenuto %[1]s"), fails: true},
		"a percent at the end": {text: entry("Benvenuto %s %"), fails: true},
		"longer than 512":      {text: entry("%s" + strings.Repeat("x", 511)), fails: true},
		"an escape sequence":   {text: entry("\x1b[2J%s"), fails: true},
		"two lines":            {text: entry(`%s\nPassword:`), fails: true},
		"Latin-1":              {text: entry("%s \xe8"), fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := read("xx", []byte(tt.text))
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if got := c.translations["Welcome %s"]; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// messages returns the message ids of a template, which another test compares with the sources.
func messages(t *testing.T, template string) []string {
	t.Helper()
	text, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	p := gotext.NewPo()
	p.Parse(text)
	var ids []string
	for id := range p.GetDomain().GetTranslations() {
		if id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) < 30 {
		t.Fatalf("the template has %d messages only", len(ids))
	}
	return ids
}

func TestEveryCatalogueIsCompleteAndFits(t *testing.T) {
	for directory, template := range map[string]string{"..": "../pam_pkcs11.pot", "../tool": "../tool/pam-pkcs11.pot"} {
		names, err := filepath.Glob(filepath.Join(directory, "*.po"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no catalogue in %s: %v", directory, err)
		}
		ids := messages(t, template)
		for _, name := range names {
			t.Run(name, func(t *testing.T) { completeAndFit(t, name, ids) })
		}
	}
}

// completeAndFit checks one catalogue: each message has a translation that fits, and there are no others.
func completeAndFit(t *testing.T, name string, ids []string) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := gotext.NewPo()
	p.Parse(text)
	translations := p.GetDomain().GetTranslations()

	for _, id := range ids {
		translation, ok := translations[id]
		if !ok || !translation.IsTranslated() { // Get returns the message itself where msgstr is empty
			t.Errorf("%q is not translated", id)
			continue
		}
		if err := po.Check(id, translation.Get()); err != nil {
			t.Error(err)
		}
		if number := errorNumber(id); number != "" && !strings.Contains(translation.Get(), number) {
			t.Errorf("the translation of %q does not keep its number", id)
		}
	}

	if extra := len(translations) - len(ids); extra > 1 { // the header is one
		t.Errorf("%d translations of messages that are no longer there", extra-1)
	}
}

// errorNumber returns the number of a message "Error 2302: ...", which help desks search for.
func errorNumber(id string) string {
	rest, ok := strings.CutPrefix(id, "Error ")
	if !ok {
		return ""
	}
	number, _, _ := strings.Cut(rest, ":")
	return number
}
