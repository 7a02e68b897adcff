package login

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// TestExplainNoCard: each cause says what was found.
func TestExplainNoCard(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "pcscd.comm")
	t.Setenv("PCSCLITE_CSOCK_NAME", socket)
	card := func(label string, initialised bool) *token.Info {
		return &token.Info{Label: label, Initialized: initialised}
	}
	const initialised = true
	for name, tt := range map[string]struct {
		selector token.Selector
		slots    []token.Slot
		session  string
		outcome  Outcome
		sentence string
		words    []string
	}{
		"no daemon":       {token.Selector{}, nil, "", NoCard, MsgNoReaderService, []string{socket, "pcscd"}},
		"an empty reader": {token.Selector{}, []token.Slot{{Index: 1}}, "", NoCard, MsgNoCard, []string{"slot 1", "empty"}},
		"not initialised": {token.Selector{}, []token.Slot{{Index: 1, Token: card("x", false)}}, "", NoCard, MsgNoCard,
			[]string{"not initialised"}},
		"another label": {token.Selector{TokenLabel: "mine"}, []token.Slot{{Index: 1, Token: card("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{`"other"`, `"mine"`}},
		"another slot": {token.Selector{SlotNum: 3}, []token.Slot{{Index: 1, Token: card("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{"slot_num is 3"}},
		"another description": {token.Selector{SlotDescription: "Reader Y"},
			[]token.Slot{{Index: 1, Description: "Reader X", Token: card("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{`"Reader X"`, `"Reader Y"`}},
		"another session's card": {token.Selector{TokenLabel: "mine"}, []token.Slot{{Index: 1, Token: card("other", initialised)}}, "mine",
			NoCard, MsgNoSuitableCard, []string{"PKCS11_LOGIN_TOKEN_NAME"}},
		"not readable": {token.Selector{}, []token.Slot{{Index: 1, Err: errors.New("CKR_TOKEN_NOT_RECOGNIZED")}}, "",
			TokenUnreadable, MsgTokenUnreadable, []string{"CKR_TOKEN_NOT_RECOGNIZED"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{conf: &config.Config{}, token: tt.session, selection: token.Selectors{tt.selector}}
			r := a.noCard(tt.slots, "no card within 1s")
			if r.Outcome != tt.outcome || r.message() != tt.sentence {
				t.Errorf("%v, %q", r.Outcome, r.message())
			}
			if want := map[bool]string{true: "foreign_card = skip"}[tt.outcome == TokenUnreadable]; r.Restore != want {
				t.Errorf("restore %q, want %q", r.Restore, want)
			}
			for _, word := range append(tt.words, "no card within 1s") {
				if !strings.Contains(r.Error(), word) {
					t.Errorf("%q does not say %q", r, word)
				}
			}
		})
	}

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := (&attempt{conf: &config.Config{}, selection: token.Selectors{{}}}).noCard(nil, "")
	var why *NoCardError
	if r.message() != MsgNoReader || !errors.As(r, &why) || why.Service != nil {
		t.Errorf("with a daemon and no reader: %q, %v", r.message(), r)
	}
}
