package login

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
)

const latePIN = "271828"

// clock is the test's own.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// evening is a user who answers the first prompt late; meanwhile something happens.
type evening struct {
	answers   []string
	meanwhile func()
	said      []string
}

func (e *evening) Prompt(context.Context, string) (*secret.PIN, error) {
	if e.meanwhile != nil {
		e.meanwhile()
		e.meanwhile = nil
	}
	answer := e.answers[0]
	if len(e.answers) > 1 {
		e.answers = e.answers[1:]
	}
	return secret.New([]byte(answer))
}

func (e *evening) Ask(context.Context, string) (string, error)         { return "", ErrConversation }
func (e *evening) TakeOver(context.Context, Item) (*secret.PIN, error) { return nil, nil }
func (e *evening) Info(_ context.Context, text string) error {
	e.said = append(e.said, text)
	return nil
}
func (e *evening) Error(_ context.Context, text string) error {
	e.said = append(e.said, text)
	return nil
}
func (e *evening) Wait(context.Context, time.Duration) error { return nil }

// desk is a machine with alice's card in its reader.
type desk struct {
	*stage
	ca    *testca.CA
	alice *testca.Cert
	clock *clock

	global string // lines of the configuration
}

func newDesk(t *testing.T, lasts time.Duration, global string) *desk {
	t.Helper()
	d := &desk{stage: lay(t, time.Now(), "empty"), ca: testca.NewRoot("Late CA"), clock: &clock{at: time.Now()}, global: global}
	d.alice = d.ca.Leaf("alice", testca.Validity(time.Now().Add(-time.Hour), time.Now().Add(lasts)))
	card := d.cards[0]
	card.Label, card.PIN, card.Objects = "alice", latePIN, []logintest.Object{{ID: []byte{1}, Cert: d.alice}}
	d.write("ca.pem", string(d.ca.PEM()))
	d.write("map", "alice -> alice\n")
	d.crl(testca.CRL{Number: time.Now().Unix()})
	d.policy("cert_policy = ca, signature, crl_offline;")
	return d
}

// policy writes the configuration with these lines about the checks of certificates.
func (d *desk) policy(lines string) {
	d.t.Helper()
	d.request.Args = nil
	d.configure(d.global+` mapper cn { mapfile = "file://DIR/map"; }`, `crl_dir = "DIR/list.crl"; `+lines)
	d.write("ca.pem", string(d.ca.PEM()))
}

func (d *desk) crl(list testca.CRL) {
	d.t.Helper()
	d.write("list.crl", string(testca.PEMCRL(d.ca.CRL(list))))
}

func (d *desk) calls(function string) int { return d.readers.Count(function) }

func (d *desk) authenticator() *Authenticator {
	d.auth.Now = d.clock.now
	return d.auth
}

// happenings are what may become of a card while its prompt is open, and what must come of it. The
// clock shows that the answer is given later.
var happenings = []struct {
	name  string
	lasts time.Duration // of the certificate, from now
	later time.Duration
	do    func(*desk)
	want  Outcome
}{
	{"nothing", time.Hour, 12 * time.Minute, func(*desk) {}, Success},
	{"revoked", time.Hour, 6 * time.Minute, func(d *desk) {
		d.crl(testca.CRL{Number: time.Now().Unix() + 1, Entries: []testca.Revoked{{Serial: d.alice.Serial, Reason: 1}}})
	}, CertificateRevoked},
	{"revoked but answered within five minutes", time.Hour, 4 * time.Minute, func(d *desk) {
		d.crl(testca.CRL{Number: time.Now().Unix() + 1, Entries: []testca.Revoked{{Serial: d.alice.Serial, Reason: 1}}})
	}, Success},
	{"list lost", time.Hour, 6 * time.Minute, func(d *desk) {
		if err := os.Remove(filepath.Join(d.dir, "list.crl")); err != nil {
			d.t.Fatal(err)
		}
	}, RevocationUnknown},
	{"expired", 3 * time.Minute, 6 * time.Minute, func(*desk) {}, CertificateExpired},
	{"unmapped", time.Hour, 6 * time.Minute, func(d *desk) { d.write("map", "bob -> alice\n") }, ForeignCard},
	{"authority taken away", time.Hour, 6 * time.Minute, func(d *desk) {
		d.write("ca.pem", string(testca.NewRoot("Another CA").PEM()))
	}, IssuerUnknown},
	{"card exchanged", time.Hour, 6 * time.Minute, func(d *desk) { exchanged(d.stage) }, CardRemoved},
	{"card exchanged at once", time.Hour, 2 * time.Second, func(d *desk) { exchanged(d.stage) }, CardRemoved},
	{"card pulled", time.Hour, 6 * time.Minute, func(d *desk) { pulled(d.stage) }, CardRemoved},
	{"PIN locked elsewhere", time.Hour, 6 * time.Minute, func(d *desk) { locked(d.stage) }, PINLocked},
	{"clock set back by a day", time.Hour, -24 * time.Hour, func(*desk) {}, CertificateNotYetValid},
}

// TestLateAnswer: before a PIN is sent late, the card is judged once more.
func TestLateAnswer(t *testing.T) {
	for _, h := range happenings {
		t.Run(h.name, func(t *testing.T) {
			d := newDesk(t, h.lasts, "")
			user := &evening{answers: []string{latePIN}, meanwhile: func() { h.do(d); d.clock.pass(h.later) }}
			result, err := d.authenticator().Authenticate(t.Context(), Request{User: "alice", Args: d.request.Args}, user)

			var r *Refusal
			got := Success
			if errors.As(err, &r) {
				got = r.Outcome
			}
			if got != h.want || (err == nil) != (result != nil) {
				t.Errorf("%v: %v, want %v", got, err, h.want)
			}
			logins := 0
			if h.want == Success {
				logins = 1
			}
			if n := d.calls("C_Login"); n != logins {
				t.Errorf("%d PINs were sent, want %d", n, logins)
			}
		})
	}
}

// TestLateAnswerOnTheLastTry: another program used up tries while the prompt was open.
func TestLateAnswerOnTheLastTry(t *testing.T) {
	d := newDesk(t, time.Hour, "foreign_card = skip;")
	user := &evening{answers: []string{latePIN}, meanwhile: func() { lastTry(d.stage); d.clock.pass(time.Minute) }}
	_, err := d.authenticator().Authenticate(t.Context(), Request{User: "alice", Args: d.request.Args}, user)

	var r *Refusal
	if !errors.As(err, &r) || r.Outcome != PINLastTry || r.Restore == "" {
		t.Errorf("%v", err)
	}
	if n := d.calls("C_Login"); n != 0 {
		t.Errorf("%d PINs were sent", n)
	}
}

// TestLateChange: a PIN is changed on the card that was looked at, and only while it is the user's.
func TestLateChange(t *testing.T) {
	for _, h := range happenings {
		t.Run(h.name, func(t *testing.T) {
			d := newDesk(t, h.lasts, "")
			user := &evening{
				answers:   []string{latePIN, "314159"},
				meanwhile: func() { h.do(d); d.clock.pass(h.later) },
			}
			err := d.authenticator().ChangePIN(t.Context(), Request{User: "alice", Args: d.request.Args}, ChangeFlags{}, user)

			// Which PIN is the right one is the library's affair here.
			if h.want == PINLocked {
				return
			}
			if (err == nil) != (h.want == Success) {
				t.Errorf("%v, want %v", err, h.want)
			}
			if n := d.calls("C_SetPIN"); (n > 0) != (h.want == Success) {
				t.Errorf("C_SetPIN was called %d times", n)
			}
		})
	}
}
