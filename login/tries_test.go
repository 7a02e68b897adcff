package login

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/po"
)

// The flags of CK_TOKEN_INFO (PKCS#11 2.40, section 3.2).
const (
	countLow pkcs11.TokenFlags = 0x10000
	finalTry pkcs11.TokenFlags = 0x20000
	locked   pkcs11.TokenFlags = 0x40000
)

func TestWhatIsKnownOfTheTries(t *testing.T) {
	tests := []struct {
		flags   pkcs11.TokenFlags
		want    tries
		several bool
	}{
		{0, triesUntold, true},
		{0x40d, triesUntold, true},
		{countLow, triesFew, false},
		{finalTry, triesLast, false},
		{countLow | finalTry, triesLast, false},
		{locked, triesUntold, false},
	}
	for _, tt := range tests {
		if got := triesOf(tt.flags); got != tt.want || severalTriesLeft(tt.flags) != tt.several {
			t.Errorf("%#x: %d, several %v", uint(tt.flags), got, severalTriesLeft(tt.flags))
		}
	}
}

// TestNoPromptIsCut: whatever token and configuration call themselves, what stands behind it is seen.
func TestNoPromptIsCut(t *testing.T) {
	for _, language := range []string{"en", "it"} {
		conf := &config.Config{Module: config.Module{TokenType: strings.Repeat("\U0001F4B3", 300)}}
		at := &attempt{conf: conf, text: po.New([]string{language})}
		label := strings.Repeat("\u00e8", 32)
		for _, n := range []tries{triesUntold, triesFew, triesLast} {
			for _, text := range []string{
				at.say(promptPIN.text(n), at.tokenType()), at.say(promptNamedPIN.text(n), label), at.say(promptOldPIN.text(n), at.tokenType()),
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
			untold, few, last := text.Get(b.text(triesUntold)), text.Get(b.text(triesFew)), text.Get(b.text(triesLast))
			if untold == few || few == last || untold == last || untold == "" || few == "" || last == "" {
				t.Errorf("%s: %q, %q, %q", language, untold, few, last)
			}
		}
	}
}
