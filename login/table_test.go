package login

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/login/logintest"
)

const (
	rightPIN = "271828"
	otherPIN = "271829"
)

// table is a reader with alice's card, and what stays the same from one request to the next.
type table struct {
	traits logintest.Object // of the one certificate on it
	hides  bool             // it shows that after the log-in only
	files  map[string]string

	host     Host             // nil is none
	progress func(Place)      // nil is none
	trace    func(string)     // nil is none
	log      *slowtest.Buffer // nil makes one for each request
}

// newTable makes a card of alice's whose one object has these traits.
func newTable(t *testing.T, traits logintest.Object) *table {
	t.Helper()
	traits.ID, traits.Cert = []byte{1}, theDeck().alice
	return &table{traits: traits, files: make(map[string]string)}
}

// write makes a file of the next requests' machines; a configuration finds it as DIR/name.
func (d *table) write(name, text string) { d.files[name] = text }

// played is how a request ended and what happened on the way: what the person saw and heard, "C" the calls of
// C_Login, "S" the pauses.
type played struct {
	err    error
	events []string
	log    string
	user   string // granted
}

// logins counts what reached the card.
func (p played) logins() int {
	return strings.Count(strings.Join(p.events, "\n"), "C C_Login")
}

// play answers one request with a clock that stands still, and a card that has seen no wrong PIN.
func (d *table) play(t *testing.T, r Request, who *person, remote bool, global string, happens ...happening) played {
	t.Helper()
	s := lay(t, time.Now(), "empty")
	card := s.cards[0]
	card.Label, card.Objects, card.Hides = "alice's", []logintest.Object{d.traits}, d.hides
	for name, text := range d.files {
		s.write(name, text)
	}
	s.user, s.request = who, r
	s.request.Args = slices.Clone(r.Args)
	s.request.HostPID = os.Getpid()
	s.configure(global, "")
	for _, h := range happens {
		h(s)
	}

	if d.log != nil {
		s.logTo(d.log)
	}
	start := s.began
	s.auth.Host, s.auth.Progress, s.auth.Accounts = d.host, d.progress, nobody{}
	s.auth.SessionIsRemote = func(context.Context, int) (bool, error) { return remote, nil }
	s.auth.Now = func() time.Time { return start }
	s.auth.Sleep = func(_ context.Context, d time.Duration) { who.note("S %s", d) }
	s.auth.Trace = func(call string) {
		if call == "C_Login" {
			who.note("C %s", call)
		}
		if d.trace != nil {
			d.trace(call)
		}
	}

	res, err := s.auth.Authenticate(t.Context(), s.request, who)
	s.check()
	p := played{err: err, events: who.events, log: s.log.String()}
	if err == nil {
		p.user = res.User
	}
	return p
}

// nobody has accounts of its own.
type nobody struct{}

func (nobody) Lookup(string) (*accounts.Account, error) { return nil, accounts.ErrNoAccount }
func (nobody) All(func(accounts.Account) bool) error    { return nil }
func (nobody) UIDMin() uint32                           { return 1000 }

func outcomeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Outcome.String()
	}
	return "granted"
}
