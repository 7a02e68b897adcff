package po

import (
	"strings"
	"testing"
	"unicode/utf8"
)

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

func TestNoMessageIsLongerThanPAMAllows(t *testing.T) {
	for _, label := range []string{strings.Repeat("x", 4096), strings.Repeat("\u00e8", 4096)} {
		got := New(nil).Getf("Welcome %s", label)
		if len(got) > MaxMessage || len(got) < MaxMessage-1 || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
	}
}
