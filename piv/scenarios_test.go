package piv_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv"
	"pam_pkcs11/token"
)

// inBothForms runs a test over the resource manager in the process, and over a daemon's socket; or over
// Debian's daemon when PCSCD_UNDER_TEST is "system".
func inBothForms(t *testing.T, o simcard.Options, test func(t *testing.T, w *world)) {
	if stockIsTested() {
		test(t, newWorld(t, o))
		return
	}
	t.Run("process", func(t *testing.T) { test(t, newWorld(t, o)) })
	t.Run("socket", func(t *testing.T) {
		w := newWorld(t, o)
		w.overSocket()
		test(t, w)
	})
}

// expect fails the test unless err is of a kind.
func expect(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// spent fails the test unless as many PINs were sent as were typed, and so many tries are left.
func (w *world) spent(typed, left int) {
	w.t.Helper()
	if n := w.card.Verifies(); n != typed {
		w.t.Errorf("%d PINs were sent, %d were typed", n, typed)
	}
	if n, _ := w.card.Tries(); n != left {
		w.t.Errorf("%d tries are left, want %d", n, left)
	}
}

func TestLoginLeavesTheCardLocked(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice Example")
		if _, err := w.login(rightPIN); err != nil {
			t.Fatal(err)
		}
		if w.card.Unlocked() {
			t.Error("the card is left unlocked")
		}
		w.spent(1, 3)

		_, err := w.login("999999")
		expect(t, "wrong PIN", err, token.ErrPINWrong)
		var e *token.Error
		if !errors.As(err, &e) || !e.Tries.Counted || e.Tries.Left != 2 {
			t.Errorf("wrong PIN: %+v", e)
		}
		if !strings.Contains(err.Error(), "VERIFY: 63C2, the PIN is wrong, 2 tries left") {
			t.Errorf("wrong PIN: %v", err)
		}
		w.spent(2, 2)
	})
}

func TestTriesUntilLocked(t *testing.T) {
	for name, rules := range map[string]simcard.PINRules{
		"as specified":     {},
		"6983 at the last": {LastBlocks: true, EmptyBlocked: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{PINs: rules})
			w.put(simcard.KeyAuthentication, p256(), "Alice Example")
			s := w.open(w.module())
			if l := s.Info().PIN.Tries; l.Level != token.Untold || l.Left != 3 || !l.Counted || l.Most != 3 {
				t.Errorf("at first: %+v", l)
			}
			for i, level := range []token.Level{token.Few, token.Last, token.Locked} {
				_, err := w.logIn(s, "999999")
				if i < 2 || !rules.LastBlocks {
					expect(t, "wrong PIN", err, token.ErrPINWrong)
				} else {
					expect(t, "last try", err, token.ErrPINLocked)
				}
				if got := s.Info().PIN.Tries.Level; got != level {
					t.Errorf("after %d wrong PINs: level %d, want %d", i+1, got, level)
				}
			}
			_, err := w.logIn(s, rightPIN)
			expect(t, "right PIN of a locked card", err, token.ErrPINLocked)
			w.spent(4, 0)

			if s = w.open(w.module()); s.Info().PIN.Tries.Level != token.Locked || s.Info().PIN.Said == "" {
				t.Errorf("a locked card: %+v", s.Info().PIN)
			}
		})
	}
}

func TestPINsThatAreNotSent(t *testing.T) {
	w := newWorld(t, simcard.Options{PINs: simcard.PINRules{AnyBytes: true}})
	w.put(simcard.KeyAuthentication, p256(), "Alice Example")
	s := w.open(w.module())
	for _, pin := range []string{"", "123", "123456789", "secret", "12345\xff", "12\x00456", "１２"} {
		_, err := w.logIn(s, pin)
		expect(t, "PIN "+pin, err, token.ErrPINFormat)
	}
	w.spent(0, 3)
}

// TestKeys tries all places, each with the rules that real cards have.
func TestKeys(t *testing.T) {
	for name, put := range map[string]func(w *world){
		"9C alone": func(w *world) { w.put(simcard.KeySignature, p256(), "Alice") },
		"9D alone": func(w *world) { w.put(simcard.KeyManagement, rsaKey(), "Alice") },
		"RSA-3072": func(w *world) { w.put(simcard.KeyAuthentication, rsa3072(), "Alice") },
		"P-384":    func(w *world) { w.put(simcard.KeyAuthentication, p384(), "Alice") },
		"82 alone": func(w *world) {
			w.options.Keys = []piv.KeyRef{piv.KeyAuthentication, piv.KeyRetired1}
			w.put(simcard.KeyRetired1, p256(), "Alice")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{})
			put(w)
			for range 2 {
				if _, err := w.login(rightPIN); err != nil {
					t.Fatal(err)
				}
			}
			w.spent(2, 3)
			if w.card.Unlocked() {
				t.Error("the card is left unlocked")
			}
		})
	}
}

// importedFirst gives the card two certificates: one without its key, and one of 9C, whose key wants
// the PIN right before it signs. n of them are read and chosen.
func (w *world) importedFirst(n int) (token.Session, *proof) {
	t := w.t
	t.Helper()
	der := certify(p256(), "imported without its key", 1)
	if err := w.card.SetKey(simcard.KeyAuthentication, nil, der); err != nil {
		t.Fatal(err)
	}
	w.put(simcard.KeySignature, other256(), "Alice")

	s := w.open(w.module())
	p := &proof{t: t}
	for o, err := range s.Certificates(w.ctx()) {
		if err != nil {
			t.Fatal(err)
		}
		if p.objects = append(p.objects, o); len(p.objects) == n {
			return s, p
		}
	}
	t.Fatalf("%d certificates", len(p.objects))
	return nil, nil
}

// TestAlwaysAfterAnother: the one case in which a PIN is sent twice for one entry.
func TestAlwaysAfterAnother(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	s, p := w.importedFirst(2)
	if err := w.prove(s, p, rightPIN); err != nil {
		t.Fatal(err)
	}
	if len(p.passed) != 1 || !errors.Is(p.passed[0], token.ErrNoKey) {
		t.Errorf("passed: %v", p.passed)
	}
	w.spent(2, 3)
}

// TestMoreIsReadWhereNoKeySigns: who has read only the first certificate reads on in the same transaction;
// a key that wants the PIN right before it signs gets it once more.
func TestMoreIsReadWhereNoKeySigns(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	s, p := w.importedFirst(1)

	asked := 0
	p.more = func(shown iter.Seq2[token.Object, error]) []token.Object {
		asked++
		var rest []token.Object
		for o, err := range shown {
			if err != nil {
				t.Fatal(err)
			}
			if o.Handle != p.objects[0].Handle {
				rest = append(rest, o)
			}
		}
		return rest
	}
	if err := w.prove(s, p, rightPIN); err != nil {
		t.Fatal(err)
	}
	if asked != 1 || len(p.passed) != 1 || !errors.Is(p.passed[0], token.ErrNoKey) {
		t.Errorf("asked %d times, passed: %v", asked, p.passed)
	}
	w.spent(2, 3)
}

func TestCardThatAnotherProgramUnlocked(t *testing.T) {
	for mode, stays := range map[piv.LockMode]bool{piv.LockFound: true, piv.LockAlways: false, piv.LockNever: true} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t, simcard.Options{})
			w.options.Lock = mode
			w.put(simcard.KeyAuthentication, p256(), "Alice")
			other := w.otherClient()
			other.unlock()
			before := w.card.Verifies()

			_, err := w.login("999999")
			expect(t, "wrong PIN at an unlocked card", err, token.ErrPINWrong)
			if w.card.Unlocked() {
				t.Error("a wrong PIN left the card unlocked")
			}
			other.unlock()
			if _, err := w.login(rightPIN); err != nil {
				t.Fatal(err)
			}
			if w.card.Verifies() != before+3 {
				t.Errorf("%d PINs were sent", w.card.Verifies()-before)
			}
			if w.card.Unlocked() != stays {
				t.Errorf("unlocked: %v, want %v", w.card.Unlocked(), stays)
			}
		})
	}
}

// TestLockRefused: where P1 = FF is not known, the card is reset.
func TestLockRefused(t *testing.T) {
	for _, word := range []iso7816.Status{0x6A86, 0x6B00, 0x6983} {
		w := newWorld(t, simcard.Options{PINs: simcard.PINRules{Forget: word}})
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		if _, err := w.login(rightPIN); err != nil {
			t.Fatal(err)
		}
		if w.card.Unlocked() || w.card.Counters().Resets < 2 {
			t.Errorf("%04X: unlocked %v, resets %d", word, w.card.Unlocked(), w.card.Counters().Resets)
		}
	}
}

// client is another program.
type client struct {
	w    *world
	card *pcsc.Card
}

func (w *world) otherClient() *client {
	w.t.Helper()
	pc, err := pcsc.NewContext(w.base)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { pc.Release() })
	card, err := pc.Connect(reader, pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		w.t.Fatal(err)
	}
	return &client{w, card}
}

func (c *client) send(commands ...string) {
	c.w.t.Helper()
	for _, command := range commands {
		_, err := c.card.Transmit(unhex(command))
		if err == pcsc.ErrResetCard {
			err = c.card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
			if err == nil {
				_, err = c.card.Transmit(unhex(command))
			}
		}
		if err != nil {
			c.w.t.Error(err)
		}
	}
}

func (c *client) unlock() {
	c.w.t.Helper()
	c.send("00A4040009A0000003080000100000", "0020008008313233343536FFFF")
	if !c.w.card.Unlocked() {
		c.w.t.Fatal("the other program could not unlock the card")
	}
}

func (c *client) reset() {
	c.w.t.Helper()
	err := c.card.BeginTransaction()
	if err == pcsc.ErrResetCard {
		err = c.card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
		err = errors.Join(err, c.card.BeginTransaction())
	}
	if err = errors.Join(err, c.card.EndTransaction(pcsc.ResetCard)); err != nil {
		c.w.t.Error(err)
	}
}

// TestOtherProgramsBetween lets another program reset the card, or select another application,
// while the PIN is typed: SELECT stands before VERIFY, and the PIN reaches PIV alone.
func TestOtherProgramsBetween(t *testing.T) {
	inBothForms(t, simcard.Options{Foreign: true}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		other := w.otherClient()
		for _, meddle := range []func(){
			other.reset,
			func() { other.send("00A4040005F000000001") },
			func() { other.send("00A40400" + foreignAID) },
			other.reset,
		} {
			s := w.open(w.module())
			meddle()
			if _, err := w.logIn(s, rightPIN); err != nil {
				t.Error(err)
			}
			s.Close()
		}
		w.spent(4, 3)
		c := w.card.Counters()
		if c.ForeignVerifies != 0 || c.Stray != 0 || c.ForeignEmpty != 0 {
			t.Errorf("PINs went astray: %+v", c)
		}
	})
}

// TestRemoval pulls the card before and after each command of the second transaction.
func TestRemoval(t *testing.T) {
	notOverStock(t) // it notices nothing during a command
	inBothForms(t, simcard.Options{ATR: simcard.ATRT1}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, rsaKey(), "Alice")
		if _, err := w.login(rightPIN); err != nil {
			t.Fatal(err)
		}
		for n := range 6 { // SELECT, VERIFY, two of GENERAL AUTHENTICATE, GET RESPONSE, VERIFY
			for _, after := range []bool{false, true} {
				w.pull(n, after)
			}
		}
	})
}

func (w *world) pull(n int, after bool) {
	t := w.t
	t.Helper()
	m := w.module()
	s := w.open(m)
	w.tap.take()
	var pulled atomic.Bool
	pull := func(i int) {
		if i == n && !pulled.Swap(true) {
			go w.slot.Remove() // the slot is in use by this very command
			w.await(reader, pcsc.StateEmpty)
		}
	}
	w.tap.mu.Lock()
	if after {
		w.tap.after = func(i int, _ []byte, answer []byte) []byte { pull(i); return answer }
	} else {
		w.tap.before = func(i int, _ []byte) { pull(i) }
	}
	w.tap.mu.Unlock()
	_, err := w.logIn(s, rightPIN)
	w.tap.mu.Lock()
	w.tap.before, w.tap.after = nil, nil
	w.tap.mu.Unlock()
	if !pulled.Load() {
		t.Fatalf("command %d was not sent", n)
	}
	expect(t, "pulled", err, token.ErrRemoved)
	if _, err := s.Refresh(w.ctx()); !errors.Is(err, token.ErrRemoved) {
		t.Errorf("refresh: %v", err)
	}
	s.Close()

	w.insert(w.tap)
	if w.card.Unlocked() {
		t.Errorf("command %d: unlocked after it was put in again", n)
	}
	if _, err := w.login(rightPIN); err != nil {
		t.Errorf("next login after command %d: %v", n, err)
	}
}

// TestExchangedWhileTyping: a card that was taken out gets no PIN, be it the same or another.
func TestExchangedWhileTyping(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		s := w.open(w.module())
		w.remove()
		w.insert(w.tap)
		_, err := w.logIn(s, rightPIN)
		expect(t, "the same card put in again", err, token.ErrRemoved)

		s = w.open(w.module())
		w.remove()
		mallory := newCard(t, simcard.Options{})
		if err := mallory.SetKey(simcard.KeyAuthentication, other256(), certify(other256(), "Mallory", 7)); err != nil {
			t.Fatal(err)
		}
		w.insert(mallory)
		_, err = s.Refresh(w.ctx())
		expect(t, "refresh with another card", err, token.ErrOtherCard)
		_, err = w.logIn(s, rightPIN)
		expect(t, "another card", err, token.ErrRemoved)

		// A reset by another program after that must not make the two look alike.
		w.otherClient().reset()
		_, err = w.logIn(s, rightPIN)
		expect(t, "another card, reset", err, token.ErrRemoved)
		if mallory.Verifies() != 0 {
			t.Error("another card got the PIN")
		}
		w.spent(0, 3)
	})
}

// TestRenewed: the cache has a certificate that the card has not any more.
func TestRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		ref    simcard.KeyRef
		before func() testSigner
		after  func() testSigner
		typed  int
	}{
		"RSA to RSA":       {simcard.KeyAuthentication, rsaSigner, otherRSASigner, 2},
		"RSA to P-256":     {simcard.KeyAuthentication, rsaSigner, p256Signer, 2},
		"P-256 to RSA":     {simcard.KeyAuthentication, p256Signer, rsaSigner, 2},
		"P-256 to P-256":   {simcard.KeyAuthentication, p256Signer, other256Signer, 2},
		"9C, once more":    {simcard.KeySignature, p256Signer, other256Signer, 3},
		"same key, longer": {simcard.KeyAuthentication, p256Signer, p256Signer, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{})
			w.put(c.ref, c.before(), "Alice")
			if _, err := w.login(rightPIN); err != nil {
				t.Fatal(err)
			}

			// The login has shown the old certificate when the card gets the new one: as a copied
			// beginning, or a renewal while the PIN is typed.
			s := w.open(w.module())
			var objects []token.Object
			for o, err := range s.Certificates(w.ctx()) {
				if err != nil {
					t.Fatal(err)
				}
				objects = append(objects, o)
			}
			w.put(c.ref, c.after(), "Alice, renewed")
			p := &proof{t: t, objects: objects}
			if err := w.prove(s, p, rightPIN); err != nil {
				t.Fatal(err)
			}
			renewed := name != "same key, longer"
			if (p.anew == 1) != renewed {
				t.Errorf("chosen anew %d times", p.anew)
			}
			w.spent(c.typed, 3)
			s.Close()
			if _, err := w.login(rightPIN); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCopiedCertificate: a card with the user's certificate and a key of its own proves nothing,
// with and without the cache.
func TestCopiedCertificate(t *testing.T) {
	for _, cached := range []bool{false, true} {
		w := newWorld(t, simcard.Options{})
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		if cached {
			if _, err := w.login(rightPIN); err != nil {
				t.Fatal(err)
			}
		} else {
			w.options.Cache = nil
		}
		der := certify(p256(), "Alice", 1)
		if err := w.card.SetKey(simcard.KeyAuthentication, other256(), der); err != nil {
			t.Fatal(err)
		}
		if _, err := w.login(rightPIN); err != errNotProved {
			t.Errorf("cached %v: %v", cached, err)
		}
	}
}

// TestForeignAndMute: what is no PIV card is said to be none, and concerns no other.
func TestForeignAndMute(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		w.other.Insert(&refusingCard{})
		w.await(second, pcsc.StatePresent)
		slots, err := w.module().Slots(w.ctx())
		if err != nil || len(slots) != 2 {
			t.Fatal(slots, err)
		}
		if slots[0].Token == nil || slots[0].Token.Label != "Alice" || slots[0].Description != reader {
			t.Errorf("the good card: %+v", slots[0])
		}
		if s := slots[1]; s.Token != nil || !s.TokenPresent || !errors.Is(s.Err, token.ErrForeign) {
			t.Errorf("the foreign card: %+v", s)
		}
	})
}

// refusingCard knows no application.
type refusingCard struct{ word []byte }

func (c *refusingCard) ATR() []byte { return simcard.ATRT1 }
func (c *refusingCard) Reset()      {}
func (c *refusingCard) Transmit([]byte) ([]byte, error) {
	if c.word != nil {
		return c.word, nil
	}
	return []byte{0x6A, 0x82}, nil
}

// TestReaderThatHangs: a card that does not answer, and one that another program keeps, delay no
// other.
func TestReaderThatHangs(t *testing.T) {
	t.Parallel()
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		free := make(chan struct{})
		hanging := &tap{Card: newCard(t, simcard.Options{}), before: func(int, []byte) { <-free }}
		w.other.Insert(hanging)
		w.await(second, pcsc.StatePresent)
		m := w.module()
		slots, err := m.Slots(w.ctx())
		close(free)
		if err != nil {
			t.Fatal(err)
		}
		if slots[0].Token == nil || !errors.Is(slots[1].Err, token.ErrFault) {
			t.Errorf("slots: %+v", slots)
		}
	})
}

func TestReaderInUse(t *testing.T) {
	t.Parallel()
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		other := w.otherClient()
		m := w.module()

		// A transaction is waited for, unless there is another card to go on with.
		w.other.Insert(newCard(t, simcard.Options{}))
		w.await(second, pcsc.StatePresent)
		if err := other.card.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		slots, err := m.Slots(w.ctx())
		if err != nil || !errors.Is(slots[0].Err, token.ErrInUse) || slots[1].Token == nil {
			t.Errorf("in a transaction: %+v, %v", slots, err)
		}
		if err := other.card.EndTransaction(pcsc.LeaveCard); err != nil {
			t.Fatal(err)
		}

		if err := other.card.Reconnect(pcsc.ShareExclusive, pcsc.ProtocolAny, pcsc.LeaveCard); err != nil {
			t.Fatal(err)
		}
		slots, err = m.Slots(w.ctx())
		if err != nil || !errors.Is(slots[0].Err, token.ErrInUse) {
			t.Errorf("exclusively: %+v, %v", slots, err)
		}
		other.card.Disconnect(pcsc.LeaveCard)
		slots, err = m.Slots(w.ctx())
		if err != nil || slots[0].Token == nil {
			t.Errorf("free: %+v, %v", slots, err)
		}
	})
}

// TestContextEnds: a card that waits for a touch for ever ends with the context, and is reset as
// soon as it answers.
func TestContextEnds(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		s := w.open(w.module())
		free := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		w.tap.take()
		w.tap.mu.Lock()
		w.tap.before = func(_ int, command []byte) {
			if command[1] == 0x87 {
				cancel()
				<-free
			}
		}
		w.tap.mu.Unlock()
		p := &proof{t: t}
		for o, err := range s.Certificates(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			p.objects = append(p.objects, o)
		}
		_, err := s.LogInAndSign(ctx, newPIN(t, rightPIN), p.choose)
		expect(t, "cancelled", err, context.Canceled)
		close(free)
		s.Close()

		if _, err := w.login(rightPIN); err != nil {
			t.Error(err)
		}
		if w.card.Unlocked() {
			t.Error("the card is left unlocked")
		}
	})
}

// TestLostAnswer: the answer to VERIFY does not come. The PIN is not sent again.
func TestLostAnswer(t *testing.T) {
	for _, executed := range []bool{false, true} {
		w := newWorld(t, simcard.Options{})
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		s := w.open(w.module())
		fail := simcard.Hook(func(_ int, header [4]byte) error {
			if header == [4]byte{0x00, 0x20, 0x00, 0x80} && w.card.Counters().Empty > 0 {
				w.card.Watch(nil, nil)
				return errors.New("the answer is lost")
			}
			return nil
		})
		if executed {
			w.card.Watch(nil, fail)
		} else {
			w.card.Watch(fail, nil)
		}
		p, err := w.logIn(s, "999999")
		expect(t, "lost", err, token.ErrFault)
		if len(p.uses) != 0 {
			t.Error("a key was used")
		}
		typed, left := 0, 3
		if executed {
			typed, left = 1, 2
			var e *token.Error
			if !errors.As(err, &e) || e.Tries.Left != 2 {
				t.Errorf("tries: %+v", e)
			}
		}
		w.spent(typed, left)
		s.Close()
		if _, err := w.login(rightPIN); err != nil {
			t.Error(err)
		}
	}
}

func TestPINChange(t *testing.T) {
	inBothForms(t, simcard.Options{PINs: simcard.PINRules{ChangeVerifies: true}}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		s := w.open(w.module())
		expect(t, "wrong old PIN", s.ChangePIN(w.ctx(), newPIN(t, "999999"), newPIN(t, "654321")), token.ErrPINWrong)
		expect(t, "short new PIN", s.ChangePIN(w.ctx(), newPIN(t, rightPIN), newPIN(t, "12345")), token.ErrPINFormat)
		if err := s.ChangePIN(w.ctx(), newPIN(t, rightPIN), newPIN(t, "654321")); err != nil {
			t.Fatal(err)
		}
		if w.card.Unlocked() {
			t.Error("the card is left unlocked")
		}
		if _, err := w.login("654321"); err != nil {
			t.Error(err)
		}
		w.spent(1, 3)

		expect(t, "wrong PUK", s.Unblock(w.ctx(), newPIN(t, "99999999"), newPIN(t, "111111")), token.ErrPINWrong)
		if err := s.Unblock(w.ctx(), newPIN(t, "12345678"), newPIN(t, "111111")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.login("111111"); err != nil {
			t.Error(err)
		}
		if _, puk := w.card.Tries(); puk != 3 {
			t.Errorf("%d tries of the PUK", puk)
		}
	})
}

func TestGlobalPIN(t *testing.T) {
	w := newWorld(t, simcard.Options{GlobalPIN: "777777"})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	for range 2 {
		if _, err := w.login("777777"); err != nil {
			t.Fatal(err)
		}
	}
	if w.card.Unlocked() {
		t.Error("the card is left unlocked")
	}
	s := w.open(w.module())
	expect(t, "unblock", s.Unblock(w.ctx(), newPIN(t, "12345678"), newPIN(t, "111111")), token.ErrNotSupported)
	_, err := w.logIn(s, "999999")
	expect(t, "wrong PIN", err, token.ErrPINWrong)
	if n := w.card.GlobalTries(); n != 2 {
		t.Errorf("%d tries of the global PIN", n)
	}
	if n, _ := w.card.Tries(); n != 3 {
		t.Errorf("%d tries of the application PIN", n)
	}
}

// TestOldCard has the PIN at reference 00 and no discovery object (SP 800-73-1).
func TestOldCard(t *testing.T) {
	for _, empty := range []uint16{0, 0x6700} {
		o := simcard.Options{NoDiscovery: true, PINs: simcard.PINRules{AtZero: true}}
		if empty != 0 {
			o.PINs.Empty = 0x6700
		}
		w := newWorld(t, o)
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		if _, err := w.login(rightPIN); err != nil {
			t.Fatal(err)
		}
		_, err := w.login("999999")
		expect(t, "wrong PIN", err, token.ErrPINWrong)
		if n, _ := w.card.Tries(); n != 2 {
			t.Errorf("%d tries left", n)
		}
	}
}

// TestWait: a card that comes ends the wait, and one that is used by others does not.
func TestWait(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		w.remove()
		m := w.module()
		if slots, err := m.Slots(w.ctx()); err != nil || slots[0].TokenPresent {
			t.Fatal(slots, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- m.Wait(w.ctx()) }()
		w.insert(w.tap)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		s := w.open(m)
		s.Close()

		ctx, cancel := context.WithCancel(w.ctx())
		go func() { ended <- m.Wait(ctx) }()
		w.otherClient().send("00A4040009A0000003080000100000")
		select {
		case err := <-ended:
			t.Errorf("another program ended the wait: %v", err)
		default:
		}
		cancel()
		expect(t, "wait", <-ended, context.Canceled)
	})
}

// TestNoNeedlessReading: a loop over the certificates that ends early reads no more.
func TestNoNeedlessReading(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	w.put(simcard.KeySignature, other256(), "Alice")
	sent, err := w.login(rightPIN)
	if err != nil {
		t.Fatal(err)
	}
	if len(sent) != 10 { // as without the other certificate
		t.Errorf("%d commands: %v", len(sent), sent)
	}
}

// TestPoisonedCache: a card whose certificate only begins as another's must not keep that one from
// its logins, by what it leaves in the cache.
func TestPoisonedCache(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	der := certify(p256(), "Alice", 1)
	if err := w.card.SetKey(simcard.KeyAuthentication, p256(), der); err != nil {
		t.Fatal(err)
	}
	forged := newCard(t, simcard.Options{})
	copied := slices.Clone(der)
	copied[len(copied)-1] ^= 1 // in the authority's signature
	if err := forged.SetKey(simcard.KeyAuthentication, nil, copied); err != nil {
		t.Fatal(err)
	}
	w.remove()
	w.insert(forged)
	s := w.open(w.module())
	if _, err := w.logIn(s, rightPIN); err == nil {
		t.Error("the forged card has logged in")
	}
	s.Close()

	w.remove()
	w.insert(w.tap)
	for o, err := range w.open(w.module()).Certificates(w.ctx()) {
		if err != nil || !slices.Equal(o.Cert.Raw, der) {
			t.Errorf("another certificate is shown: %v", err)
		}
	}
}

// TestManyAtOnce: logins at the same card wait for each other, and none fails.
func TestManyAtOnce(t *testing.T) {
	inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
		w.put(simcard.KeyAuthentication, p256(), "Alice")
		var all sync.WaitGroup
		const n = 20
		for range n {
			m, err := piv.New(w.service, w.options)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer m.Close()
				slots, err := m.Slots(t.Context())
				if err != nil || slots[0].Token == nil {
					t.Errorf("slots: %+v, %v", slots, err)
					return
				}
				s, err := m.Open(t.Context(), slots[0])
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.logIn(s, rightPIN); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.spent(n, 3)
		if w.card.Unlocked() {
			t.Error("the card is left unlocked")
		}
	})
}
