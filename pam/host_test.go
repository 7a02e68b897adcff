package main

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/login"
)

// relayed is a host at the end of a pipe, and what the program that asked does with a verdict.
func relayed(t *testing.T, can byte, answer func(net.Conn)) *host {
	t.Helper()
	relay, worker := net.Pipe()
	t.Cleanup(func() { _ = relay.Close(); _ = worker.Close() })
	frames := make(chan frame, 1)
	h := &host{relay: worker, frames: frames, end: func(int) {}, request: &request{relayCan: can}, conv: &conversation{}}
	h.log, h.level = slog.New(slog.DiscardHandler), new(slog.LevelVar)
	go watch(worker, frames, h.gone)
	go func() {
		if _, err := readFrame(relay); err == nil {
			answer(relay)
		}
	}()
	return h
}

func word(taken byte) func(net.Conn) {
	return func(c net.Conn) { _ = writeFrame(c, verbTaken, []byte{taken}) }
}

// TestDelivery: only the relay's word that the verdict has taken effect makes it a login.
func TestDelivery(t *testing.T) {
	granted := &login.Result{User: "alice"}
	for name, tt := range map[string]struct {
		can    byte
		answer func(net.Conn)
		result *login.Result
		err    error
		want   login.Delivery
	}{
		"taken":          {canConfirm, word(1), granted, nil, login.Taken},
		"declined":       {canConfirm, word(0), granted, nil, login.Declined},
		"another word":   {canConfirm, word(7), granted, nil, login.Declined},
		"another frame":  {canConfirm, func(c net.Conn) { _ = writeFrame(c, verbAnswer, []byte{1}) }, granted, nil, login.Declined},
		"the host ends":  {canConfirm, func(c net.Conn) { _ = c.Close() }, granted, nil, login.Lost},
		"an older relay": {0, func(net.Conn) {}, granted, nil, login.Unconfirmed},
		"a refusal":      {canConfirm, func(net.Conn) {}, nil, errors.New("no"), login.Taken},
	} {
		t.Run(name, func(t *testing.T) {
			h := relayed(t, tt.can, tt.answer)
			if got := h.Deliver(tt.result, tt.err); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if got := h.Deliver(nil, errors.New("a second answer")); got != tt.want {
				t.Errorf("a second answer is %v, want the first's %v", got, tt.want)
			}
		})
	}
}

// TestHostGone: before the verdict its end is that of the worker, and has its line; afterwards it is not.
func TestHostGone(t *testing.T) {
	for _, delivered := range []bool{false, true} {
		var log strings.Builder
		ended := false
		h := &host{end: func(int) { ended = true }}
		say := func() { log.WriteString("gone") }
		h.asks.Store(&say)
		h.leaving.Store(delivered)
		h.gone(1)
		if ended == delivered || (log.Len() > 0) == delivered {
			t.Errorf("delivered %v: ended %v, log %q", delivered, ended, log.String())
		}
	}
}

// TestNotesPlace: what the relay reads of a worker that is dead.
func TestNotesPlace(t *testing.T) {
	n := &notes{page: make([]byte, noteCrash)}
	text := func() string {
		s, _, _ := strings.Cut(string(n.page[notePlace:notesSize]), "\x00")
		return s
	}
	n.at(login.Place{Step: strings.Repeat("x", 1000)})
	n.at(login.Place{Step: "changing the PIN", Library: "/l.so", Function: "C_SetPIN"})
	if text() != "in C_SetPIN of /l.so, changing the PIN" || n.page[noteChanging] != 1 {
		t.Errorf("%q, changing %d", text(), n.page[noteChanging])
	}
	n.at(login.Place{Step: "changing the PIN", Library: "/l.so"})
	if text() != "changing the PIN, with /l.so" || n.page[noteChanging] != 0 {
		t.Errorf("%q, changing %d", text(), n.page[noteChanging])
	}
	(*notes)(nil).at(login.Place{})
}

// TestOldestRelayIsToldNothingNew: a relay that does not say what it can gets no frame of a later release.
func TestOldestRelayIsToldNothingNew(t *testing.T) {
	f := frame{verbAuthenticate, binary.LittleEndian.AppendUint32([]byte{byte(tagFlags), 4, 0}, 0)}
	r, err := readRequest(f)
	if err != nil || r.relayCan != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	relay, worker := net.Pipe()
	h := &host{relay: worker}
	served := make(chan error, 1)
	go func() { served <- h.serves(r) }()
	select {
	case err := <-served:
		if err != nil || h.notes != nil || h.Confirms() {
			t.Errorf("%v, notes %v, confirms %v", err, h.notes, h.Confirms())
		}
	case <-time.After(20 * time.Second):
		t.Error("a frame is sent that nobody reads")
	}
	_ = relay.Close()
	_ = worker.Close()
}

// TestRequired: what is no success of somebody who must use a card is PAM_CRED_INSUFFICIENT, a fault of the worker
// included, and the relay is told beforehand.
func TestRequired(t *testing.T) {
	for _, row := range []struct {
		can  byte
		told bool
	}{{canConfirm | canRequire, true}, {canConfirm, false}} {
		relay, worker := net.Pipe()
		h := &host{relay: worker, request: &request{relayCan: row.can}, conv: &conversation{}, log: slog.New(slog.DiscardHandler)}
		frames := make(chan frame, 1)
		go func() {
			f, _ := readFrame(relay)
			frames <- f
		}()
		h.require()
		if err := worker.Close(); err != nil {
			t.Fatal(err)
		}
		if f := <-frames; (f.verb == verbRequired) != row.told {
			t.Errorf("a relay that can %d is sent %q", row.can, byte(f.verb))
		}

		for _, err := range []error{nil, errors.New("internal fault"), &login.Refusal{Outcome: login.PINIncorrect}, &login.Refusal{Outcome: login.ScreenSaverCancelled}} {
			v, fault := readFields(h.verdict(nil, err))
			if fault != nil || len(v) != 1 || v[0].tag != tagCode || v[0].value[0] != pamCredInsufficient {
				t.Errorf("%v: verdict %v, %v", err, v, fault)
			}
		}
	}
}
