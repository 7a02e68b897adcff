package pcsc_test

import (
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

var waitRules = []rule{
	{"B.6", "no readers given: success at once", "", func(t *testing.T, w *world) {
		expect(t, "wait", w.establish().GetStatusChange(nil, -1), 0)
	}},
	{"B.6", "a name that no reader has: UNKNOWN_READER at once", "", func(t *testing.T, w *world) {
		err := w.establish().GetStatusChange([]pcsc.ReaderState{{Reader: "no such reader"}}, -1)
		expect(t, "wait", err, pcsc.ErrUnknownReader)
	}},
	{"B.6", "all ignored: success at once", "", func(t *testing.T, w *world) {
		states := []pcsc.ReaderState{{Reader: w.reader, CurrentState: pcsc.StateIgnore}}
		expect(t, "wait", w.establish().GetStatusChange(states, -1), 0)
	}},
	{"B.6", "unaware: told at once", "", func(t *testing.T, w *world) {
		states := w.states()
		if s := states[0].EventState; s&0xFFFF != pcsc.StateEmpty|pcsc.StateChanged {
			t.Errorf("state %X", s)
		}
	}},
	{"B.6", "nothing changed: TIMEOUT, with 0 at once", "", func(t *testing.T, w *world) {
		states := w.states()
		states[0].CurrentState = states[0].EventState
		c := w.establish()
		expect(t, "look", c.GetStatusChange(states, 0), pcsc.ErrTimeout)
		begin := time.Now()
		expect(t, "wait", c.GetStatusChange(states, 30*time.Millisecond), pcsc.ErrTimeout)
		if d := time.Since(begin); d < 30*time.Millisecond {
			t.Errorf("timeout after %v", d)
		}
		expect(t, "wait again", c.GetStatusChange(states, 30*time.Millisecond), pcsc.ErrTimeout)
	}},
	{"B.5", "insertion and removal wake, each once, and are counted", "", func(t *testing.T, w *world) {
		c := w.establish()
		states := w.states()
		count := states[0].EventState >> 16
		for i := range 6 {
			states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
			woken := make(chan error, 1)
			go func() { woken <- c.GetStatusChange(states, 20*time.Second) }()
			letWait()
			want := pcsc.StatePresent
			if i%2 == 0 {
				w.slot.Insert(&pcsctest.EchoCard{})
			} else {
				w.slot.Remove()
				want = pcsc.StateEmpty
			}
			expect(t, "wait", <-woken, 0)
			s := states[0].EventState
			if s&want == 0 || s&pcsc.StateChanged == 0 {
				t.Fatalf("state %X", s)
			}
			if count++; s>>16 != count {
				t.Errorf("movement %d, want %d", s>>16, count)
			}
			if want == pcsc.StatePresent && len(states[0].ATR) == 0 {
				t.Error("no ATR")
			}
		}
	}},
	{"B.6", "a movement since the count that the caller knows is told at once", "", func(t *testing.T, w *world) {
		states := w.states()
		w.insert(&pcsctest.EchoCard{})
		w.remove()
		states[0].CurrentState = pcsc.StateEmpty | 77<<16
		expect(t, "look", w.establish().GetStatusChange(states, 0), 0)
		states[0].CurrentState = pcsc.StateEmpty // a count of 0 is not compared
		expect(t, "look", w.establish().GetStatusChange(states, 0), pcsc.ErrTimeout)
	}},
	{"B.6", "what the caller says wrongly is a change", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		c := w.establish()
		look := func(what string, current pcsc.StateFlag, want pcsc.Error) {
			t.Helper()
			states := []pcsc.ReaderState{{Reader: w.reader, CurrentState: current}}
			expect(t, what, c.GetStatusChange(states, 0), want)
		}
		look("present", pcsc.StatePresent, pcsc.ErrTimeout)
		look("empty", pcsc.StateEmpty, 0)
		look("mute", pcsc.StatePresent|pcsc.StateMute, 0)
		look("in use", pcsc.StatePresent|pcsc.StateInuse, 0)
		look("exclusive", pcsc.StatePresent|pcsc.StateExclusive, 0)
		look("unavailable", pcsc.StateUnavailable, 0)
		card := w.connect(pcsc.ShareExclusive)
		look("in use, of an exclusive one", pcsc.StatePresent|pcsc.StateInuse, 0)
		look("exclusive", pcsc.StatePresent|pcsc.StateExclusive, pcsc.ErrTimeout)
		expect(t, "disconnect", card.Disconnect(pcsc.LeaveCard), 0)
	}},
	{"B.6", "of several readers the one that changes wakes", "", func(t *testing.T, w *world) {
		c := w.establish()
		states := []pcsc.ReaderState{{Reader: w.reader}, {Reader: "Other Reader 01 00"}}
		expect(t, "look", c.GetStatusChange(states, 0), 0)
		for i := range states {
			states[i].CurrentState = states[i].EventState &^ pcsc.StateChanged
		}
		woken := make(chan error, 1)
		go func() { woken <- c.GetStatusChange(states, 20*time.Second) }()
		letWait()
		w.second.Insert(&pcsctest.EchoCard{})
		expect(t, "wait", <-woken, 0)
		if states[0].EventState&pcsc.StateChanged != 0 || states[1].EventState&(pcsc.StateChanged|pcsc.StatePresent) != pcsc.StateChanged|pcsc.StatePresent {
			t.Errorf("states %X and %X", states[0].EventState, states[1].EventState)
		}
	}},
	{"B.6", "the pseudo reader is found in any case, and does not wake for cards", "", func(t *testing.T, w *world) {
		c := w.establish()
		states := []pcsc.ReaderState{{Reader: strings.ToUpper(pcsc.PnPReader)}}
		expect(t, "look", c.GetStatusChange(states, 0), pcsc.ErrTimeout)
		woken := make(chan error, 1)
		go func() { woken <- c.GetStatusChange(states, 300*time.Millisecond) }()
		letWait()
		w.slot.Insert(&pcsctest.EchoCard{})
		expect(t, "wait", <-woken, pcsc.ErrTimeout)
	}},
	{"B.5", "the use of a reader by others is told at once", "notices with the next movement or poll", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		c := w.establish()
		states := []pcsc.ReaderState{{Reader: w.reader}}
		expect(t, "look", c.GetStatusChange(states, 0), 0)
		if states[0].EventState&pcsc.StateInuse == 0 {
			t.Fatalf("state %X", states[0].EventState)
		}
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		woken := make(chan error, 1)
		go func() { woken <- c.GetStatusChange(states, 20*time.Second) }()
		letWait()
		expect(t, "disconnect", card.Disconnect(pcsc.LeaveCard), 0)
		expect(t, "wait", <-woken, 0)
		if states[0].EventState&pcsc.StateInuse != 0 {
			t.Errorf("state %X", states[0].EventState)
		}
	}},
	{"B.5", "cancel ends the wait that is, and no later one", "", func(t *testing.T, w *world) {
		c := w.establish()
		states := w.states()
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		for range 3 {
			woken := make(chan error, 1)
			go func() { woken <- c.GetStatusChange(states, 20*time.Second) }()
			err := error(nil)
			for waiting := true; waiting; { // the first may come before the wait, and is lost then
				expect(t, "cancel", c.Cancel(), 0)
				select {
				case err = <-woken:
					waiting = false
				case <-time.After(20 * time.Millisecond):
				}
			}
			expect(t, "wait", err, pcsc.ErrCancelled)
			expect(t, "cancel of nothing", c.Cancel(), 0)
			expect(t, "later wait", c.GetStatusChange(states, 10*time.Millisecond), pcsc.ErrTimeout)
		}
	}},
	{"B.5", "readers that come and go", cannotAsk + "the readers of a reader.conf stay", func(t *testing.T, w *world) {
		c := w.establish()
		states := []pcsc.ReaderState{{Reader: pcsc.PnPReader}}
		expect(t, "look", c.GetStatusChange(states, 0), pcsc.ErrTimeout)
		states[0].CurrentState = states[0].EventState
		woken := make(chan error, 1)
		go func() { woken <- c.GetStatusChange(states, 20*time.Second) }()
		letWait()
		added := pcsctest.Reader{ID: "3", Product: "Third", Slots: []*pcsctest.Slot{pcsctest.NewSlot(true)}}
		w.driver.Add(added)
		expect(t, "wait", <-woken, 0)
		if states[0].EventState&pcsc.StateChanged == 0 {
			t.Errorf("state %X", states[0].EventState)
		}
		names, _ := c.ListReaders()
		if len(names) != 3 || names[2] != "Third 02 00" {
			t.Errorf("%q", names)
		}

		for tries := 0; ; tries++ {
			third := []pcsc.ReaderState{{Reader: "Third 02 00"}}
			slowtest.Until(t, "the third reader", func() bool { return c.GetStatusChange(third, 0) == nil })
			third[0].CurrentState = third[0].EventState
			go func() { woken <- c.GetStatusChange(third, 20*time.Second) }()
			letWait()
			w.driver.Remove("3")
			err := <-woken
			if err == pcsc.ErrUnknownReader && tries < 20 { // it came behind the removal: once more
				w.driver.Add(added)
				continue
			}
			expect(t, "wait", err, 0)
			if s := third[0].EventState; s != pcsc.StateUnknown|pcsc.StateUnavailable|pcsc.StateChanged {
				t.Errorf("state %X", s)
			}
			return
		}
	}},
	{"B.7", "a reader that goes away: INVALID_VALUE for its handles, and disconnect succeeds", cannotAsk + "the readers of a reader.conf stay", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		holder := w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		waited := make(chan error, 1)
		go func() { waited <- card.BeginTransaction() }()
		letWait()
		w.driver.Remove("1")
		soon(t, "begin", func() {
			if err := <-waited; err != pcsc.ErrInvalidValue { // it was too late to wait
				expect(t, "begin", err, pcsc.ErrReaderUnavailable)
			}
		})
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrInvalidValue)
		_, err = w.service.Status(card.Handle())
		expect(t, "status", err, pcsc.ErrInvalidValue)
		expect(t, "disconnect", card.Disconnect(pcsc.ResetCard), 0)
		_, err = w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrUnknownReader)
	}},
	{"H.12", "a reader that comes again under the same place replaces the old one", cannotAsk + "the readers of a reader.conf stay", func(t *testing.T, w *world) {
		slot := pcsctest.NewSlot(true)
		slot.Insert(&pcsctest.EchoCard{})
		w.driver.Add(pcsctest.Reader{ID: "1", Product: "Test Reader", Interface: "Smart Card", Serial: "0815", Slots: []*pcsctest.Slot{slot}})
		w.await(pcsc.StatePresent)
		_, err := w.connect(pcsc.ShareShared).Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
}
