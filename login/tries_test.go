package login

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/po"
	"pam_pkcs11/token"
)

// TestNoPromptIsCut: whatever token and configuration call themselves, what stands behind it is seen.
func TestNoPromptIsCut(t *testing.T) {
	for _, language := range []string{"en", "it"} {
		conf := &config.Config{Module: config.Module{TokenType: strings.Repeat("\U0001F4B3", 300)}}
		at := &attempt{conf: conf, text: po.New([]string{language})}
		label := strings.Repeat("\u00e8", 32)
		for _, n := range []token.Level{token.Untold, token.Few, token.Last} {
			for _, text := range []string{
				at.say(promptPIN.text(n), at.tokenType(conf)), at.say(promptNamedPIN.text(n), label), at.say(promptOldPIN.text(n), at.tokenType(conf)),
			} {
				if len(text) > po.MaxMessage || !strings.HasSuffix(text, ": ") {
					t.Errorf("%s: %d bytes, %q", language, len(text), text)
				}
			}
		}
	}
}

// TestEachPromptTellsTheTriesInItsOwnWords: a form that is missing, or the same as another, would hide the last try.
func TestEachPromptTellsTheTriesInItsOwnWords(t *testing.T) {
	for _, b := range []byTries{promptPIN, promptNamedPIN, promptOldPIN, typeOnPad, changeOnPad} {
		for _, language := range []string{"en", "it"} {
			text := po.New([]string{language})
			untold, few, last := text.Get(b.text(token.Untold)), text.Get(b.text(token.Few)), text.Get(b.text(token.Last))
			if untold == few || few == last || untold == last || untold == "" || few == "" || last == "" {
				t.Errorf("%s: %q, %q, %q", language, untold, few, last)
			}
		}
	}
}
