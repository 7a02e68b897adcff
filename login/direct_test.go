package login

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

// What a card tells that is spoken to directly, and a PKCS#11 library does not.

// counted has the card tell how many tries are left, of most.
func counted(wrong, most int) happening {
	return func(s *stage) {
		c := s.cards[0]
		c.Counts, c.Wrong, c.Most, c.Known = true, wrong, most, most
	}
}

func touching(how token.Touch) happening {
	return func(s *stage) { s.cards[0].Objects[0].Touch = how }
}

// renewed has the module remember alice's certificate of a card that holds another one by now.
func renewed(now string) happening {
	return func(s *stage) {
		c := s.cards[0]
		c.Remembered, c.Objects = c.Objects, slices.Clone(theDeck().cards[now])
	}
}

// besideBobs puts bob's certificate before those that the card holds.
func besideBobs(s *stage) {
	s.cards[0].Objects = append(slices.Clone(theDeck().cards["bob"]), s.cards[0].Objects...)
}

func signsAfter(d time.Duration) happening {
	return at("C_Sign", func(*stage) { time.Sleep(d) })
}

// TestTriesAreCounted: the number stands in the prompt where it is small or smaller than it was, and
// after a wrong PIN.
func TestTriesAreCounted(t *testing.T) {
	const (
		two  = "P Smart card PIN (2 tries left): "
		warn = "T Warning: 2 tries are left before the PIN is locked"
	)

	playAll(t, []ending{
		good("all of three", "alice").happening(counted(0, 3)),
		good("all of eight", "alice").happening(counted(0, 8)),
		good("two of three", "alice").happening(counted(1, 3)).says(greeted("alice", warn, two, proving)...),
		good("seven of eight", "alice").happening(counted(1, 8)).says(
			greeted("alice", "T Warning: 7 tries", "P Smart card PIN (7 tries left): ", proving)...),
		good("all of two", "alice").happening(counted(0, 2)).says(greeted("alice", warn, two, proving)...),
		good("the last", "alice").happening(counted(2, 3)).says(greeted("alice", finalTry, askLast, proving)...),
		good("two of three, silent", "alice").happening(counted(1, 3)).says(two).with(func(e *ending) { e.silent = true }),
		good("at the keypad", "alice").happening(counted(1, 3), atReader(rightPIN)).says(
			greeted("alice", warn, keypad+" (2 tries left)", proving)...),
		refusedPIN("wrong, and two are left", PINIncorrect, "2320", counted(0, 3)).types(wrongAnswer...).says(
			asked("alice", warn, "E Error 2320")...),
		refusedPIN("wrong, and one is left", PINIncorrect, "2320", counted(1, 3)).types(wrongAnswer...).says(
			greeted("alice", warn, two, "T Only one try is left", "E Error 2320")...),
		refusedPIN("wrong, and that was the last", PINLocked, "2346", counted(2, 3)).types(wrongAnswer...).says(
			greeted("alice", finalTry, askLast, "E Error 2346")...),
		refused("locked", "alice", PINLocked, "2346").happening(counted(3, 3)),
	})
}

// TestTouch: who has to touch the card is told before it waits, or once it is silent.
func TestTouch(t *testing.T) {
	const now, hint = "T Touch the smart card or token now", "T Touch the smart card or token if it blinks"
	playAll(t, []ending{
		good("always", "alice").happening(touching(token.TouchAlways)).says(asked("alice", proving, now)...),
		good("cached, and quick", "alice").happening(touching(token.TouchCached), signsAfter(900*time.Millisecond)),
		good("cached, and slow", "alice").happening(touching(token.TouchCached), signsAfter(1100*time.Millisecond)).says(
			asked("alice", proving, hint)...),
		good("never, and slow", "alice").happening(touching(token.TouchNever), signsAfter(10*time.Second)),
		good("untold, and slow", "alice").happening(signsAfter(3 * time.Second)).says(asked("alice", proving, hint)...),
	})
}

// TestDefaultPIN: a PIN that everybody knows is named after the login, and in the log.
func TestDefaultPIN(t *testing.T) {
	makers := func(s *stage) { s.cards[0].DefaultPIN = true }
	playAll(t, []ending{
		good("told", "alice").happening(makers).says(asked("alice", proving, "T Warning: this smart card still has its maker's PIN")...).with(
			func(e *ending) { e.log = "maker's PIN" }),
		good("silent", "alice").happening(makers).says(prompt).with(func(e *ending) { e.silent, e.log = true, "maker's PIN" }),
		refusedPIN("a wrong PIN is told nothing", PINIncorrect, "", makers).types(wrongAnswer...).says(
			asked("alice", fewTries, "E Error 2320")...),
	})
}

// TestWhatWasRememberedIsOutOfDate: the certificate that the card holds is judged from the start, and
// no other PIN is asked for.
func TestWhatWasRememberedIsOutOfDate(t *testing.T) {
	const checking = "T Checking the certificate"
	anew := func(e ending, rest ...string) ending {
		return e.says(asked(e.card, append([]string{proving, checking}, rest...)...)...)
	}
	no := func(name string, want Outcome, message, now string) ending {
		return anew(refusedPIN(name, want, message, renewed(now)), "E Error "+message)
	}
	still := func(name string, want Outcome, message, now string) ending {
		e := refusedPIN(name, want, message, renewed(now))
		return e.says(asked("alice", proving, "E Error "+message)...)
	}
	nameless := func(e *ending) { e.user, e.login = "", "alice" }
	bobs := func(e *ending) { e.user, e.login = "", "bob" }

	playAll(t, []ending{
		anew(good("renewed", "alice").happening(renewed("p384"))),
		anew(good("renewed, nobody is named", "alice").happening(renewed("p384")).with(nameless)),
		anew(good("somebody else's now, nobody is named", "alice").happening(renewed("bob")).with(bobs)),
		anew(good("renewed, and bob's beside it", "alice").happening(renewed("p384"), besideBobs)),
		good("as it was remembered", "alice").happening(renewed("alice")),
		no("somebody else's now", ForeignCard, "2358", "bob"),
		no("expired now", CertificateExpired, "2324", "expired"),
		no("of another authority now", IssuerUnknown, "2354", "stranger"),
		no("of another purpose now", CertificateInvalid, "2330", "server"),
		still("without a key now", NoPrivateKey, "2340", "keyless"),
		still("nothing is there now", NoPrivateKey, "2340", "empty"),
		still("a copied certificate now", ProofFailed, "2342", "copied"),
	})
}

// TestNothingIsSignedAnewForAnotherThanWasPicked: who has picked a certificate from a list gets one of
// its accounts, or none.
func TestNothingIsSignedAnewForAnotherThanWasPicked(t *testing.T) {
	checking := "T Checking the certificate"
	pick := func(name, now string) ending {
		e := good(name, "alice and bob").happening(renewed(now), besideBobs)
		e.user, e.login, e.chosen = "", "alice", []string{"number of alice"}
		return e.says("Q Several certificates", found, "T Welcome alice and bob", prompt, proving, checking)
	}
	other := pick("bob's alone", "bob").with(func(e *ending) { e.want, e.said = NoMatchingCertificate, append(e.said, "E Error 2336") })
	playAll(t, []ending{pick("alice's is there", "p384"), other})
}

// TestCertificatesAreReadOneByOne: the next one is asked of the card where none before may log the
// user in, and all are where he may have to choose.
func TestCertificatesAreReadOneByOne(t *testing.T) {
	ca := theDeck().ca
	leaf := func(name string, options ...testca.Option) logintest.Object {
		return logintest.Object{Cert: ca.Leaf(name, options...)}
	}
	keyless := leaf("alice")
	keyless.NoKey = true
	sub := ca.Intermediate("Example Issuing CA")
	below, issuer := logintest.Object{Cert: sub.Leaf("alice")}, logintest.Object{Cert: &sub.Cert, NoKey: true}
	alice, bob, expired := leaf("alice"), leaf("bob"), leaf("alice", testca.Expired())

	for name, tt := range map[string]struct {
		objects []logintest.Object
		user    string
		global  string
		reads   int // with those that are passed over when the card is read on
		want    Outcome
	}{
		"the first will do":                     {[]logintest.Object{alice, bob, bob}, "alice", "", 1, Success},
		"the second will do":                    {[]logintest.Object{bob, alice, bob}, "alice", "", 1 + 2, Success},
		"the third will do":                     {[]logintest.Object{bob, expired, alice, bob}, "alice", "", 1 + 2 + 3, Success},
		"the second will do, foreign = skip":    {[]logintest.Object{bob, alice, bob}, "alice", "foreign_card = skip;", 1 + 2, Success},
		"none will do":                          {[]logintest.Object{bob, bob}, "alice", "", 1 + 2 + 2, ForeignCard},
		"all that are left after the fourth":    {[]logintest.Object{bob, bob, bob, bob, bob, alice, bob}, "alice", "", 1 + 2 + 3 + 4 + 7, Success},
		"an issuer behind the certificate":      {[]logintest.Object{below, issuer, bob}, "alice", "", 1 + 2, Success},
		"the first has no key":                  {[]logintest.Object{keyless, alice}, "alice", "", 1 + 2, Success},
		"the user may be asked":                 {[]logintest.Object{alice, expired, expired}, "", "", 3, Success},
		"nobody is asked":                       {[]logintest.Object{alice, bob}, "", "ask_certificate = no;", 1, Success},
		"the host may not learn whose card":     {[]logintest.Object{alice, bob}, "alice", "remote_login = allow; remote_login_hides = yes;", 2, Success},
		"an expired one, and nothing else":      {[]logintest.Object{expired, bob}, "alice", "", 1 + 2 + 2, CertificateExpired},
		"an unreadable one, and one of alice's": {[]logintest.Object{{Err: errors.New("refused")}, alice}, "alice", "", 1 + 2, Success},
	} {
		t.Run(name, func(t *testing.T) {
			machine := time.Now()
			synctest.Test(t, func(t *testing.T) {
				e := ending{card: "empty", user: tt.user, global: tt.global, answers: rightAnswer}
				if strings.Contains(tt.global, "remote") {
					e.rhost = "192.0.2.7"
				}
				s := e.stageAt(t, machine)
				s.cards[0].Objects = tt.objects

				_, err := s.auth.Authenticate(s.context, s.request, s.user)
				got := Success
				var r *Refusal
				if errors.As(err, &r) {
					got = r.Outcome
				}
				if n := s.cards[0].Reads; got != tt.want || n != tt.reads {
					t.Errorf("%v, want %v; %d certificates were read, want %d\n%s", err, tt.want, n, tt.reads, s.log)
				}
				s.check()
				time.Sleep(time.Hour)
			})
		})
	}
}

// TestTheCardIsLockedBeforeTheVerdict: by LogInAndSign itself where it can, and in each ending.
func TestTheCardIsLockedBeforeTheVerdict(t *testing.T) {
	atOnce := func(s *stage) { s.cards[0].LocksAtOnce = true }
	playAll(t, []ending{
		good("granted", "alice").happening(atOnce),
		refusedPIN("the signature is another's", ProofFailed, "2342", atOnce).with(func(e *ending) { e.card = "copied" }).says(
			asked("copied", proving, "E Error 2342")...),
		refusedPIN("not locked again", SigningFailed, "2340", atOnce, fails("C_Logout", errors.New("refused"))).says(
			asked("alice", proving, "E Error 2340")...),
	})
}

// TestACardOfAnotherKind: it is named, with its reader, and is no card for this login.
func TestACardOfAnotherKind(t *testing.T) {
	foreign := func(i int) happening {
		return func(s *stage) {
			s.readers.Break(i, &token.Error{Kind: token.ErrForeign, Err: errors.New("SELECT: 6A82, no PIV application")})
		}
	}
	log := func(e *ending) { e.log = "slot 1 (Reader 1): its card is of another kind: SELECT: 6A82" }
	held := func(s *stage) { s.readers.Break(0, &token.Error{Kind: token.ErrInUse}) }
	playAll(t, []ending{
		refused("alone", "alice", NoCard, "2306").with(cardOnly).happening(foreign(0)).with(log),
		refused("one way of several", "alice", NoCard, "").happening(foreign(0)).with(log),
		good("beside the user's own", "bob+alice").happening(foreign(0)).says(talkOf("alice")...),
		refused("held by another program", "alice", TokenUnreadable, "2404").happening(held),
	})
}

// TestTheCauseOfAProofThatFailsIsNamed: the module may know of copies that are out of date.
func TestTheCauseOfAProofThatFailsIsNamed(t *testing.T) {
	stale := func(s *stage) { s.cards[0].Unproved = "delete the copy" }
	playAll(t, []ending{
		refusedPIN("copies", ProofFailed, "2342", stale).with(func(e *ending) { e.card, e.log = "copied", "(delete the copy)" }).says(
			asked("copied", proving, "E Error 2342")...),
	})
}
