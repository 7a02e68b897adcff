package login

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// notebook is an Observer that writes down what it is told.
type notebook struct {
	conf   *config.Config
	looked int
	judged []Judged
	passed []error
	asked  []string
}

func (n *notebook) Configured(conf *config.Config)                             { n.conf = conf }
func (n *notebook) Looked([]token.Slot, func(*token.Slot) (token.Fit, string)) { n.looked++ }
func (n *notebook) Judged(j Judged)                                            { n.judged = append(n.judged, j) }
func (n *notebook) Passed(_ *token.Info, why error)                            { n.passed = append(n.passed, why) }
func (n *notebook) Asks(card *token.Info)                                      { n.asked = append(n.asked, card.Label) }

// rehearsed is a row of TestRehearsalsEndAsLogins.
func rehearsed(card, user, global string) ending {
	return ending{name: fmt.Sprintf("%s, %q, %s", card, user, global), card: card, user: user, global: global, answers: rightAnswer}
}

// TestRehearsalsEndAsLogins: for each card, user and mode a rehearsal is refused where a login is refused before it
// sends a PIN, with the same outcome; where it is not refused, the login sends one. A rehearsal sends none.
func TestRehearsalsEndAsLogins(t *testing.T) {
	modes := []string{"", "foreign_card = skip;", "card_only = true;", "wait_for_card = true;", "remote_login = allow; remote_login_hides = true;"}
	for _, card := range append(slices.Sorted(maps.Keys(theDeck().cards)), "bob+alice", "", "no reader") {
		for _, user := range []string{"alice", "bob", ""} {
			for _, mode := range modes {
				row := rehearsed(card, user, mode)
				if strings.Contains(mode, "hides") {
					row.rhost = "192.0.2.1"
				}
				t.Run(row.name, func(t *testing.T) { compareRehearsal(t, row) })
			}
		}
	}
}

// TestRehearsedFaultsAreAsStrict: with fail_closed a fault is answered as strictly as in a login.
func TestRehearsedFaultsAreAsStrict(t *testing.T) {
	row := rehearsed("alice", "alice", "foreign_card = skip;")
	row.args = []string{config.FailClosed, "ca_dir=/nonexistent"}
	s := row.stage(t)
	rehearsal := s.auth.Rehearse(s.context, s.request)
	if r := rehearsal.Refusal; r == nil || r.mode != ModeRequired {
		t.Errorf("%+v", r)
	}
}

func compareRehearsal(t *testing.T, row ending) {
	machine := time.Now()
	theDeck()
	synctest.Test(t, func(t *testing.T) {
		s := row.stageAt(t, machine)
		told := new(notebook)
		s.auth.Observer = told
		rehearsal := s.auth.Rehearse(s.context, s.request)
		s.check()
		if n := s.readers.Count("C_Login"); n != 0 || len(s.user.events) != 0 {
			t.Fatalf("a rehearsal sends %d PINs, and says %q", n, s.user.events)
		}

		again := row.stageAt(t, machine)
		again.auth.Observer = new(notebook)
		_, err := again.auth.Authenticate(again.context, again.request, again.user)
		sent := again.readers.Count("C_Login") > 0
		log := again.log.String()
		switch r := rehearsal.Refusal; {
		case r == nil && !sent:
			t.Errorf("the rehearsal comes to the PIN, the login ends before: %v", err)
		case r != nil && sent:
			t.Errorf("the rehearsal ends with %v, the login sends a PIN and ends with %v", r, err)
		case r != nil && !strings.Contains(log, "reason="+r.Outcome.String()):
			t.Errorf("the rehearsal ends with %v, the login with:\n%s", r, log)
		case r != nil && outcomeOf(rehearsal.Told) != outcomeOf(err):
			t.Errorf("the rehearsal tells %v, the login %v", rehearsal.Told, err)
		}
		if told.conf == nil || told.looked == 0 || rehearsal.Refusal == nil && len(told.asked) == 0 {
			t.Errorf("the observer was told %+v", told)
		}
		time.Sleep(time.Hour) // what still runs ends
	})
}

// TestObserverIsToldOfEachCertificate: with whose it is, why it was refused, and what each mapper says.
func TestObserverIsToldOfEachCertificate(t *testing.T) {
	row := ending{card: "alice and bob", user: "alice"}
	machine := time.Now()
	theDeck()
	synctest.Test(t, func(t *testing.T) {
		s := row.stageAt(t, machine)
		told := new(notebook)
		s.auth.Observer = told
		if r := s.auth.Rehearse(s.context, s.request); r.Refusal != nil {
			t.Fatal(r.Refusal)
		}

		if len(told.judged) != 2 || told.judged[0].Err == nil || told.judged[1].Err != nil || told.judged[1].Mapped.User != "alice" {
			t.Fatalf("%+v", told.judged)
		}
		if got := outcomeOf(told.judged[0].Err); got != "foreign_card" {
			t.Errorf("bob's certificate: %s", got)
		}
		all, err := told.judged[0].Explain(t.Context(), "")
		if err != nil || len(all) != 1 || all[0].User != "bob" {
			t.Errorf("whose bob's is: %+v, %v", all, err)
		}
	})
}

// TestRefusalsHaveTheirPlaceInTheLog: the number of the message, the verifier's reason and the certificate, for programs
// that read the log.
func TestRefusalsHaveTheirPlaceInTheLog(t *testing.T) {
	for _, row := range []ending{
		{card: "expired", user: "alice", log: `number=2324 check=expired subject="CN=alice`},
		{card: "bob", user: "alice", log: `number=2358 subject="CN=bob`},
		{card: "alice", user: "alice", answers: wrongAnswer, log: `number=2320 subject="CN=alice`},
		{card: "alice", user: "alice", answers: rightAnswer, happens: []happening{locked}, log: "number=2346"},
	} {
		machine := time.Now()
		theDeck()
		synctest.Test(t, func(t *testing.T) {
			s := row.stageAt(t, machine)
			if _, err := s.auth.Authenticate(s.context, s.request, s.user); err == nil || !strings.Contains(s.log.String(), row.log) {
				t.Errorf("%s: %q is not in the log:\n%s", row.card, row.log, s.log)
			}
			time.Sleep(time.Hour)
		})
	}
}
