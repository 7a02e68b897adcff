package logintest

import (
	"context"
	"crypto/elliptic"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

const (
	right = "271828"
	wrong = "314159"
)

// opened opens the card in the first reader.
func opened(t *testing.T, r *Readers) (token.Module, token.Session) {
	t.Helper()
	m, err := r.Open(nil, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	slots, err := m.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Open(t.Context(), slots[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return m, s
}

func pinOf(t *testing.T, text string) *secret.PIN {
	t.Helper()
	p, err := secret.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signing chooses all that is shown, and has message signed.
func signing(message string, passed *[]error) token.Choose {
	return func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
		c := token.Choice{Message: func() ([]byte, error) { return []byte(message), nil }}
		c.Passed = func(_ token.Object, err error) { *passed = append(*passed, err) }
		for o, err := range shown {
			if err != nil {
				return c, err
			}
			c.Objects = append(c.Objects, o)
		}
		return c, nil
	}
}

func logIn(t *testing.T, s token.Session, pin string) error {
	t.Helper()
	_, err := s.LogInAndSign(t.Context(), pinOf(t, pin), func(iter.Seq2[token.Object, error]) (token.Choice, error) {
		return token.Choice{}, nil
	})
	return err
}

func shown(t *testing.T, s token.Session) []token.Object {
	t.Helper()
	var all []token.Object
	for o, err := range s.Certificates(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// TestKeysSign: the signature of each kind of key is good.
func TestKeysSign(t *testing.T) {
	ca := testca.NewRoot("Example CA", testca.WithKey(testca.P256()))
	for name, key := range map[string]*testca.Key{
		"RSA": testca.RSA(2048, "logintest"), "Ed25519": testca.Ed25519(), "P-256": testca.P256(),
		"P-384": testca.EC(elliptic.P384()), "P-521": testca.EC(elliptic.P521()),
	} {
		leaf := ca.Leaf("alice", testca.WithKey(key))
		_, s := opened(t, New(With("alice", right, leaf)))
		var passed []error
		sig, err := s.LogInAndSign(t.Context(), pinOf(t, right), signing("message", &passed))
		if err != nil || sig.Object != 0 || passed != nil {
			t.Fatalf("%s: %v, %v, %v", name, sig, err, passed)
		}
		cert, err := certinfo.Parse(leaf.DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify.CheckSignature(cert, sig.Scheme, []byte("message"), sig.Bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysAreTriedInOrder: a certificate without a key, and one whose key fails, are passed.
func TestKeysAreTriedInOrder(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	c := With("alice", right, ca.Leaf("a"), ca.Leaf("b"), ca.Leaf("c"))
	c.Objects[0].NoKey = true
	r := New(c)
	refused := errors.New("refused")
	r.FailAt("C_Sign", 1, refused)

	_, s := opened(t, r)
	var passed []error
	sig, err := s.LogInAndSign(t.Context(), pinOf(t, right), signing("message", &passed))
	if err != nil || sig.Object != 2 || !slices.Equal(passed, []error{token.ErrNoKey, refused}) {
		t.Errorf("%v, %v, passed %v", sig.Object, err, passed)
	}

	r.FailAt("C_Sign", 1, token.ErrRemoved)
	if _, err = s.LogInAndSign(t.Context(), pinOf(t, right), signing("m", &passed)); !errors.Is(err, token.ErrRemoved) {
		t.Errorf("%v", err)
	}
}

// TestTries: wrong PINs are counted, told as the card tells them, and lock it.
func TestTries(t *testing.T) {
	c := With("alice", right)
	c.Counts = true
	_, s := opened(t, New(c))
	for i, level := range []token.Level{token.Few, token.Last, token.Locked} {
		err := logIn(t, s, wrong)
		var e *token.Error
		if !errors.Is(err, token.ErrPINWrong) || !errors.As(err, &e) || e.Tries != (token.Tries{Level: level, Left: 2 - i, Counted: true}) {
			t.Errorf("wrong PIN %d: %v", i+1, err)
		}
		if i == 0 && s.Info().PIN.Tries.Level != token.Untold {
			t.Error("Info has changed without Refresh")
		}
		if info, err := s.Refresh(t.Context()); err != nil || info.PIN.Tries.Level != level || (level != token.Few) != (info.PIN.Said != "") {
			t.Errorf("%v, %v", info, err)
		}
	}
	if err := logIn(t, s, right); !errors.Is(err, token.ErrPINLocked) {
		t.Errorf("the right PIN of a locked card: %v", err)
	}

	silent := &Card{PIN: right, Silent: true, Wrong: 2}
	if silent.tries() != (token.Tries{}) {
		t.Errorf("%v", silent.tries())
	}
	silent.Wrong++
	if silent.tries().Level != token.Locked {
		t.Errorf("%v", silent.tries())
	}
}

// TestRightPINForgetsWrongOnes, as on a card.
func TestRightPINForgetsWrongOnes(t *testing.T) {
	c := With("alice", right)
	c.Wrong = 2
	_, s := opened(t, New(c))
	if err := logIn(t, s, right); err != nil || c.Wrong != 0 {
		t.Errorf("%v, %d wrong PINs", err, c.Wrong)
	}
}

func TestNoPIN(t *testing.T) {
	none := With("alice", "")
	_, s := opened(t, New(none))
	if err := logIn(t, s, right); !errors.Is(err, token.ErrPINNotSet) || s.Info().PIN.Set {
		t.Errorf("%v", err)
	}
	free := With("alice", "", testca.NewRoot("Example CA").Leaf("alice"))
	free.LogInNotRequired = true
	_, s = opened(t, New(free))
	if err := logIn(t, s, right); !errors.Is(err, token.ErrPINUnsupported) {
		t.Errorf("%v", err)
	}
	var passed []error
	sig, err := s.(token.PINless).SignWithoutPIN(t.Context(), nil, signing("m", &passed))
	if err != nil || len(sig.Bytes) == 0 {
		t.Errorf("%v", err)
	}
	_, s = opened(t, New(With("alice", right)))
	if _, err := s.(token.PINless).SignWithoutPIN(t.Context(), nil, signing("m", &passed)); err == nil {
		t.Error("a card with a PIN signs without it")
	}
}

// TestHiddenCertificates: they are there after the log-in, for choose too.
func TestHiddenCertificates(t *testing.T) {
	c := With("alice", right, testca.NewRoot("Example CA").Leaf("alice"))
	c.Hides = true
	_, s := opened(t, New(c))
	if n := len(shown(t, s)); n != 0 {
		t.Errorf("%d before", n)
	}
	var passed []error
	if sig, err := s.LogInAndSign(t.Context(), pinOf(t, right), signing("m", &passed)); err != nil || len(sig.Bytes) == 0 {
		t.Errorf("%v", err)
	}
	if n := len(shown(t, s)); n != 1 {
		t.Errorf("%d after", n)
	}
}

// TestCertificatesThatCannotBeUsed are shown with the reason.
func TestCertificatesThatCannotBeUsed(t *testing.T) {
	broken := errors.New("cannot be read")
	c := With("alice", right, testca.NewRoot("Example CA").Leaf("alice"))
	c.Objects = append(c.Objects, Object{Err: broken}, Object{Cert: &testca.Cert{DER: []byte{0x30, 3, 1, 1, 0xff}}})
	_, s := opened(t, New(c))
	all := shown(t, s)
	if len(all) != 3 || all[0].Err != nil || all[1].Err != broken || all[2].Err == nil || all[2].Cert != nil || all[2].Value == nil {
		t.Errorf("%+v", all)
	}
}

// TestPINPad: what is typed at the reader, and twice where the key wants it.
func TestPINPad(t *testing.T) {
	c := With("alice", right, testca.NewRoot("Example CA").Leaf("alice"))
	c.AtReader, c.Typed = true, []string{right, right, right}
	c.Objects[0].PINAgain = true
	r := New(c)
	_, s := opened(t, r)

	var events []string
	done := func(what string) func() { return func() { events = append(events, what) } }
	choose := func(all iter.Seq2[token.Object, error]) (token.Choice, error) {
		var passed []error
		choice, err := signing("m", &passed)(all)
		choice.Signing = func(use token.KeyUse) func() {
			if !use.PINAgain {
				t.Error("the second PIN is not announced")
			}
			done("signing")()
			return done("signed")
		}
		choice.PINAgain = func() (func(), error) { done("again")(); return done("typed"), nil }
		return choice, err
	}
	if _, err := s.LogInAndSign(t.Context(), nil, choose); err != nil || strings.Join(events, " ") != "signing again typed signed" {
		t.Errorf("%v after %q", err, events)
	}
	if _, err := s.LogInAndSign(t.Context(), nil, choose); !errors.Is(err, token.ErrCancelled) {
		t.Errorf("%v", err)
	}
	if n := r.Count("C_Login"); n != 4 {
		t.Errorf("%d PINs", n)
	}

	_, s = opened(t, New(With("bob", right)))
	if _, err := s.LogInAndSign(t.Context(), nil, choose); err == nil {
		t.Error("a reader without a keypad takes a PIN there")
	}
}

// TestTheCardThatWasOpened is the one that gets the PIN, or none.
func TestTheCardThatWasOpened(t *testing.T) {
	c := With("alice", right)
	for name, tt := range map[string]struct {
		now  *Card
		want error
	}{
		"removed": {nil, token.ErrRemoved}, "exchanged": {With("bob", right), token.ErrOtherCard},
	} {
		r := New(c)
		_, s := opened(t, r)
		r.Insert(0, tt.now)
		_, refresh := s.Refresh(t.Context())
		change := s.ChangePIN(t.Context(), pinOf(t, right), pinOf(t, wrong))
		for call, err := range map[string]error{"LogInAndSign": logIn(t, s, wrong), "Refresh": refresh, "ChangePIN": change} {
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: %v", name, call, err)
			}
		}
		if tt.now != nil && tt.now.Wrong != 0 || c.Wrong != 0 || s.Info().Label != "alice" {
			t.Errorf("%s: a PIN reached a card", name)
		}
	}

	r := New(c)
	_, s := opened(t, r)
	r.Insert(0, nil)
	r.Insert(0, c)
	if err := logIn(t, s, right); err != nil {
		t.Errorf("the same card again: %v", err)
	}
}

func TestChangePIN(t *testing.T) {
	c := With("alice", right)
	c.MinPIN, c.MaxPIN = 4, 8
	r := New(c)
	m, s := opened(t, r)
	if err := s.ChangePIN(t.Context(), pinOf(t, wrong), pinOf(t, "1234")); !errors.Is(err, token.ErrPINWrong) || c.Wrong != 1 {
		t.Errorf("%v", err)
	}
	if err := logIn(t, s, right); err == nil {
		t.Error("the session is used after the change")
	}
	again := func() token.Session {
		slots, err := m.Slots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Open(t.Context(), slots[0])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := again().ChangePIN(t.Context(), pinOf(t, right), pinOf(t, "1")); !errors.Is(err, token.ErrPINFormat) || c.PIN != right {
		t.Errorf("%v", err)
	}
	if err := again().ChangePIN(t.Context(), pinOf(t, right), pinOf(t, "1234")); err != nil || c.PIN != "1234" {
		t.Errorf("%v", err)
	}

	c.AtReader = true
	for typed, want := range map[string]error{"1234 9999 8888": token.ErrCancelled, "1234": token.ErrCancelled, "1234 9999 9999": nil} {
		r.Change(func() { c.PIN, c.Typed = "1234", strings.Fields(typed) })
		if err := again().ChangePIN(t.Context(), nil, nil); !errors.Is(err, want) || (err == nil) != (c.PIN == "9999") {
			t.Errorf("%s: %v", typed, err)
		}
	}
}

func TestUnblock(t *testing.T) {
	c := With("alice", right)
	c.Wrong = 3
	_, s := opened(t, New(c))
	if err := s.Unblock(t.Context(), pinOf(t, "puk"), pinOf(t, wrong)); !errors.Is(err, token.ErrNotSupported) {
		t.Errorf("%v", err)
	}
	c.PUK = "puk"
	if err := s.Unblock(t.Context(), pinOf(t, "kup"), pinOf(t, wrong)); !errors.Is(err, token.ErrPINWrong) {
		t.Errorf("%v", err)
	}
	if err := s.Unblock(t.Context(), pinOf(t, "puk"), pinOf(t, "")); !errors.Is(err, token.ErrPINFormat) {
		t.Errorf("%v", err)
	}
	if err := s.Unblock(t.Context(), pinOf(t, "puk"), pinOf(t, wrong)); err != nil || logIn(t, s, wrong) != nil {
		t.Errorf("%v", err)
	}
}

// TestWait: a change since the last Slots, or from now on, ends it.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil)
		m, err := r.Open(nil, token.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if _, err := m.Slots(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { r.Insert(0, With("alice", right)) })
		start := time.Now()
		if err := m.Wait(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if err := m.Wait(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		slots, err := m.Slots(t.Context())
		if err != nil || slots[0].Token.Label != "alice" {
			t.Errorf("%v, %v", slots, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		r.CannotWait = true
		if err := m.Wait(t.Context()); err != token.ErrNoWait {
			t.Errorf("%v", err)
		}
	})
}

// TestBrokenReader: a card that cannot be read concerns no other.
func TestBrokenReader(t *testing.T) {
	r := New(With("alice", right), With("bob", right))
	m, s := opened(t, r)
	r.Break(0, token.ErrFault)
	slots, err := m.Slots(t.Context())
	if err != nil || slots[0].Token != nil || slots[0].Err != token.ErrFault || slots[1].Token == nil {
		t.Errorf("%+v, %v", slots, err)
	}
	if err := logIn(t, s, right); !errors.Is(err, token.ErrFault) {
		t.Errorf("%v", err)
	}
}

// TestHappenings: each call can fail, wait, and change the world before it begins.
func TestHappenings(t *testing.T) {
	fault := errors.New("a fault")
	r := New(With("alice", right))
	r.Fail("Prepare", fault)
	if err := r.Prepare(nil); err != fault {
		t.Errorf("%v", err)
	}
	r.FailAt("C_Initialize", 1, fault)
	if _, err := r.Open(nil, token.Options{}); err != fault {
		t.Errorf("%v", err)
	}
	m, s := opened(t, r)
	r.Before("C_GetTokenInfo", func(context.Context) error { r.Insert(0, nil); return nil })
	if _, err := s.Refresh(t.Context()); !errors.Is(err, token.ErrRemoved) {
		t.Errorf("%v", err)
	}

	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.Hang("C_GetSlotList")
		if _, err := m.Slots(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, err := m.Slots(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end: %v", err)
		}
	})
	want := []string{"Prepare", "C_Initialize", "C_Initialize", "C_GetSlotList", "C_OpenSession", "C_GetTokenInfo", "C_GetSlotList"}
	if got := r.Calls(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestCloseTellsOfBoth: that the card is not locked and that the session is not closed.
func TestCloseTellsOfBoth(t *testing.T) {
	r := New(With("alice", right))
	m, err := r.Open(nil, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	slots, _ := m.Slots(t.Context())
	s, err := m.Open(t.Context(), slots[0])
	if err != nil || logIn(t, s, right) != nil {
		t.Fatal(err)
	}
	if n := r.Sessions(); n != 1 {
		t.Errorf("%d sessions are open", n)
	}
	one, two := errors.New("one"), errors.New("two")
	r.Fail("C_Logout", one)
	r.Fail("C_CloseSession", two)
	if err := s.Close(); !errors.Is(err, one) || !errors.Is(err, two) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil || r.Sessions() != 0 {
		t.Errorf("a second time: %v, %d sessions are open", err, r.Sessions())
	}
	if err := logIn(t, s, right); err == nil {
		t.Error("a closed session logs in")
	}
	r.Fail("C_Finalize", one)
	if err := m.Close(); err != one || m.Close() != nil {
		t.Errorf("%v", err)
	}
}

// TestMisuse: whoever breaks the rules of package token is told at once.
func TestMisuse(t *testing.T) {
	r := New(With("alice", right))
	m, _ := opened(t, r)
	panics := func(what string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s is taken", what)
			}
		}()
		f()
	}
	r.Before("C_GetSlotList", func(ctx context.Context) error {
		panics("a call within a call", func() { _, _ = m.Slots(ctx) })
		return nil
	})
	if _, err := m.Slots(t.Context()); err != nil {
		t.Error(err)
	}

	closed, err := New(nil).Open(nil, token.Options{})
	if err != nil || closed.Close() != nil {
		t.Fatal(err)
	}
	panics("a call after the end", func() { _, _ = closed.Slots(t.Context()) })
}
