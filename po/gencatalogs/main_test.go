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
	catalogues, err := readAll(directory)
	if err != nil {
		t.Fatal(err)
	}
	if len(catalogues) == 0 {
		t.Fatalf("no catalogue in %s", directory)
	}
	want, err := write(catalogues)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(outputFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the catalogues say: run make pot", outputFile)
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

// messages returns the message ids of the template, which another test compares with login/messages.go.
func messages(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../pam_pkcs11.pot")
	if err != nil {
		t.Fatal(err)
	}
	template := gotext.NewPo()
	template.Parse(text)
	var ids []string
	for id := range template.GetDomain().GetTranslations() {
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
	names, err := filepath.Glob("../*.po")
	if err != nil || len(names) == 0 {
		t.Fatalf("no catalogue: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p := gotext.NewPo()
		p.Parse(text)
		translations := p.GetDomain().GetTranslations()
		ids := messages(t)
		for _, id := range ids {
			translation, ok := translations[id]
			if !ok {
				t.Errorf("%s: %q is not translated", name, id)
				continue
			}
			if err := po.Check(id, translation.Get()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if number := errorNumber(id); number != "" && !strings.Contains(translation.Get(), number) {
				t.Errorf("%s: the translation of %q does not keep its number", name, id)
			}
		}
		if extra := len(translations) - len(ids); extra > 1 { // the header is one
			t.Errorf("%s: %d translations of messages that are no longer there", name, extra-1)
		}
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
