package login

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

const discreetly = "remote_login = allow; remote_login_hides = true;"

// TestAnotherHostLearnsNothing: whoever asks from another host sees and hears the same for the same time, be the
// card in the reader his own or not.
func TestAnotherHostLearnsNothing(t *testing.T) {
	d := newTable(t, logintest.Object{})
	refused := []string{"P Smart card PIN: ", "W 6s", "S 5s", "W 0s", "E Error 2382: the smart card login from another host was refused"}
	tests := map[string]struct {
		user, answer, args string
		fault              []happening
		logins             int
		reason             string // in the log
	}{
		"his card, a wrong PIN":            {"alice", otherPIN, "", nil, 1, "pin_incorrect"},
		"his card, what cannot be a PIN":   {"alice", "1", "", nil, 0, "pin_does_not_fit"},
		"his card, an empty PIN":           {"alice", "", "", nil, 0, "pin_empty"},
		"his card, locked":                 {"alice", rightPIN, "", []happening{locked}, 0, "pin_locked"},
		"his card, few tries, a wrong PIN": {"alice", otherPIN, "", []happening{fewTriesLeft}, 1, "pin_incorrect"},
		"his card, the last try":           {"alice", rightPIN, "", []happening{lastTry}, 0, "pin_not_read"},
		"his card, a PIN pad":              {"alice", rightPIN, "", []happening{atReader(rightPIN)}, 0, "pin_not_read"},
		"his card, it cannot sign":         {"alice", rightPIN, "", []happening{fails("C_Sign", errors.New("CKR_FUNCTION_FAILED"))}, 1, "signing_failed"},
		"his card, pulled":                 {"alice", rightPIN, "", []happening{fails("C_Login", token.ErrRemoved)}, 1, "card_removed"},
		"his card, try_first_pass":         {"alice", otherPIN, "try_first_pass", nil, 1, "pin_incorrect"},
		"another's card, the right PIN":    {"bob", rightPIN, "", nil, 0, "foreign_card"},
		"another's card, an empty PIN":     {"bob", "", "", nil, 0, "foreign_card"},
		"another's card, locked":           {"bob", rightPIN, "", []happening{locked}, 0, "foreign_card"},
		"another's card, the last try":     {"bob", rightPIN, "", []happening{lastTry}, 0, "foreign_card"},
		"another's card, a PIN pad":        {"bob", rightPIN, "", []happening{atReader()}, 0, "foreign_card"},
		"another's card, try_first_pass":   {"bob", otherPIN, "try_first_pass", nil, 0, "foreign_card"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := Request{User: tt.user, RHost: "192.0.2.7"}
			if tt.args != "" {
				r.Args = []string{tt.args}
			}
			who := &person{answers: []string{tt.answer}, earlier: rightPIN}
			p := d.play(t, r, who, false, discreetly+` pin_pattern = "[0-9]+";`, tt.fault...)
			seen := slices.DeleteFunc(slices.Clone(p.events), func(e string) bool {
				return strings.HasPrefix(e, "C ") || e == "W 15s" || e == "W 0s" // calls, and waits for the assessment: nobody sees them
			})
			want := slices.DeleteFunc(slices.Clone(refused), func(e string) bool { return e == "W 0s" })
			if !slices.Equal(seen, want) || outcomeOf(p.err) != "pin_incorrect" {
				t.Errorf("%s: %q, want %q", outcomeOf(p.err), seen, want)
			}
			if p.logins() != tt.logins {
				t.Errorf("%d PINs were sent, want %d", p.logins(), tt.logins)
			}
			if !strings.Contains(p.log, "reason="+tt.reason) {
				t.Errorf("the log does not say %s:\n%s", tt.reason, p.log)
			}
			if strings.Contains(p.log, rightPIN) || strings.Contains(p.log, otherPIN) {
				t.Errorf("a PIN is in the log:\n%s", p.log)
			}
		})
	}
}

func TestDiscreetLogin(t *testing.T) {
	d := newTable(t, logintest.Object{})
	only := []string{"P Smart card PIN: ", "C C_Login"}
	tests := map[string]struct {
		request Request
		remote  bool // what logind says
		global  string
		want    string // the first thing that is said
	}{
		"PAM_RHOST":               {Request{User: "alice", RHost: "192.0.2.7"}, false, discreetly, only[0]},
		"a remote session":        {Request{User: "alice"}, true, discreetly, only[0]},
		"the card names the user": {Request{RHost: "192.0.2.7"}, false, discreetly, only[0]},
		"a local session":         {Request{User: "alice"}, false, discreetly, "T Smart card found"},
		"loopback is local":       {Request{User: "alice", RHost: "::1"}, false, discreetly + " loopback_is_local = true;", "T Smart card found"},
		"without the key":         {Request{User: "alice", RHost: "192.0.2.7"}, false, "remote_login = allow;", "T Smart card found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := d.play(t, tt.request, &person{answers: []string{rightPIN}}, tt.remote, tt.global, fewTriesLeft)
			if outcomeOf(p.err) != "granted" || p.logins() != 1 || p.events[0] != tt.want {
				t.Errorf("%s after %q", outcomeOf(p.err), p.events)
			}
			told := slices.DeleteFunc(slices.Clone(p.events), func(e string) bool { return strings.HasPrefix(e, "W ") })
			if tt.want == only[0] && !slices.Equal(told, only) {
				t.Errorf("%q, want %q", told, only)
			}
		})
	}
}

// TestCardThatHidesItsCertificates: whose it is would be known after the PIN only, so it gets none.
func TestCardThatHidesItsCertificates(t *testing.T) {
	d := newTable(t, logintest.Object{})
	d.hides = true
	who := &person{answers: []string{rightPIN}}
	p := d.play(t, Request{User: "alice", RHost: "192.0.2.7"}, who, false, discreetly)
	if p.logins() != 0 || !strings.Contains(p.log, "shows its certificates only after the PIN") {
		t.Errorf("%q\n%s", p.events, p.log)
	}
}

// TestWhatNobodyKnowsIsRemote: where logind does not say where a process belongs, nothing is told.
func TestWhatNobodyKnowsIsRemote(t *testing.T) {
	done := make(chan struct{})
	close(done)
	hiding := &config.Config{Global: config.Global{RemoteLogin: "allow", RemoteLoginHides: true}}
	at := &attempt{a: &Authenticator{}, conf: hiding}
	for name, tt := range map[string]struct {
		answer remoteAnswer
		want   bool
	}{
		"local":        {remoteAnswer{asked: true}, false},
		"remote":       {remoteAnswer{asked: true, remote: true}, true},
		"no answer":    {remoteAnswer{asked: true, err: errors.New("no bus")}, true},
		"nobody asked": {remoteAnswer{}, true},
	} {
		tt.answer.allowed, tt.answer.done = true, done
		if got := at.isDiscreet(t.Context(), &tt.answer); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestVeilTime: a refusal comes at its time, whatever was done before it.
func TestVeilTime(t *testing.T) {
	start := time.Now()
	for spent, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, time.Second: 4 * time.Second, 6 * time.Second: 4 * time.Second, 11 * time.Second: 4 * time.Second,
	} {
		var slept time.Duration
		a := &Authenticator{
			Now:   func() time.Time { return start.Add(spent) },
			Sleep: func(_ context.Context, d time.Duration) { slept = d },
		}
		at := &attempt{a: a, conv: &person{}, refuseAt: start.Add(discreetTime)}
		told := at.conceal(t.Context(), refuse(ForeignCard, errors.New("bob's")))
		if slept != want || told.message() != MsgRemoteRefused || told.Outcome != PINIncorrect {
			t.Errorf("after %s: %s, want %s; %v", spent, slept, want, told)
		}
	}
}

// TestDiscreetTimes: a refusal comes five seconds after the answer, whatever it is for; where the network is slow, that and
// verify_timeout; where the card is slower than that, at the next five seconds.
func TestDiscreetTimes(t *testing.T) {
	const (
		soon   = 5 * time.Second
		later  = 5*time.Second + 10*time.Second + verdictGrace
		hidden = "E Error 2382"
	)
	slow := func(s *stage) { s.auth.Accounts = slowPeople{people{}, 7 * time.Second} }
	row := func(name, card string, want Outcome, pins int, h ...happening) ending {
		return ending{
			name: name, card: card, user: "alice", rhost: "192.0.2.7", answers: rightAnswer, global: discreetly,
			want: want, pins: pins, happens: h, said: []string{prompt, hidden},
		}
	}
	taken := func(e ending) ending {
		e.args, e.said, e.answers = []string{"use_first_pass"}, []string{hidden}, nil
		return e
	}
	pattern := inGlobal(`pin_pattern = "[0-9]+";`)
	for _, tt := range []struct {
		row   ending
		after time.Duration
	}{
		{row("a wrong PIN", "alice", PINIncorrect, 1).types(otherPIN), soon},
		{row("somebody else's card", "bob", ForeignCard, 0), soon},
		{row("somebody else's two cards", "bob+expired", CertificateExpired, 0), soon},
		{row("nobody answers", "alice", PINNotRead, 0).types(), soon},
		{row("what cannot be a PIN", "alice", PINDoesNotFit, 0).types("1"), soon},
		{row("hidden certificates", "alice", NoMatchingCertificate, 0, hides), soon},
		{row("a token without a PIN", "alice", PINNotVerifiable, 0, withoutPIN, logInNotNeeded), soon},
		{row("the configuration does not do", "alice", ConfigurationInvalid, 0).with(withArgs("ca_dir=/nonexistent")), soon},
		{row("another card meanwhile", "alice", CardRemoved, 0, during(func(s *stage) { exchanged(s); s.later(time.Minute) })), soon},
		{row("a slow user database", "bob", ForeignCard, 0, slow), later},
		{row("a slow user database, a wrong PIN", "alice", PINIncorrect, 1, slow).types(otherPIN), later},
		{row("a slow card", "alice", PINIncorrect, 1, at("C_Login", func(*stage) { time.Sleep(7 * time.Second) })).types(otherPIN), 2 * soon},
		{taken(row("use_first_pass without an earlier secret", "alice", PINNotRead, 0)), soon},
		{taken(row("use_first_pass with a wrong PIN", "alice", PINIncorrect, 1).with(pattern).with(func(e *ending) { e.earlier = otherPIN })), soon},
		{taken(row("use_first_pass, somebody else's card", "bob", ForeignCard, 0).with(pattern).with(func(e *ending) { e.earlier = rightPIN })), soon},
	} {
		t.Run(tt.row.name, func(t *testing.T) {
			machine := time.Now()
			theDeck()
			synctest.Test(t, func(t *testing.T) {
				s := tt.row.stageAt(t, machine)
				start := time.Now()
				res, err := s.auth.Authenticate(s.context, s.request, s.user)
				if after := time.Since(start); after != tt.after {
					t.Errorf("refused after %s, want %s", after, tt.after)
				}
				if told := outcomeOf(err); told != "pin_incorrect" || res != nil {
					t.Errorf("the stack is told %s", told)
				}
				if !strings.Contains(s.log.String(), "reason="+tt.row.want.String()) || s.readers.Count("C_Login") != tt.row.pins {
					t.Errorf("%d PINs were sent, the log says\n%s", s.readers.Count("C_Login"), s.log)
				}
				sameTalk(t, s.user.heard("W"), tt.row.said)
				s.check()
				time.Sleep(time.Hour) // what still runs ends
			})
		})
	}
	playAll(t, []ending{
		row("use_first_pass with the PIN", "alice", Success, 1).with(pattern).says().with(func(e *ending) { e.args, e.earlier = []string{"use_first_pass"}, rightPIN }),
		row("a token without a PIN, require_pin = false", "alice", Success, 0, withoutPIN, logInNotNeeded).with(inGlobal("require_pin = false;")).says(prompt),
		row("try_first_pass asks all the same", "alice", Success, 1).with(pattern).says(prompt).with(func(e *ending) { e.args, e.earlier = []string{"try_first_pass"}, otherPIN }),
	})
}
