package login

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/pkcs11"
)

// TestExplainNoCard: each cause says what was found.
func TestExplainNoCard(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "pcscd.comm")
	t.Setenv("PCSCLITE_CSOCK_NAME", socket)
	token := func(label string, flags pkcs11.TokenFlags) *pkcs11.Token {
		return &pkcs11.Token{Label: label, Flags: flags}
	}
	const initialised = 0x400
	for name, tt := range map[string]struct {
		selector pkcs11.Selector
		slots    []pkcs11.Slot
		session  string
		outcome  Outcome
		sentence string
		words    []string
	}{
		"no daemon":       {pkcs11.Selector{}, nil, "", NoCard, MsgNoReaderService, []string{socket, "pcscd"}},
		"an empty reader": {pkcs11.Selector{}, []pkcs11.Slot{{Index: 1}}, "", NoCard, MsgNoCard, []string{"slot 1", "empty"}},
		"not initialised": {pkcs11.Selector{}, []pkcs11.Slot{{Index: 1, Token: token("x", 0)}}, "", NoCard, MsgNoCard,
			[]string{"not initialised"}},
		"another label": {pkcs11.Selector{TokenLabel: "mine"}, []pkcs11.Slot{{Index: 1, Token: token("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{`"other"`, `"mine"`}},
		"another slot": {pkcs11.Selector{SlotNum: 3}, []pkcs11.Slot{{Index: 1, Token: token("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{"slot_num is 3"}},
		"another description": {pkcs11.Selector{SlotDescription: "Reader Y"},
			[]pkcs11.Slot{{Index: 1, Description: "Reader X", Token: token("other", initialised)}}, "",
			NoCard, MsgNoSuitableCard, []string{`"Reader X"`, `"Reader Y"`}},
		"another session's card": {pkcs11.Selector{TokenLabel: "mine"}, []pkcs11.Slot{{Index: 1, Token: token("other", initialised)}}, "mine",
			NoCard, MsgNoSuitableCard, []string{"PKCS11_LOGIN_TOKEN_NAME"}},
		"not readable": {pkcs11.Selector{}, []pkcs11.Slot{{Index: 1, Err: pkcs11.CKR_TOKEN_NOT_RECOGNIZED}}, "",
			TokenUnreadable, MsgTokenUnreadable, []string{"CKR_TOKEN_NOT_RECOGNIZED"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{token: tt.session}
			r := a.noCard(tt.selector, tt.slots, "no card within 1s")
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
	r := (&attempt{}).noCard(pkcs11.Selector{}, nil, "")
	var why *NoCardError
	if r.message() != MsgNoReader || !errors.As(r, &why) || why.Service != nil {
		t.Errorf("with a daemon and no reader: %q, %v", r.message(), r)
	}
}
