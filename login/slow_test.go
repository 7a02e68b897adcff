package login

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

// slowly lets the cards in readers answer late, numbered from 0.
func slowly(readers ...int) happening {
	return func(s *stage) {
		for _, i := range readers {
			s.readers.Slow(i, 2*time.Second)
		}
	}
}

// TestSlowCards: a slow card is waited for where no other is the user's, and only there.
func TestSlowCards(t *testing.T) {
	const anotherAnswer = "no card that has answered can be used"
	alices := func(label string, rest ...string) []string {
		return append([]string{found, "T Welcome " + label, "P PIN of " + label + ": "}, rest...)
	}
	nobodyNamed := func(e *ending) { e.user, e.login = "", "alice" }
	first := func(change func(*logintest.Card)) happening {
		return func(s *stage) { change(s.cards[0]) }
	}

	type row struct {
		ending
		waits int // for slow cards
	}
	quick := func(e ending, h ...happening) row { return row{e.happening(append(h, slowly(1))...), 0} }
	late := func(e ending, h ...happening) row { return row{e.happening(append(h, slowly(1))...), 1} }
	for _, r := range []row{
		quick(good("her card is quick", "alice+bob").says(alices("alice", proving)...)),
		quick(good("both are hers", "alice+p384").says(alices("alice", proving)...)),
		quick(skipped(good("there are other ways", "alice+bob").says(alices("alice", proving)...))),
		quick(good("nobody gives a name, nor is asked", "alice+bob").says(alices("alice", proving)...).with(nobodyNamed).with(
			inGlobal("ask_certificate = false;"))),
		quick(good("hers is behind one that is slow", "bob+expired+alice").says(alices("alice", proving)...)),
		quick(good("slot_num, and the other one is slow", "alice+alice").says(talkOf("alice")...).with(withArgs("slot_num=1"))),
		quick(good("slot_description", "alice+alice").says(talkOf("alice")...).with(withArgs("slot_description=Reader 1"))),
		quick(refused("slot_num, and hers is in the other", "bob+alice", ForeignCard, "2358").with(withArgs("slot_num=1"))),
		quick(good("a wrong PIN ends it", "alice+p384").types(otherPIN, rightPIN).says(alices("alice", fewTries, "E Error 2320")...).with(
			func(e *ending) { e.want = PINIncorrect })),
		// No PIN of another card is asked for, though it would do.
		quick(good("hers has no key", "keyless+alice").says(alices("keyless", proving, "E Error 2340")...).with(
			func(e *ending) { e.want = NoPrivateKey })),
		quick(good("hers proves nothing", "copied+alice").says(alices("copied", proving, "E Error 2342")...).with(
			func(e *ending) { e.want = ProofFailed })),
		quick(good("it is pulled while she types", "alice+p384").says(alices("alice", "E Error 2368")...).with(
			func(e *ending) { e.want, e.pins = CardRemoved, 0 }), during(pulled)),

		late(good("her card is slow", "bob+alice").says(alices("alice", proving)...).with(func(e *ending) { e.log = anotherAnswer })),
		late(skipped(good("her card is slow, and there are other ways", "bob+alice").says(alices("alice", proving)...))),
		late(good("it is the only one", "+alice").says(talkOf("alice")...)),
		late(good("the other cannot be read", "bob+alice").says(talkOf("alice")...), func(s *stage) { s.readers.Break(0, token.ErrFault) }),
		late(good("the other cannot be opened", "bob+alice").says(alices("alice", proving)...), failsAt("C_OpenSession", 1, token.ErrFault)),
		late(good("the quick one has expired", "expired+alice").says(alices("alice", proving)...)),
		late(good("the quick one is locked", "alice+alice").says("E Error 2346").with(func(e *ending) { e.want, e.pins = PINLocked, 0 }), locked),
		late(good("the quick one hides its certificates", "bob+alice").says(alices("alice", proving)...), hides),
		late(good("the session's card is slow", "bob+alice").with(sessions("alice")).says(talkOf("alice")...)),
		late(refused("nobody's is hers", "bob+stranger", ForeignCard, "2358")),
		late(refused("the rest of the quick one cannot be read", "bob+bob", TokenFault, "2314"), first(func(c *logintest.Card) {
			c.Objects = append(slices.Clone(c.Objects), c.Objects...)
		}), failsAtEach("C_FindObjects", 2, 5)),
		late(good("the slow one cannot be read", "bob+alice").with(func(e *ending) {
			e.want, e.said, e.pins = ForeignCard, []string{"E Error 2358"}, 0
		}), atNth("C_GetSlotList", 2, func(s *stage) { s.readers.Break(1, token.ErrFault); s.readers.Slow(0, time.Second) })),
		late(good("who is asked which certificate sees all", "alice+bob").with(nobodyNamed).with(func(e *ending) { e.chosen = []string{"number of alice"} }).says(
			append([]string{"Q Several certificates"}, alices("alice", proving)...)...)),
		late(good("from another host it tells nobody whose it is", "alice+bob").says("P Smart card PIN: ").with(
			func(e *ending) { e.rhost = "192.0.2.7" }).with(inGlobal(discreetly))),
	} {
		t.Run(r.name, func(t *testing.T) {
			machine := time.Now()
			theDeck()
			synctest.Test(t, func(t *testing.T) {
				s := r.stageAt(t, machine)
				s.user.types = 500 * time.Millisecond
				res, err := s.auth.Authenticate(s.context, s.request, s.user)
				r.compare(s, res, err)
				s.check()
				if n := s.readers.Count(logintest.SlowCard); n != r.waits {
					t.Errorf("slow cards were waited for %d times, not %d: %q", n, r.waits, s.readers.Calls())
				}
				if took := time.Since(s.start); r.waits == 0 && took >= 2*time.Second {
					t.Errorf("it took %v", took)
				}
				time.Sleep(time.Hour) // what still runs ends
			})
		})
	}
}

// failsAtEach lets the calls with these numbers fail, counted from 1.
func failsAtEach(call string, numbers ...int) happening {
	return func(s *stage) {
		n := 0
		s.readers.Before(call, func(context.Context) error {
			if n++; slices.Contains(numbers, n) {
				return token.ErrFault
			}
			return nil
		})
	}
}

func skipped(e ending) ending { return e.with(inGlobal("foreign_card = skip;")) }
