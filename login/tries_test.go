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
		for _, n := range everyTries {
			for _, text := range []string{
				at.request(promptPIN, n, at.tokenType(conf)),
				at.request(promptNamedPIN, n, label),
				at.request(promptOldPIN, n, at.tokenType(conf)),
			} {
				if len(text) > po.MaxMessage || !strings.HasSuffix(text, ": ") || strings.Contains(text, "%!") {
					t.Errorf("%s: %d bytes, %q", language, len(text), text)
				}
			}
		}
	}
}

// everyTries are what the forms of a request are for.
var everyTries = []token.Tries{
	{},
	{Level: token.Few},
	{Level: token.Few, Left: 12, Counted: true},
	{Level: token.Last},
}

// TestWhatIsToldOfTries: a number where it is small, or smaller than the card has shown before.
func TestWhatIsToldOfTries(t *testing.T) {
	counted := func(l token.Level, left, most int) token.Tries {
		return token.Tries{Level: l, Left: left, Counted: true, Most: most}
	}
	at := &attempt{conf: &config.Config{}, text: po.New([]string{"en"})}

	for want, list := range map[string][]token.Tries{
		"Smart card PIN: ":                  {{}, counted(token.Untold, 3, 0), counted(token.Untold, 3, 3), counted(token.Untold, 8, 8)},
		"Smart card PIN (few tries left): ": {{Level: token.Few}},
		"Smart card PIN (2 tries left): ":   {counted(token.Few, 2, 0), counted(token.Untold, 2, 3), counted(token.Untold, 2, 0)},
		"Smart card PIN (3 tries left): ":   {counted(token.Few, 3, 0), counted(token.Untold, 3, 5)},
		"Smart card PIN (last try): ":       {{Level: token.Last}, counted(token.Few, 1, 3), counted(token.Untold, 1, 0)},
	} {
		for _, n := range list {
			if got := at.request(promptPIN, n, at.tokenType(at.conf)); got != want {
				t.Errorf("%+v: %q, want %q", n, got, want)
			}
		}
	}

	for _, n := range []token.Tries{{Level: token.Locked}, counted(token.Untold, 0, 3)} {
		if r := pinState(&token.Info{PIN: token.PIN{Required: true, Set: true, Tries: n}}); r == nil || r.Outcome != PINLocked {
			t.Errorf("%+v: %v", n, r)
		}
	}
}

// TestEachPromptTellsTheTriesInItsOwnWords: a form that is missing, or the same as another, would hide the last try.
func TestEachPromptTellsTheTriesInItsOwnWords(t *testing.T) {
	for _, b := range []byTries{promptPIN, promptNamedPIN, promptOldPIN, typeOnPad, changeOnPad} {
		for _, language := range []string{"en", "it"} {
			at := &attempt{conf: &config.Config{}, text: po.New([]string{language})}
			seen := make(map[string]bool)
			for _, n := range everyTries {
				seen[at.request(b, n)] = true
			}
			if len(seen) != len(everyTries) || seen[""] {
				t.Errorf("%s: %v", language, seen)
			}
		}
	}
}
