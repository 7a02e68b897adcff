package po

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/leonelquinteros/gotext"
)

// messages returns the message ids of the template, which another test compares with login/messages.go.
func messages(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("pam_pkcs11.pot")
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
	names, err := fs.Glob(catalogues, "*.po")
	if err != nil || len(names) == 0 {
		t.Fatalf("no catalogue: %v", err)
	}
	for _, name := range names {
		text, err := catalogues.ReadFile(name)
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
			if err := Check(id, translation.Get()); err != nil {
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

func TestMessages(t *testing.T) {
	const pin, wrong = "PIN of %s: ", "Error 2320: wrong smart card PIN"
	tests := map[string]struct {
		languages []string
		want, pin string
	}{
		"nothing asked for":                    {nil, wrong, "PIN of alice: "},
		"Italian":                              {[]string{"it"}, "Errore 2320: PIN della smart card errato", "PIN di alice: "},
		"Italian of Switzerland":               {[]string{"it_CH"}, "Errore 2320: PIN della smart card errato", "PIN di alice: "},
		"a language that is not there, first":  {[]string{"xx", "it_IT"}, "Errore 2320: PIN della smart card errato", "PIN di alice: "},
		"English before Italian":               {[]string{"en_GB", "it"}, wrong, "PIN of alice: "},
		"C before Italian":                     {[]string{"C", "it"}, wrong, "PIN of alice: "},
		"a path in place of a language":        {[]string{"../po/it", "/etc/passwd", ""}, wrong, "PIN of alice: "},
		"a language that is not there, at all": {[]string{"xx"}, wrong, "PIN of alice: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := New(tt.languages)
			if got := c.Get(wrong); got != tt.want {
				t.Errorf("Get: %q, want %q", got, tt.want)
			}
			if got := c.Getf(pin, "alice"); got != tt.pin {
				t.Errorf("Getf: %q, want %q", got, tt.pin)
			}
		})
	}
}

func TestTheNilCatalogueSpeaksEnglish(t *testing.T) {
	var c *Catalog
	if got := c.Getf("Welcome %s", "alice"); got != "Welcome alice" || c.Language() != "en" {
		t.Errorf("%q in %q", got, c.Language())
	}
}

func TestUnfitTranslationsAreNotUsed(t *testing.T) {
	entry := func(translation string) string {
		return fmt.Sprintf("msgid \"\"\nmsgstr \"\"\n\"Content-Type: text/plain; charset=UTF-8\\n\"\n\nmsgid \"Welcome %%s\"\nmsgstr \"%s\"\n", translation)
	}
	tests := map[string]struct{ text, want string }{
		"a fitting one":        {entry("Benvenuto %s, 100%%"), "Benvenuto alice, 100%"},
		"another verb":         {entry("Benvenuto %d"), "Welcome alice"},
		"a verb too many":      {entry("Benvenuto %s %s"), "Welcome alice"},
		"no verb":              {entry("Benvenuto"), "Welcome alice"},
		"another width":        {entry("Benvenuto %900000000s"), "Welcome alice"},
		"an indexed verb":      {entry("Benvenuto %[1]s"), "Welcome alice"},
		"a percent at the end": {entry("Benvenuto %s %"), "Welcome alice"},
		"an empty one":         {entry(""), "Welcome alice"},
		"longer than 512":      {entry("%s" + strings.Repeat("x", 511)), "Welcome alice"},
		"an escape sequence":   {entry("\x1b[2J%s"), "Welcome alice"},
		"two lines":            {entry(`%s\nPassword:`), "Welcome alice"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parse("xx", []byte(tt.text)).Getf("Welcome %s", "alice"); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestNoMessageIsLongerThanPAMAllows(t *testing.T) {
	for _, label := range []string{strings.Repeat("x", 4096), strings.Repeat("\u00e8", 4096)} {
		got := New(nil).Getf("Welcome %s", label)
		if len(got) > MaxMessage || len(got) < MaxMessage-1 || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
	}
}

func FuzzParse(f *testing.F) {
	it, err := catalogues.ReadFile("it.po")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(it[:2000]))
	f.Add("msgid \"Welcome %s\"\nmsgstr \"%s\"")
	f.Add("msgid \"a\"\nmsgid_plural \"b\"\nmsgstr[0] \"c\"\nmsgstr[99999999] \"d\"")
	f.Add("\"Plural-Forms: nplurals=2; plural=(n/0);\\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		c := parse("xx", []byte(text))
		for _, id := range []string{"", "Welcome %s", "a", "b"} {
			got := c.Getf(id, "alice")
			if len(got) > MaxMessage || strings.Contains(got, "%!") && !strings.Contains(got, "EXTRA") {
				t.Errorf("%q gives %q", id, got)
			}
			c.Get(id)
		}
	})
}
