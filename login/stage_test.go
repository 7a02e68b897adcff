package login

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
)

// deck is the certificates of all rows: each name stands for the objects of one card. The keys of alice's
// cards are made once.
type deck struct {
	ca, other *testca.CA
	alice     *testca.Cert
	cards     map[string][]logintest.Object
}

var theDeck = sync.OnceValue(func() *deck {
	d := &deck{ca: testca.NewRoot("Example CA"), other: testca.NewRoot("Another CA")}
	d.alice = d.ca.Leaf("alice")
	sub := d.ca.Intermediate("Example Issuing CA")
	forger := testca.NewRoot("Example CA") // its name, not its key
	future := testca.Validity(time.Now().Add(48*time.Hour), time.Now().Add(49*time.Hour))
	names := testca.SAN(testca.Email("x@example.com"), testca.Email("alice@example.com"), testca.UPN("alice@example.com"))
	junk := &testca.Cert{DER: []byte{0x30, 3, 1, 1, 0xff}}

	one := func(c *testca.Cert) []logintest.Object { return []logintest.Object{{ID: []byte{1}, Cert: c}} }
	leaf := func(name string, options ...testca.Option) []logintest.Object {
		return one(d.ca.Leaf(name, options...))
	}
	keyless := func(c *testca.Cert) []logintest.Object {
		return []logintest.Object{{ID: []byte{7}, Cert: c, NoKey: true}}
	}
	d.cards = map[string][]logintest.Object{
		"alice":         one(d.alice),
		"p384":          leaf("alice", testca.WithKey(testca.EC(elliptic.P384()))),
		"ed25519":       leaf("alice", testca.WithKey(testca.Ed25519())),
		"chain":         append(one(sub.Leaf("alice")), keyless(&sub.Cert)...),
		"keyless first": append(keyless(d.ca.Leaf("alice")), leaf("alice")...),
		"keyless":       keyless(d.alice),
		"empty":         nil,
		"junk first":    append([]logintest.Object{{ID: []byte{7}, Cert: junk}}, one(d.alice)...),
		"junk":          {{ID: []byte{7}, Cert: junk}},
		"expired":       leaf("alice", testca.Expired()),
		"early":         leaf("alice", future),
		"stranger":      one(d.other.Leaf("alice")),
		"forged":        one(forger.Leaf("alice")),
		"server":        leaf("alice", testca.ExtKeyUsage(false, "1.3.6.1.5.5.7.3.1")),
		"encipher":      leaf("alice", testca.KeyUsage(true, 1<<2)),
		"no purpose":    leaf("alice", testca.Without("2.5.29.37")),
		"copied":        {{ID: []byte{1}, Cert: d.alice, Key: testca.P256()}},
		"careful":       {{ID: []byte{1}, Cert: d.alice, PINAgain: true}},
		"bob":           leaf("bob"),
		"alice and bob": append(leaf("bob"), one(d.alice)...),
		"expired bob":   leaf("bob", testca.Expired()),
		"expired lone":  one(d.other.Leaf("alice", testca.Expired())),
		"early bob":     leaf("bob", future),
		"root":          leaf("root"),
		"two names":     leaf("x", testca.Subject("CN=somebody", "CN=alice")),
		"no name":       leaf("x", testca.Subject("O=Example")),
		"addresses":     leaf("somebody", names),
		"ends soon":     leaf("alice", testca.Validity(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour))),
	}
	return d
})

// stage is a machine: readers, files, a user database, and a clock that runs as synctest's does.
type stage struct {
	t       *testing.T
	dir     string
	readers *logintest.Readers
	cards   []*logintest.Card // in the readers, nil where none is
	user    *person
	began   time.Time    // by the machine's clock
	start   time.Time    // by the clock of the test
	skew    atomic.Int64 // what the machine's clock is ahead, beyond the test's; a time.Duration

	auth    *Authenticator
	request Request
	context context.Context
	end     context.CancelFunc // ends it now
	log     *slowtest.Buffer
}

// lay makes a machine with these cards of the deck in its readers, "" for an empty one.
func lay(t *testing.T, machine time.Time, cards ...string) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), user: &person{}, began: machine, start: time.Now()}
	s.context, s.end = context.WithCancel(t.Context())
	t.Cleanup(s.end)
	for _, name := range cards {
		var c *logintest.Card
		if name != "" {
			objects, known := theDeck().cards[name]
			if !known {
				t.Fatalf("there is no card %q", name)
			}
			c = &logintest.Card{Label: name, PIN: rightPIN, MinPIN: 4, MaxPIN: 255, Objects: slices.Clone(objects)}
		}
		s.cards = append(s.cards, c)
	}
	s.readers = logintest.New(s.cards...)
	s.auth = &Authenticator{
		Cards:           s.readers,
		Accounts:        people{"root": 0, "nobody": 65534},
		Groups:          accounts.StaticGroups{},
		SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil },
		Now:             s.now,
	}
	s.logTo(new(slowtest.Buffer))
	return s
}

// logTo makes b the log.
func (s *stage) logTo(b *slowtest.Buffer) {
	s.log = b
	s.auth.Logger = slog.New(slog.NewTextHandler(b, nil))
}

// now is the machine's clock.
func (s *stage) now() time.Time {
	return s.began.Add(time.Since(s.start) + time.Duration(s.skew.Load()))
}

// later puts the machine's clock forward.
func (s *stage) later(d time.Duration) { s.skew.Add(int64(d)) }

// write makes a file of the machine.
func (s *stage) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// configure writes the configuration: lines of the pam_pkcs11 block, lines of the module's.
func (s *stage) configure(global, module string) {
	s.t.Helper()
	defaults := map[string]string{
		"allow_unknown_user": "allow_unknown_user = true;",
		"use_mappers":        "use_mappers = cn;",
	}
	for key, line := range defaults {
		if !strings.Contains(global, key) {
			global += " " + line
		}
	}
	if !strings.Contains(module, "cert_policy") {
		module += " cert_policy = ca, signature;"
	}
	ca := s.write("ca.pem", string(theDeck().ca.PEM()))
	text := fmt.Sprintf("pam_pkcs11 {\n  %s\n  pkcs11_module default { module = /memory.so; ca_dir = \"%s\"; %s }\n}\n", global, ca, module)
	text = strings.ReplaceAll(text, "DIR", s.dir)
	s.request.Args = append(s.request.Args, "config_file="+s.write("pam_pkcs11.conf", text))
}

// check holds what is true of every request, however it ends.
func (s *stage) check() {
	s.t.Helper()
	calls := s.readers.Calls()
	count := func(name string) int { return s.readers.Count(name) }
	if count("C_Initialize") > 0 && s.cards != nil && slices.Contains(calls, "C_GetSlotList") && calls[len(calls)-1] != "C_Finalize" {
		s.t.Errorf("the module is not closed at the end: %q", calls)
	}
	if n := s.readers.Sessions(); n != 0 {
		s.t.Errorf("%d sessions are not closed: %q", n, calls)
	}
	if !s.user.wiped() {
		s.t.Error("a PIN is not wiped")
	}
	for _, pin := range append([]string{rightPIN, otherPIN}, s.user.earlier) {
		if pin != "" && strings.Contains(s.log.String(), pin) {
			s.t.Errorf("a PIN is in the log:\n%s", s.log)
		}
	}
}

// people is a user database: names with their numbers. Each has a group of that number.
type people map[string]uint32

func (p people) Lookup(name string) (*accounts.Account, error) {
	uid, known := p[name]
	if !known {
		return nil, accounts.ErrNoAccount
	}
	return &accounts.Account{Name: name, UID: uid, GID: uid, Home: "/nonexistent"}, nil
}

func (p people) All(yield func(accounts.Account) bool) error {
	for name, uid := range p {
		if !yield(accounts.Account{Name: name, UID: uid}) {
			break
		}
	}
	return nil
}

func (p people) UIDMin() uint32 { return 1000 }

// ending is one row: what is given, and how it must end.
type ending struct {
	name string

	card    string   // of the deck; several are separated by "+", and "" is an empty reader
	user    string   // PAM_USER
	args    []string // of the module's line
	global  string   // lines of the pam_pkcs11 block; DIR is the machine's directory
	module  string   // lines of the pkcs11_module block
	happens []happening
	earlier string            // the secret that an earlier module left
	env     map[string]string // of the caller
	rhost   string
	service string
	silent  bool // PAM_SILENT
	noEmpty bool // PAM_DISALLOW_NULL_AUTHTOK
	deaf    bool // takes no texts
	answers []string
	chosen  []string // at questions with echo

	want  Outcome
	said  []string // "T", "E", "P", "Q" with the beginning of what is shown
	login string   // the granted user, where it is not the one that was given
	pins  int      // that reached a card
	log   string   // must be in the log beside the reason
}

// happening changes the machine before the request, or arranges for something during it.
type happening func(*stage)

// State of the first card.
var (
	locked         happening = func(s *stage) { s.cards[0].Wrong = 3 }
	lastTry        happening = func(s *stage) { eachCard(s, func(c *logintest.Card) { c.Wrong = 2 }) }
	fewTriesLeft   happening = func(s *stage) { s.cards[0].Wrong = 1 }
	withoutPIN     happening = func(s *stage) { s.cards[0].PIN = "" }
	toBeChanged    happening = func(s *stage) { s.cards[0].ToBeChanged = true }
	logInNotNeeded happening = func(s *stage) { s.cards[0].LogInNotRequired = true }
	hides          happening = func(s *stage) { s.cards[0].Hides = true }
	emptyPINs      happening = func(s *stage) { s.cards[0].MinPIN = 0 }
	blank          happening = func(s *stage) { s.cards[0].Blank = true }
	tellsNothing   happening = func(s *stage) { s.cards[0].Silent = true }
)

func eachCard(s *stage, f func(*logintest.Card)) {
	for _, c := range s.cards {
		if c != nil {
			f(c)
		}
	}
}

// atReader has the PIN typed at the reader.
func atReader(typed ...string) happening {
	return func(s *stage) { s.cards[0].AtReader, s.cards[0].Typed = true, typed }
}

// fails lets every call of that name fail.
func fails(call string, err error) happening {
	return func(s *stage) { s.readers.Fail(call, err) }
}

// failsAt lets the nth call of that name fail.
func failsAt(call string, n int, err error) happening {
	return func(s *stage) { s.readers.FailAt(call, n, err) }
}

// hangs lets a call wait for the end of its context, which comes after a minute.
func hangs(call string) happening {
	return func(s *stage) {
		s.readers.Hang(call)
		s.deadline(time.Minute)
	}
}

// deadline ends the request's context.
func (s *stage) deadline(after time.Duration) {
	ctx, cancel := context.WithTimeout(s.context, after)
	s.t.Cleanup(cancel)
	s.context = ctx
}

// at does something before a call.
func at(call string, do func(*stage)) happening {
	return func(s *stage) {
		s.readers.Before(call, func(context.Context) error { do(s); return nil })
	}
}

// atNth does something before the nth call of that name.
func atNth(call string, n int, do func(*stage)) happening {
	return at(call, func(s *stage) {
		if n--; n == 0 {
			do(s)
		}
	})
}

// during does something while the first prompt is open.
func during(do ...func(*stage)) happening {
	return func(s *stage) {
		for _, d := range do {
			s.user.meanwhile = append(s.user.meanwhile, func() { d(s) })
		}
	}
}

func endNow(s *stage)    { s.end() }
func pulled(s *stage)    { s.readers.Insert(0, nil) }
func exchanged(s *stage) { s.readers.Insert(0, logintest.With("another", rightPIN, theDeck().alice)) }

// inserted has the first card come when the user is asked for it.
func inserted(s *stage) {
	c := s.cards[0]
	s.readers.Insert(0, nil)
	s.user.inserts = func() { s.readers.Insert(0, c) }
}

// stage lays the machine of a row.
func (e ending) stage(t *testing.T) *stage {
	t.Helper()
	return e.stageAt(t, time.Now())
}

// stageAt is stage where the machine's clock shows something else than the test's.
func (e ending) stageAt(t *testing.T, machine time.Time) *stage {
	t.Helper()
	s := lay(t, machine, splitCards(e.card)...)
	s.request = Request{
		User:       e.user,
		RHost:      e.rhost,
		Service:    e.service,
		Args:       slices.Clone(e.args),
		Silent:     e.silent,
		NoEmptyPIN: e.noEmpty,
		HostPID:    os.Getpid(),
		Environ:    func(name string) string { return e.env[name] },
	}
	s.configure(e.global, e.module)
	s.user.answers, s.user.chosen = slices.Clone(e.answers), slices.Clone(e.chosen)
	s.user.earlier, s.user.deaf = e.earlier, e.deaf
	for _, h := range e.happens {
		h(s)
	}
	return s
}

// play plays one row in a bubble of its own: its timers cost no time.
func (e ending) play(t *testing.T) {
	machine := time.Now()
	theDeck() // by the clock of the machine
	synctest.Test(t, func(t *testing.T) {
		s := e.stageAt(t, machine)
		if s.user.types == 0 {
			s.user.types = 500 * time.Millisecond
		}

		res, err := s.auth.Authenticate(s.context, s.request, s.user)
		e.compare(s, res, err)
		s.check()
		time.Sleep(time.Hour) // what still runs ends
	})
}

// splitCards returns the cards of a row, one for each reader.
func splitCards(cards string) []string {
	if cards == "no reader" {
		return nil
	}
	return strings.Split(cards, "+")
}

// compare compares an ending with its row.
func (e ending) compare(s *stage, res *Result, err error) {
	t := s.t
	t.Helper()
	var r *Refusal
	got := Success
	if errors.As(err, &r) {
		got = r.Outcome
	}
	if got != e.want || (err == nil) != (res != nil) {
		t.Errorf("%v: %v, want %v", got, err, e.want)
	}
	if n := s.readers.Count("C_Login"); n != e.pins {
		t.Errorf("%d PINs were sent, want %d", n, e.pins)
	}
	sameTalk(t, s.user.heard("W"), e.said)

	log := s.log.String()
	if reason := "reason=" + got.String(); err != nil && !strings.Contains(log, reason) || !strings.Contains(log, e.log) {
		t.Errorf("%s or %q is not in the log:\n%s", reason, e.log, log)
	}
	if err != nil {
		return
	}
	login := e.login
	if login == "" {
		login = e.user
	}
	if res.User != login || len(res.Variables) != 3 || !strings.Contains(log, "login granted") {
		t.Errorf("%q logs in, want %q: %v\n%s", res.User, login, res.Variables, log)
	}
	res.Forward.Wipe()
}

// sameTalk compares what was heard with the beginnings of what is wanted.
func sameTalk(t *testing.T, heard, want []string) {
	t.Helper()
	same := slices.EqualFunc(heard, want, strings.HasPrefix)
	if !same {
		t.Errorf("heard\n  %s\nwant\n  %s", strings.Join(heard, "\n  "), strings.Join(want, "\n  "))
	}
}

func playAll(t *testing.T, rows []ending) {
	t.Helper()
	for _, e := range rows {
		t.Run(e.name, e.play)
	}
}
