package piv_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// meddler is a service whose exchanges fail as a test wants it.
type meddler struct {
	pcsc.Service

	mu  sync.Mutex
	n   int // of the next exchange, from 0
	how func(n int, command []byte) error
}

func (m *meddler) Transmit(h pcsc.Handle, p pcsc.Protocol, command []byte, max int) ([]byte, error) {
	m.mu.Lock()
	n, how := m.n, m.how
	m.n++
	m.mu.Unlock()
	if how != nil {
		if err := how(n, command); err != nil {
			return nil, err
		}
	}
	return m.Service.Transmit(h, p, command, max)
}

// meddle has exchange n, counted from now, fail once.
func (m *meddler) meddle(n int, how func(command []byte) error) (done func() bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n = 0
	happened := false
	m.how = func(i int, command []byte) error {
		if i != n {
			return nil
		}
		happened = true
		return how(command)
	}
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.how = nil
		return happened
	}
}

// TestResetInTransaction: a service that lets others reset the card in the midst of a transaction.
// Before the PIN all is begun anew; after it nothing is sent again.
func TestResetInTransaction(t *testing.T) {
	w := newWorld(t, simcard.Options{ATR: simcard.ATRT1})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	m := &meddler{Service: w.service}
	w.service = m
	if _, err := w.login(rightPIN); err != nil {
		t.Fatal(err)
	}
	reset := func([]byte) error {
		w.card.Reset()
		return pcsc.ErrResetCard
	}

	for n := range 3 { // SELECT, GET DATA, VERIFY without a PIN
		done := m.meddle(n, reset)
		s := w.open(w.module())
		if !done() {
			t.Fatalf("there was no exchange %d", n)
		}
		if _, err := w.logIn(s, rightPIN); err != nil {
			t.Errorf("reset at exchange %d before the prompt: %v", n, err)
		}
		s.Close()
	}
	typed := w.card.Verifies()
	if typed != 4 {
		t.Errorf("%d PINs were sent, 4 were typed", typed)
	}

	for n, good := range []bool{true, false, false, false} { // SELECT, VERIFY, GENERAL AUTHENTICATE, VERIFY
		s := w.open(w.module())
		done := m.meddle(n, reset)
		_, err := w.logIn(s, rightPIN)
		if !done() {
			t.Fatalf("there was no exchange %d", n)
		}
		if n < 3 && (err == nil) != good {
			t.Errorf("reset at exchange %d: %v", n, err)
		}
		s.Close()
		if w.card.Unlocked() {
			t.Errorf("reset at exchange %d: the card is left unlocked", n)
		}
	}
	if left, _ := w.card.Tries(); left != 3 {
		t.Errorf("%d tries left", left)
	}
	if sent := w.card.Verifies() - typed; sent != 3 { // the second was reset before it came to the card
		t.Errorf("%d PINs came to the card", sent)
	}
}

// TestPowerLostInTransaction: a card that has lost its power, and with it the selection of PIV, while it
// had the PIN or was to sign gets nothing more before it has PIV selected again: another application
// may count a VERIFY without a PIN.
func TestPowerLostInTransaction(t *testing.T) {
	w := newWorld(t, simcard.Options{
		ATR:     simcard.ATRT1,
		Foreign: true,
		Select:  simcard.SelectRules{AfterReset: simcard.Foreign},
	})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	m := &meddler{Service: w.service}
	w.service = m
	for n := 1; n < 3; n++ { // VERIFY, GENERAL AUTHENTICATE
		s := w.open(w.module())
		done := m.meddle(n, func([]byte) error {
			w.card.Reset()
			return pcsc.ErrCommError
		})
		_, err := w.logIn(s, rightPIN)
		if !done() {
			t.Fatalf("there was no exchange %d", n)
		}
		expect(t, "power lost", err, token.ErrFault)
		s.Close()
	}

	if c := w.card.Counters(); c.ForeignEmpty != 0 || c.ForeignVerifies != 0 || c.Stray != 0 {
		t.Errorf("sent to another application: %+v", c)
	}
	w.spent(1, 3)
}

// stoppedDaemon is a service that does not answer any more once somebody waits for cards.
type stoppedDaemon struct {
	pcsc.Service

	stopped, goesOn chan struct{}
}

func (d *stoppedDaemon) GetStatusChange(
	ctx context.Context, sc pcsc.SCardContext, states []pcsc.ReaderState, timeout time.Duration,
) error {
	if timeout >= 0 {
		return d.Service.GetStatusChange(ctx, sc, states, timeout)
	}
	close(d.stopped)
	<-d.goesOn
	return pcsc.ErrCancelled
}

// TestWaitAtAStoppedDaemon ends with its context all the same.
func TestWaitAtAStoppedDaemon(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	daemon := &stoppedDaemon{Service: w.service, stopped: make(chan struct{}), goesOn: make(chan struct{})}
	w.service = daemon
	defer close(daemon.goesOn)
	m := w.module()
	if _, err := m.Slots(w.ctx()); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(w.ctx())
	ended := make(chan error, 1)
	go func() { ended <- m.Wait(ctx) }()
	<-daemon.stopped
	cancel()
	select {
	case err := <-ended:
		expect(t, "wait", err, context.Canceled)
	case <-time.After(patience):
		t.Error("the wait does not end")
	}
}

// TestResetAgainAndAgain ends with an error.
func TestResetAgainAndAgain(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	m := &meddler{Service: w.service, how: func(int, []byte) error { return pcsc.ErrResetCard }}
	w.service = m
	slots, err := w.module().Slots(w.ctx())
	if err != nil || !errors.Is(slots[0].Err, token.ErrReset) {
		t.Errorf("slots: %+v, %v", slots, err)
	}
	m.how = nil
	s := w.open(w.module())
	m.how = func(int, []byte) error { return pcsc.ErrResetCard }
	_, err = w.logIn(s, rightPIN)
	expect(t, "log-in", err, token.ErrReset)
	w.spent(0, 3)
}

// TestFaults: each exchange fails once without the card having seen it. There is never a success
// that was not earned, never a PIN more than was typed, and the next login works.
func TestFaults(t *testing.T) {
	for name, atr := range map[string][]byte{"T=1": simcard.ATRT1, "T=0": simcard.ATRT0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{ATR: atr})
			w.options.Cache = nil
			w.put(simcard.KeyAuthentication, rsaKey(), "Alice")
			m := &meddler{Service: w.service}
			w.service = m
			sent, err := w.login(rightPIN)
			if err != nil {
				t.Fatal(err)
			}
			for n := range sent {
				w.failOnce(m, n, len(sent))
			}
		})
	}
}

func (w *world) failOnce(m *meddler, n, all int) {
	t := w.t
	t.Helper()
	before, signed := w.card.Verifies(), w.card.Signatures()
	done := m.meddle(n, func([]byte) error { return pcsc.ErrCommError })
	mod := w.module()
	slots, err := mod.Slots(w.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err = slots[0].Err; err == nil {
		s, openErr := mod.Open(w.ctx(), slots[0])
		if openErr != nil {
			t.Fatal(openErr)
		}
		_, err = w.logIn(s, rightPIN)
		s.Close()
	}
	if !done() {
		t.Fatalf("there was no exchange %d", n)
	}
	switch last := n == all-1; { // the lock, in whose place the card is reset
	case last && err != nil:
		t.Errorf("the lock failed: %v", err)
	case !last && !errors.Is(err, token.ErrFault):
		t.Errorf("exchange %d failed: %v", n, err)
	case err == nil && w.card.Signatures() != signed+1:
		t.Errorf("exchange %d: success without a signature", n)
	}
	if sent := w.card.Verifies() - before; sent > 1 {
		t.Errorf("exchange %d: the PIN was sent %d times", n, sent)
	}
	if w.card.Unlocked() {
		t.Errorf("exchange %d: the card is left unlocked", n)
	}
	if _, err := w.login(rightPIN); err != nil {
		t.Errorf("login after exchange %d: %v", n, err)
	}
}

// padReader is a service whose reader has keys, at which somebody types; typed returns the answer.
type padReader struct {
	pcsc.Service

	typed func(verify func() []byte) []byte
}

func (p *padReader) Control(h pcsc.Handle, code uint32, in []byte, max int) ([]byte, error) {
	const feature = 0x42330006
	switch code {
	case 0x42000D48:
		return []byte{0x06, 4, 0x42, 0x33, 0x00, 0x06}, nil
	case feature:
		var failed error
		answer := p.typed(func() []byte {
			var b []byte
			b, failed = p.Service.Transmit(h, pcsc.ProtocolT1, unhex("0020008008313233343536FFFF"), max)
			return b
		})
		return answer, failed
	}
	return nil, pcsc.ErrUnsupportedFeature
}

// TestSecondEntryAtThePad: who has typed the right PIN, and ends the entry that the next key wants,
// leaves no unlocked card.
func TestSecondEntryAtThePad(t *testing.T) {
	for _, word := range []string{"\x64\x00", "\x64\x01", "\x64\x03", "\x69\x82"} {
		w := newWorld(t, simcard.Options{ATR: simcard.ATRT1})
		entries := 0
		w.service = &padReader{Service: w.service, typed: func(verify func() []byte) []byte {
			if entries++; entries == 1 {
				return verify()
			}
			return []byte(word)
		}}
		s, p := w.importedFirst(2)
		if _, err := s.LogInAndSign(w.ctx(), nil, p.choose); err == nil {
			t.Errorf("%X: no error", word)
		}
		if entries != 2 || w.card.Signatures() != 0 {
			t.Errorf("%X: %d entries, %d signatures", word, entries, w.card.Signatures())
		}
		if w.card.Unlocked() {
			t.Errorf("%X: the card is left unlocked", word)
		}
	}
}
