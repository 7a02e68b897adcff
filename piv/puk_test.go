package piv_test

import (
	"errors"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/token"
)

// TestStateOfThePUK: a card with metadata tells of its PUK; others tell nothing, and no try is spent.
func TestStateOfThePUK(t *testing.T) {
	puk := func(w *world) token.PUK {
		t.Helper()
		got, err := w.open(w.module()).(token.PUKTeller).PUK(w.ctx())
		if err != nil {
			t.Error(err)
		}
		return got
	}

	w := newWorld(t, yubikey5())
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	if got, want := puk(w), (token.PUK{Default: true, Tries: token.Tries{Left: 3, Most: 3, Counted: true}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	s := w.open(w.module())
	if err := s.Unblock(w.ctx(), newPIN(t, "00000000"), newPIN(t, "s3cr3t")); !errors.Is(err, token.ErrPINWrong) {
		t.Errorf("a wrong PUK: %v", err)
	}
	if got := puk(w).Tries; got != (token.Tries{Level: token.Few, Left: 2, Most: 3, Counted: true}) {
		t.Errorf("after a wrong PUK: %+v", got)
	}

	w = newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	if got := puk(w); got != (token.PUK{}) {
		t.Errorf("a card that does not tell: %+v", got)
	}
	if _, left := w.card.Tries(); left != 3 {
		t.Errorf("%d tries of the PUK are left", left)
	}
}
