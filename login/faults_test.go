package login

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/mapper"
)

// TestWaitsThatTheHostRefuses: an application that is gone is not waited for.
func TestWaitsThatTheHostRefuses(t *testing.T) {
	impatient := func(s *stage) { s.user.impatient = true }
	row := func(name, card string, want Outcome, h ...happening) ending {
		e := refused(name, card, want, "").happening(append(h, impatient)...)
		return e
	}
	slow := func(s *stage) { s.auth.Accounts = slowPeople{people{}, 10 * time.Second} }
	playAll(t, []ending{
		row("for a card", "", NoCard).with(waiting).says("T Please insert your smart card", "E Error 2308"),
		row("for the keypad", "alice", PINNotRead, atReader(rightPIN)).says(greeted("alice", keypad, "E Error 2316")...),
		row("for the assessment", "alice", InternalFault, slow).says(asked("alice", "T Checking the certificate", "E Error 2370")...),
		row("for the owners, foreign_card = skip", "alice", InternalFault, slow).with(inModule("cert_policy = ca, crl_offline; crl_dir = /nonexistent;")).with(
			inGlobal("foreign_card = skip;")).says("E Error 2370"),
		row("for hidden certificates", "alice", InternalFault, hides).says(asked("alice", "T Checking the certificate", "E Error 2370")...).with(sentOne),
		row("to show an error", "bob", ForeignCard).with(inGlobal("err_display_time = 3;")).says("E Error 2358"),
	})
}

// panicking is a user database with a fault.
type panicking struct{ people }

func (panicking) Lookup(name string) (*accounts.Account, error) { panic("lookup of " + name) }

// TestPanicsBesideTheLogin: a fault in what runs beside the login is a refusal, and does not end the process.
func TestPanicsBesideTheLogin(t *testing.T) {
	fault := func(name, card string, said ...string) ending {
		return ending{name: name, card: card, user: "alice", answers: rightAnswer, said: append(said, "E Error 2370"), want: InternalFault, log: "internal fault"}
	}
	accountsPanic := func(s *stage) { s.auth.Accounts = panicking{} }
	playAll(t, []ending{
		fault("in the user database", "alice").happening(accountsPanic),
		fault("in the user database, two cards", "alice+p384").happening(accountsPanic),
		fault("in the user database, the PIN is asked for already", "alice", asked("alice", "T Checking the certificate")...).happening(func(s *stage) {
			s.auth.Accounts = panicsLate{}
		}),
		good("while logind is asked: as if it did not answer", "alice").happening(func(s *stage) {
			s.auth.SessionIsRemote = func(context.Context, int) (bool, error) { panic("no bus") }
		}),
	})
}

// panicsLate is a slow user database with a fault.
type panicsLate struct{ people }

func (panicsLate) Lookup(name string) (*accounts.Account, error) {
	time.Sleep(time.Second)
	panic("lookup of " + name)
}

// TestLateAnswersOfOtherKinds: what is looked at again when the answer comes after more than five minutes.
func TestLateAnswersOfOtherKinds(t *testing.T) {
	const checking = "T Checking the certificate"
	late := func(do func(*stage)) happening {
		return during(func(s *stage) {
			do(s)
			s.later(6 * time.Minute)
		})
	}
	row := func(name, card string, want Outcome, said ...string) ending {
		return ending{name: name, card: card, user: "alice", answers: rightAnswer, want: want, said: asked(card, said...)}
	}
	noCA := func(s *stage) {
		if err := os.Remove(filepath.Join(s.dir, "ca.pem")); err != nil {
			s.t.Error(err)
		}
	}
	without := func(i int) func(*stage) {
		return func(s *stage) {
			s.readers.Change(func() { s.cards[0].Objects = append([]logintest.Object{}, s.cards[0].Objects[i+1:]...) })
		}
	}
	playAll(t, []ending{
		row("the authorities are gone", "alice", ConfigurationInvalid, checking, "E Error 2364").happening(late(noCA)),
		row("the authorities are gone, hidden certificates", "alice", ConfigurationInvalid, checking, "E Error 2364").happening(hides, late(noCA)),
		row("hidden certificates", "alice", Success, checking, checking, proving).happening(hides, late(func(*stage) {})).with(sentOne),
		row("the certificate is not on the card any more", "alice", NoMatchingCertificate, checking, "E Error 2336").happening(late(without(0))),
		row("another certificate would do now", "keyless first", Success, checking, proving).happening(late(without(0))).with(sentOne),
		row("the card fails when it is read again", "alice", TokenFault, checking, "E Error 2314").happening(late(func(s *stage) {
			s.readers.Fail("C_FindObjects", errors.New("no"))
		})),
		{
			name: "the certificate that was chosen is not on the card any more", card: "alice and bob", chosen: []string{"number of bob"}, answers: rightAnswer,
			want: NoMatchingCertificate, happens: []happening{late(without(0))},
			said: append([]string{"Q Several certificates"}, asked("alice and bob", checking, "E Error 2336")...),
		},
		{
			name: "the account is chosen too late", card: "alice", answers: rightAnswer, chosen: []string{"1"}, want: AccountNotChosen, pins: 1,
			global: `use_mappers = cn; mapper cn { mapfile = "file://DIR/map"; }`, said: append(talkOf("alice"), "Q Several accounts", "E Error 2400"),
			happens: []happening{func(s *stage) {
				s.write("map", "alice -> alice\nalice -> ops\n")
				s.user.chooses = func() { s.later(6 * time.Minute) }
			}},
			log: "the answer came after more than 5m0s",
		},
	})
}

// TestDebugTellsTheSteps: the options may lower the level of the log.
func TestDebugTellsTheSteps(t *testing.T) {
	for _, debug := range []bool{false, true} {
		e := good("", "alice")
		if debug {
			e.args = []string{"debug"}
		}
		s := e.stage(t)
		level := new(slog.LevelVar)
		s.auth.Level = level
		s.auth.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: level}))
		if _, err := s.auth.Authenticate(t.Context(), s.request, s.user); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(s.log.String(), "certificate check"); got != debug {
			t.Errorf("debug %t: %s", debug, s.log)
		}
		s.check()
	}
}

// TestChecker: a tool asks about certificates as a login does.
func TestChecker(t *testing.T) {
	s := ending{card: "alice", module: `crl_mirror = "http://a/ -> http://b/";`}.stage(t)
	conf, err := LoadOptions(s.request.Args)
	if err != nil {
		t.Fatal(err)
	}
	options, err := VerifyOptions(conf)
	if err != nil || len(options.CRLMirrors) != 1 || options.CRLMirrors[0].To != "http://b/" {
		t.Errorf("%v, %v", options.CRLMirrors, err)
	}
	k, err := s.auth.NewChecker(conf)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certinfo.Parse(theDeck().alice.DER)
	if err != nil {
		t.Fatal(err)
	}

	result, err := k.Check(t.Context(), cert, nil)
	if err != nil || len(result.Chain) < 2 {
		t.Errorf("%v, %v", result, err)
	}
	found, err := k.Find(t.Context(), Checked(cert, result))
	if err != nil || found.User != "alice" || found.Mapper != "cn" {
		t.Errorf("%v, %v", found, err)
	}
	explained, err := k.Explain(t.Context(), Checked(cert, nil), "alice")
	if err != nil || len(explained) != 1 {
		t.Errorf("%v, %v", explained, err)
	}
	if _, err := k.match(t.Context(), Checked(cert, result), "bob"); !errors.Is(err, mapper.ErrNoMatch) {
		t.Errorf("%v", err)
	}
}
