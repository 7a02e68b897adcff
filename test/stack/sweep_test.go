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
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/test/rig"
)

// event is something that happens to a card while somebody logs in with it.
type event struct {
	name string

	// happen makes it happen. What takes longer than a moment, since the login holds the card, goes
	// on in work.
	happen func(r *testRig, work *sync.WaitGroup)

	// lost: the command, or the answer, that it comes beside goes nowhere.
	lost bool

	// mend undoes it, for the next login; nil: there is nothing to be undone.
	mend func(r *testRig)

	// harmless: the login goes well all the same.
	harmless bool

	verifies int // PINs that the card gets beside the login's; they are right
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
	// The other applet stays selected, and the PIN of PIV is not the login's to use.
	{name: "another program transmits", happen: another("select foreign"), harmless: true},
	{name: "another program verifies the PIN", happen: another("verify " + pin), harmless: true, verifies: 1},
	{name: "another program resets", happen: another("reset now"), harmless: true},
	{name: "another program holds a transaction", happen: another("hold 50ms"), harmless: true},
}

// another is what another program does, which connects when the event comes, and acts when it may.
func another(words string) func(*testRig, *sync.WaitGroup) {
	return func(r *testRig, work *sync.WaitGroup) {
		work.Go(func() {
			other, err := pcsctest.NewOther(pcsc.NewClient(r.Socket), rig.ReaderName)
			if err != nil {
				r.t.Error(err)
				return
			}
			if err := other.Do(words); err != nil {
				r.t.Errorf("another program: %s: %v", words, err)
			}
			if err := other.Close(); err != nil {
				r.t.Errorf("another program: %v", err)
			}
		})
	}
}

// sweep is which logins are swept through.
type sweep struct {
	model model
	key   int // of keys
	pin   string
}

// sweeps differ in reader, protocol, key and PIN.
var sweeps = []sweep{
	{readers[0], 0, pin},      // TPDU T=1, RSA-2048
	{readers[1], 2, pin},      // TPDU T=0, P-256
	{readers[2], 0, pin},      // short APDU, RSA-2048
	{readers[3], 2, pin},      // extended APDU, P-256
	{readers[3], 2, wrongPIN}, // the same, and no login
}

func (s sweep) String() string {
	return fmt.Sprintf("%s/%s/PIN %s", s.model.name, keys[s.key].name, s.pin)
}

// TestAnythingHappensAtAnyCommand lets each event happen before and after each command of a login
// through libpam: no login succeeds that the card has not signed for, none hangs, the card gets the
// PIN once at most, and the next login goes well.
func TestAnythingHappensAtAnyCommand(t *testing.T) {
	for _, s := range sweeps {
		n := s.commands(t)
		for _, e := range events {
			t.Run(s.String()+"/"+e.name, func(t *testing.T) {
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
	end := throughLibpam.login(r, typist(s.pin))
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
	if next := throughLibpam.login(r, typist(pin)); !next.granted {
		t.Errorf("%s: the next login: %v\n%s", what, next, r.Log())
	}
	if left, _ := r.card.Tries(); r.card.Verifies() != verifies+1 || left != 3 {
		t.Errorf("%s: the next login: %d PINs, %d tries left", what, r.card.Verifies()-verifies, left)
	}
}

// judge holds the end of a disturbed login against what the card has seen.
func (s sweep) judge(t *testing.T, r *testRig, e event, end end, what string, took time.Duration) {
	t.Helper()
	verifies, wrong := r.card.Verifies()-e.verifies, s.pin != pin
	left, _ := r.card.Tries()
	wantLeft := 3
	if wrong && e.verifies == 0 { // a right PIN of another program sets the counter back, before or after
		wantLeft -= verifies
	} else if wrong {
		wantLeft = left
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
