package pcsc_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// refuser refuses one user, or everybody a reader.
type refuser struct {
	service error
	card    error
}

func (r refuser) Service(context.Context, resmgr.Peer) error      { return r.service }
func (r refuser) Card(context.Context, resmgr.Peer, string) error { return r.card }

// Whoever may not use the service hears 0x8010006A in the handshake, whatever the version; the log says who and why.
func TestRefusal(t *testing.T) {
	var log slowtest.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	w := newServerWorld(t, settings{notify: true, auth: refuser{service: errors.New("no rule")}, options: resmgr.Options{Logger: logger}})
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
	var log slowtest.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	w := newServerWorld(t, settings{notify: true, auth: refuser{card: errors.New("not this one")}, options: resmgr.Options{Logger: logger}})
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

func (h holdOff) Service(context.Context, resmgr.Peer) error {
	select {
	case <-h.allow:
		return nil
	case <-h.hold:
		return errors.New("no")
	}
}
func (h holdOff) Card(context.Context, resmgr.Peer, string) error { return nil }
