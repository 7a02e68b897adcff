package pcsc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/pcsc"
)

// people are who the tables below speak of.
var (
	root     = pcsc.Peer{PID: 1, UID: 0}
	sitting  = pcsc.Peer{PID: 2, UID: 1000, GID: 100, Groups: []uint32{100, 27}}
	remote   = pcsc.Peer{PID: 3, UID: 1001, GID: 100}
	byUser   = []string{"alice"}
	byUID    = []string{"1001"}
	byGroups = []string{"27"}
)

func TestPolicy(t *testing.T) {
	broken := errors.New("no bus")
	for _, row := range []struct {
		name      string
		rules     pcsc.Rules
		who       pcsc.Peer
		logind    error
		polkit    string // what it answers: yes, no, error; "" it must not be asked
		refusal   string // "" is allowed
		forReader string
	}{
		{name: "root, always", rules: pcsc.Rules{Allow: pcsc.AllowNone}, who: root},
		{name: "root, polkit or not", rules: pcsc.Rules{Allow: pcsc.AllowNone, Polkit: true}, who: root},
		{name: "who sits there", rules: pcsc.Rules{Allow: pcsc.AllowLocal}, who: sitting},
		{name: "who does not", rules: pcsc.Rules{Allow: pcsc.AllowLocal}, who: remote,
			refusal: `uid 1001 has no active local session: a line "user = 1001", "group = 100" or "allow = all"`},
		{name: "logind does not answer", rules: pcsc.Rules{Allow: pcsc.AllowLocal}, who: sitting, logind: broken,
			refusal: `logind cannot be asked (no bus): a line "user = 1000"`},
		{name: "everybody", rules: pcsc.Rules{Allow: pcsc.AllowAll}, who: remote},
		{name: "nobody", rules: pcsc.Rules{Allow: pcsc.AllowNone}, who: sitting, refusal: `a line "user = 1000" would allow it`},
		{name: "a rule that is not set refuses", rules: pcsc.Rules{}, who: remote, refusal: "no active local session"},
		{name: "named", rules: pcsc.Rules{Allow: pcsc.AllowNone, Users: byUser}, who: sitting},
		{name: "another is named", rules: pcsc.Rules{Allow: pcsc.AllowNone, Users: byUser}, who: remote, refusal: "allow = none"},
		{name: "named by number", rules: pcsc.Rules{Allow: pcsc.AllowNone, Users: byUID}, who: remote},
		{name: "a supplementary group", rules: pcsc.Rules{Allow: pcsc.AllowNone, Groups: byGroups}, who: sitting},
		{name: "not in the group", rules: pcsc.Rules{Allow: pcsc.AllowNone, Groups: byGroups}, who: remote, refusal: "allow = none"},
		{name: "a primary group by name", rules: pcsc.Rules{Allow: pcsc.AllowNone, Groups: []string{"users"}}, who: remote},
		{name: "names that nobody has", rules: pcsc.Rules{Allow: pcsc.AllowNone, Users: []string{"bob"}, Groups: []string{"x"}}, who: remote, refusal: "allow = none"},
		{name: "polkit says yes", rules: pcsc.Rules{Allow: pcsc.AllowNone, Polkit: true}, who: remote, polkit: "yes"},
		{name: "polkit says no", rules: pcsc.Rules{Allow: pcsc.AllowAll, Polkit: true}, who: sitting, polkit: "no",
			refusal: "polkit refuses org.debian.pcsc-lite.access_pcsc"},
		{name: "polkit does not answer", rules: pcsc.Rules{Polkit: true}, who: sitting, polkit: "error",
			refusal: "polkit cannot be asked for org.debian.pcsc-lite.access_pcsc (no bus)"},
		{name: "named, and polkit is not asked", rules: pcsc.Rules{Polkit: true, Users: byUser}, who: sitting},
		{name: "a reader, without polkit", rules: pcsc.Rules{Allow: pcsc.AllowLocal}, who: remote, forReader: "R 00 00"},
		{name: "a reader, by polkit", rules: pcsc.Rules{Polkit: true}, who: remote, forReader: "R 00 00", polkit: "no",
			refusal: "polkit refuses org.debian.pcsc-lite.access_card"},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := false
			p := &pcsc.Policy{Rules: row.rules,
				ActiveLocally: func(_ context.Context, uid uint32) (bool, error) { return uid == 1000, row.logind },
				Polkit: func(_ context.Context, _ pcsc.Peer, action string, details map[string]string) (bool, error) {
					asked = true
					if (details["reader"] == "R 00 00") != (row.forReader != "") {
						t.Errorf("details %v", details)
					}
					if row.polkit == "error" {
						return false, broken
					}
					return row.polkit == "yes", nil
				},
				UserID:  func(name string) (uint32, error) { return 1000, found(name, "alice") },
				GroupID: func(name string) (uint32, error) { return 100, found(name, "users") },
			}
			var err error
			if row.forReader == "" {
				err = p.Service(t.Context(), row.who)
			} else {
				err = p.Card(t.Context(), row.who, row.forReader)
			}
			switch {
			case row.refusal == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.refusal != "" && (err == nil || !strings.Contains(err.Error(), row.refusal)):
				t.Errorf("%v, want %s", err, row.refusal)
			}
			if asked != (row.polkit != "") {
				t.Errorf("polkit asked: %v", asked)
			}
		})
	}
}

func found(name, want string) error {
	if name != want {
		return errors.New("unknown")
	}
	return nil
}

// Many connections of one user at once are one question to logind; its yes is believed for two seconds, its no is not
// kept.
func TestLogindIsAskedOnce(t *testing.T) {
	var questions atomic.Int64
	begun, answer := make(chan struct{}, 1), make(chan struct{})
	now := time.Unix(1000, 0)
	says := true
	p := &pcsc.Policy{Rules: pcsc.Rules{Allow: pcsc.AllowLocal}, Now: func() time.Time { return now },
		ActiveLocally: func(context.Context, uint32) (bool, error) {
			questions.Add(1)
			select {
			case begun <- struct{}{}:
			default:
			}
			<-answer
			return says, nil
		}}
	var group sync.WaitGroup
	ask := func() {
		if err := p.Service(context.Background(), sitting); (err == nil) != says {
			t.Error(err)
		}
	}
	group.Go(ask)
	<-begun
	for range 20 {
		group.Go(ask)
	}
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Service(impatient, sitting); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait: %v", err)
	}
	close(answer)
	group.Wait()
	ask()
	now = now.Add(3 * time.Second)
	says = false
	ask()
	ask()
	if n := questions.Load(); n < 3 || n > 4 { // the late ones of the crowd may have found the answer gone
		t.Errorf("%d questions", n)
	}
}

// refuser refuses one user, or everybody a reader.
type refuser struct {
	service error
	card    error
}

func (r refuser) Service(context.Context, pcsc.Peer) error      { return r.service }
func (r refuser) Card(context.Context, pcsc.Peer, string) error { return r.card }

// Whoever may not use the service hears 0x8010006A in the handshake, whatever the version; the log says who and why.
func TestRefusal(t *testing.T) {
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	w := newServerWorld(t, settings{notify: true, auth: refuser{service: errors.New("no rule")}, options: pcsc.Options{Logger: logger}})
	for _, minor := range []uint32{3, 4, 5, 6, 7} {
		s := w.dial()
		if got := s.ask(0x11, s.words(4, minor, 0), 12); s.word(got, 8) != uint32(pcsc.ErrSecurityViolation) {
			t.Errorf("4.%d: %X", minor, got)
		}
		s.closed()
	}
	s := w.dial()
	s.send(0x01, s.words(2, 0, 0))
	s.closed()
	_, err := pcsc.NewContext(w.service)
	expect(t, "our client", err, pcsc.ErrSecurityViolation)
	if text := log.String(); !strings.Contains(text, "access refused") || !strings.Contains(text, "no rule") || !strings.Contains(text, "client=\"pid ") {
		t.Errorf("log: %s", text)
	}
}

func TestRefusalOfAReader(t *testing.T) {
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	w := newServerWorld(t, settings{notify: true, auth: refuser{card: errors.New("not this one")}, options: pcsc.Options{Logger: logger}})
	_, err := w.establish().Connect(reader, pcsc.ShareDirect, 0)
	expect(t, "connect", err, pcsc.ErrSecurityViolation)
	if !strings.Contains(log.String(), "not this one") {
		t.Errorf("log: %s", log.String())
	}
}

// Those who are refused and do not go cost nobody else a place.
func TestStrangersTakeNoPlace(t *testing.T) {
	hold := make(chan struct{})
	allow := make(chan bool, 1)
	allow <- true
	w := newServerWorld(t, settings{notify: true, clients: 2, auth: holdOff{allow, hold}})
	allowed := w.script(4)
	defer close(hold)
	for range 30 { // more than there are places
		s := w.dial()
		s.conn.Write(s.words(12, 0x11, 4, 4, 0))
	}
	h, result := allowed.connect(reader, 3)
	if result != 0 {
		t.Fatalf("%X", result)
	}
	allowed.ask(0x0B, allowed.words(h, 0), 8)
	if n := w.server.Clients(); n != 1 {
		t.Errorf("%d clients", n)
	}
}

// holdOff lets one in, and leaves the others waiting.
type holdOff struct {
	allow <-chan bool
	hold  <-chan struct{}
}

func (h holdOff) Service(context.Context, pcsc.Peer) error {
	select {
	case <-h.allow:
		return nil
	case <-h.hold:
		return errors.New("no")
	}
}
func (h holdOff) Card(context.Context, pcsc.Peer, string) error { return nil }

// lockedBuffer is a buffer that a log may write to while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
