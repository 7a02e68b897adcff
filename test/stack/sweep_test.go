//go:build cgo

package stack

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/rig"
)

// event is something that happens to a card while somebody logs in with it.
type event struct {
	name string

	// happen makes it happen. What takes longer than a moment, since the login holds the card, goes on in work.
	happen func(r *testRig, work *sync.WaitGroup)

	// lost: the command, or the answer, that it comes beside goes nowhere.
	lost bool

	// mend undoes it, for the next login; nil: there is nothing to be undone.
	mend func(r *testRig)

	// harmless: the login goes well all the same.
	harmless bool
}

var events = []event{
	{
		name:   "card pulled",
		happen: func(r *testRig, _ *sync.WaitGroup) { r.Pull() },
		lost:   true,
		mend:   func(r *testRig) { r.Insert() },
	},
	{
		name:   "reader unplugged",
		happen: func(r *testRig, _ *sync.WaitGroup) { r.Unplug() },
		lost:   true,
		mend:   func(r *testRig) { r.Plug() },
	},
	{
		name:     "another program transmits",
		happen:   another(func(c *pcsc.Card) error { return transmitOther(c) }),
		harmless: true,
	},
	{
		name:     "another program resets",
		happen:   another(func(c *pcsc.Card) error { return c.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard) }),
		harmless: true,
	},
	{
		name: "another program holds a transaction",
		happen: another(func(c *pcsc.Card) error {
			if err := c.BeginTransaction(); err != nil {
				return err
			}
			time.Sleep(holding)
			return c.EndTransaction(pcsc.LeaveCard)
		}),
		harmless: true,
	},
}

// holding is how long another program keeps the card for itself.
const holding = 50 * time.Millisecond

// another is what another program does: it is connected when the login asks for the first command, and acts when it may.
func another(act func(*pcsc.Card) error) func(*testRig, *sync.WaitGroup) {
	return func(r *testRig, work *sync.WaitGroup) {
		work.Go(func() {
			c, err := pcsc.NewContext(pcsc.NewClient(r.Socket))
			if err != nil {
				r.t.Error(err)
				return
			}
			defer c.Release()
			card, err := c.Connect(rig.ReaderName, pcsc.ShareShared, pcsc.ProtocolAny)
			if err != nil {
				r.t.Errorf("another program cannot connect: %v", err)
				return
			}
			if err := act(card); err != nil && !errors.Is(err, pcsc.ErrResetCard) {
				r.t.Errorf("another program: %v", err)
			}
			if err := card.Disconnect(pcsc.LeaveCard); err != nil {
				r.t.Errorf("another program: %v", err)
			}
		})
	}
}

// transmitOther selects the other applet of the card, and leaves it selected.
func transmitOther(c *pcsc.Card) error {
	command := append([]byte{0x00, 0xA4, 0x04, 0x00, byte(len(simcard.ForeignAID))}, simcard.ForeignAID...)
	_, err := c.Transmit(command)
	return err
}

// sweep is which logins are swept through, and on which way.
type sweep struct {
	model model
	key   int // of keys
	pin   string
	way   way
}

// sweeps differ in reader, protocol, key, PIN and way. Those through libpam are few, since each login costs a process.
var sweeps = []sweep{
	{readers[0], 0, pin, direct},        // TPDU T=1, RSA-2048
	{readers[1], 2, pin, direct},        // TPDU T=0, P-256
	{readers[2], 0, pin, direct},        // short APDU, RSA-2048
	{readers[3], 2, wrongPIN, direct},   // extended APDU, P-256
	{readers[3], 2, pin, throughLibpam}, // extended APDU, P-256
}

// TestAnythingHappensAtAnyCommand lets each event happen before and after each command of a login: no login succeeds that
// the card has not signed for, none hangs, the card gets the PIN once at most, and the next login goes well.
func TestAnythingHappensAtAnyCommand(t *testing.T) {
	for _, s := range sweeps {
		n := s.commands(t)
		for _, e := range events {
			t.Run(fmt.Sprintf("%s/%s/%s/PIN %s/%s", s.way.name, s.model.name, keys[s.key].name, s.pin, e.name), func(t *testing.T) {
				t.Parallel()
				for at := 1; at <= n; at++ {
					for _, after := range []bool{false, true} {
						s.play(t, e, at, after)
					}
				}
			})
		}
	}
}

// commands is how many commands an undisturbed login has.
func (s sweep) commands(t *testing.T) int {
	t.Helper()
	r := newRig(t, s.model, simcard.Options{Foreign: true}).known(keys[s.key].key())
	if e := direct.login(r, typist(s.pin)); e.granted != (s.pin == pin) {
		t.Fatalf("the undisturbed login: %v", e)
	}
	return r.card.Counters().APDUs
}

// play lets an event happen before or after the at-th command of a login.
func (s sweep) play(t *testing.T, e event, at int, after bool) {
	t.Helper()
	r := newRig(t, s.model, simcard.Options{Foreign: true}).known(keys[s.key].key())
	var work sync.WaitGroup
	happened := false
	strike := func(n int, _ [4]byte) error {
		if n != at {
			return nil
		}
		happened = true
		e.happen(r, &work)
		if e.lost {
			return errors.New("it is lost")
		}
		return nil
	}
	if after {
		r.card.Watch(nil, strike)
	} else {
		r.card.Watch(strike, nil)
	}

	began := time.Now()
	end := s.way.login(r, typist(s.pin))
	took := time.Since(began)
	work.Wait()
	r.card.Watch(nil, nil)
	what := fmt.Sprintf("%s, at command %d, after it: %v", e.name, at, after)
	s.judge(t, r, e, end, what, took)
	if !happened {
		t.Errorf("%s: it has not come to that", what)
	}

	if e.mend != nil {
		e.mend(r)
		r.await(pcsc.StatePresent)
	}
	verifies := r.card.Verifies()
	if next := s.way.login(r, typist(pin)); !next.granted {
		t.Errorf("%s: the next login: %v", what, next)
	}
	if left, _ := r.card.Tries(); r.card.Verifies() != verifies+1 || left != 3 {
		t.Errorf("%s: the next login: %d PINs, %d tries left", what, r.card.Verifies()-verifies, left)
	}
}

// judge holds the end of a disturbed login against what the card has seen.
func (s sweep) judge(t *testing.T, r *testRig, e event, end end, what string, took time.Duration) {
	t.Helper()
	verifies, wrong := r.card.Verifies(), s.pin != pin
	left, _ := r.card.Tries()
	wantLeft := 3
	if wrong {
		wantLeft -= verifies
	}
	switch {
	case end.granted && (wrong || r.card.Signatures() == 0 || end.user != "alice"):
		t.Errorf("%s: a success that was not earned: %v", what, end)
	case e.harmless && end.granted == wrong:
		t.Errorf("%s: %v", what, end)
	case verifies > end.typed:
		t.Errorf("%s: the card has got %d PINs, %d were typed: %v", what, verifies, end.typed, end)
	case e.harmless && verifies != end.typed:
		t.Errorf("%s: the card has got %d PINs, %d were typed: %v", what, verifies, end.typed, end)
	case left != wantLeft:
		t.Errorf("%s: %d tries are left, not %d: %v", what, left, wantLeft, end)
	case took > deadline:
		t.Errorf("%s: it took %v", what, took)
	}
}
