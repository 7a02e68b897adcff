package pkcs11_test

import (
	"errors"
	"slices"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/token"
)

const soPIN = "12345678" // of pkcs11test

// TestUnblock: where the library documents it, the SO's PIN sets a new PIN, once for each call, and the
// token is locked again.
func TestUnblock(t *testing.T) {
	var calls []string
	m := load(t, card(t, object(testca.P256(), "\x01")), func(c string) { calls = append(calls, c) })
	var s token.Session
	fresh := func() token.Session { // the SO logs in only where no session reads
		t.Helper()
		if s != nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s = opened(t, m)
		return s
	}
	s = fresh()
	teller, ok := s.(token.PUKTeller)
	if !ok {
		t.Fatal("the session tells nothing of the PUK")
	}
	if puk, err := teller.PUK(t.Context()); err != nil || puk.Tries.Level != token.Untold || puk.Default {
		t.Errorf("%+v, %v", puk, err)
	}

	calls = nil
	if err := s.Unblock(t.Context(), pinOf(t, "00000000"), pinOf(t, "222222")); !errors.Is(err, token.ErrPINWrong) {
		t.Errorf("a wrong PUK: %v", err)
	}
	if slices.Contains(calls, "C_InitPIN") {
		t.Errorf("a PIN was set after a wrong PUK: %q", calls)
	}
	if puk, err := teller.PUK(t.Context()); err != nil || puk.Tries.Level != token.Few {
		t.Errorf("after a wrong PUK: %+v, %v", puk, err)
	}

	if err := fresh().Unblock(t.Context(), pinOf(t, soPIN), pinOf(t, "1")); !errors.Is(err, token.ErrPINFormat) {
		t.Errorf("a PIN that is too short: %v", err)
	}
	for _, empty := range []*struct{ puk, pin string }{{"", "222222"}, {soPIN, ""}} {
		if err := fresh().Unblock(t.Context(), pinOf(t, empty.puk), pinOf(t, empty.pin)); !errors.Is(err, token.ErrPINFormat) {
			t.Errorf("%+v: %v", *empty, err)
		}
	}

	calls = nil
	s = fresh()
	if err := errors.Join(s.Unblock(t.Context(), pinOf(t, soPIN), pinOf(t, "222222")), s.Close()); err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]int{"C_Login": 1, "C_InitPIN": 1, "C_Logout": 1} {
		n := 0
		for _, c := range calls {
			if c == call {
				n++
			}
		}
		if n != want {
			t.Errorf("%d %s, want %d: %q", n, call, want, calls)
		}
	}

	s = fresh()
	choose, _ := choosing(shownBy(t, s), "m")
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose); !errors.Is(err, token.ErrPINWrong) {
		t.Errorf("the old PIN: %v", err)
	}
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, "222222"), choose); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
}
