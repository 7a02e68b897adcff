package inventory

import (
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/internal/probe"
)

// TestLibraryFinding: which cards a library knows, or why it does not work, printable.
func TestLibraryFinding(t *testing.T) {
	two := []probe.Slot{
		{Card: &probe.Card{Label: "a\x1b[31m"}},
		{},
		{Card: &probe.Card{Label: "b"}, Failure: &probe.Failure{Text: "mute"}},
	}
	for _, tt := range []struct {
		answer *probe.Answer
		err    error
		want   string
	}{
		{answer: &probe.Answer{Slots: two}, want: "knows: \"a"},
		{answer: &probe.Answer{Slots: two[1:]}, want: "sees no card."},
		{answer: &probe.Answer{Failure: &probe.Failure{Text: "PKCS#11 library /x.so: file too short"}}, want: "does not work: file too short"},
		{err: &probe.Ended{Signal: "SIGSEGV"}, want: "does not work: it crashed: SIGSEGV"},
		{err: &probe.Ended{Hangs: true}, want: "does not work: it did not answer in time"},
		{err: errors.New("no child\x1b"), want: "does not work: no child"},
	} {
		f := libraryFinding("/x.so", tt.answer, tt.err)
		if fact := f.Fact.String(); !strings.Contains(fact, tt.want) || strings.Contains(fact, "\x1b") || strings.Contains(fact, `"b"`) {
			t.Errorf("%+v %v: %s", tt.answer, tt.err, fact)
		}
	}
}
