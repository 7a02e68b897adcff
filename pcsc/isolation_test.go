package pcsc_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// A reader whose driver does not come back stops nobody else.
func TestFrozenReaderStopsNobodyElse(t *testing.T) {
	frozen := make(chan struct{})
	var freeze atomic.Bool
	inBothForms(t, settings{prepare: func(w *world) {
		frozen = make(chan struct{})
		freeze.Store(false)
		w.second.Fault = func(call string) error {
			if call == "Transmit" && freeze.Load() {
				<-frozen
			}
			return nil
		}
		w.slot.Insert(&pcsctest.EchoCard{})
		w.second.Insert(&pcsctest.EchoCard{})
	}}, func(t *testing.T, w *world) {
		const other = "Other Reader 01 00"
		w.await(pcsc.StatePresent)
		stuck, err := w.establish().Connect(other, pcsc.ShareShared, pcsc.ProtocolAny)
		if err != nil {
			t.Fatal(err)
		}
		freeze.Store(true)
		thaw := sync.OnceFunc(func() { close(frozen) })
		defer thaw()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			stuck.Transmit(selectCommand)
		}()
		slowtest.Until(t, "the command at the reader", func() bool { return w.second.Calls("Transmit") > 0 })
		soon(t, "work on another reader", func() {
			card := w.connect(pcsc.ShareShared)
			_, err := card.Transmit(selectCommand)
			expect(t, "transmit", err, 0)
			if _, err := w.establish().ListReaders(); err != nil {
				t.Error(err)
			}
			w.states()
			w.remove()
			w.insert(&pcsctest.EchoCard{})
		})
		soon(t, "what needs no driver on the frozen reader", func() {
			c, err := w.establish().Connect(other, pcsc.ShareShared, pcsc.ProtocolAny)
			expect(t, "connect", err, 0)
			if err != nil {
				return
			}
			if _, err := c.Status(); err != nil {
				t.Error(err)
			}
			expect(t, "begin", c.BeginTransaction(), 0)
			expect(t, "end", c.EndTransaction(pcsc.LeaveCard), 0)
			expect(t, "disconnect", c.Disconnect(pcsc.LeaveCard), 0)
			w.second.Remove()
			states := []pcsc.ReaderState{{Reader: other, CurrentState: pcsc.StatePresent}}
			expect(t, "removal", w.establish().GetStatusChange(states, 5*time.Second), 0)
		})
		thaw()
		<-ended
	})
}

// waits counts the calls that had to wait for a transaction to end, by what the log says of them.
type waits struct{ n *atomic.Int64 }

func (w waits) Enabled(context.Context, slog.Level) bool { return true }
func (w waits) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w waits) WithGroup(string) slog.Handler            { return w }
func (w waits) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "waiting for a transaction to end" {
		w.n.Add(1)
	}
	return nil
}

// Transactions are granted first come, first served, as soon as the lock is free.
func TestTransactionsAreFair(t *testing.T) {
	var waiting atomic.Int64
	inBothForms(t, settings{options: resmgr.Options{Logger: slog.New(waits{&waiting})}}, func(t *testing.T, w *world) {
		const clients = 20
		w.insert(&pcsctest.EchoCard{})
		waiting.Store(0)
		holder := w.connect(pcsc.ShareShared)
		var cards [clients]*pcsc.Card
		for i := range cards {
			cards[i] = w.connect(pcsc.ShareShared)
		}
		expect(t, "begin", holder.BeginTransaction(), 0)
		granted := make(chan int, clients)
		for i, card := range cards {
			go func() {
				if err := card.BeginTransaction(); err != nil {
					t.Error(err)
				}
				granted <- i
				card.EndTransaction(pcsc.LeaveCard)
			}()
			// Each comes when the one before it is in the queue.
			slowtest.Until(t, "a client in the queue", func() bool { return waiting.Load() == int64(i+1) })
		}
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
		for i := range cards {
			if got := <-granted; got != i {
				t.Fatalf("grant %d goes to client %d", i, got)
			}
		}
	})
}

// A client that dies while it waits for a lock is gone at once, and one that dies with the lock gives it up.
func TestClientsThatDie(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	w.insert(&pcsctest.EchoCard{})
	holder := w.script(4)
	h, result := holder.connect(reader, 2)
	if result != 0 {
		t.Fatalf("%X", result)
	}
	holder.ask(0x07, holder.words(h, 0), 8)
	waiter := w.script(4)
	waiter.send(0x04, waiter.connectMessage(waiter.sc, reader, 2, 3))
	letWait()
	before := w.server.Clients()
	waiter.conn.Close()
	slowtest.Until(t, "the end of a client that waits", func() bool { return w.server.Clients() != before })
	next := w.script(4)
	next.send(0x04, next.connectMessage(next.sc, reader, 2, 3))
	letWait()
	holder.conn.Close()
	if got := next.receive(152); next.word(got, 148) != 0 {
		t.Errorf("connect after the holder's death: %X", next.word(got, 148))
	}
	if n := w.slot.Calls("Reset"); n != 1 {
		t.Errorf("%d resets", n)
	}
}

// The idle card is switched off, which nobody sees, and on again for the next connection.
func TestUnusedCardIsSwitchedOff(t *testing.T) {
	w := newManagerWorld(t, settings{notify: true, options: resmgr.Options{PowerDelay: 20 * time.Millisecond}})
	card := &pcsctest.EchoCard{}
	w.insert(card)
	off := func() {
		t.Helper()
		slowtest.Until(t, "the card to be switched off", func() bool { return !w.slot.Powered() })
	}
	off()
	s := w.states()[0]
	if s.EventState&(pcsc.StatePresent|pcsc.StateMute) != pcsc.StatePresent || len(s.ATR) == 0 {
		t.Errorf("state %X ATR %X", s.EventState, s.ATR)
	}
	one := w.connect(pcsc.ShareShared)
	time.Sleep(60 * time.Millisecond) // three times what an unused card is left on for
	if _, err := one.Transmit(selectCommand); err != nil {
		t.Error(err)
	}
	expect(t, "disconnect", one.Disconnect(pcsc.LeaveCard), 0)
	off()
	w.connect(pcsc.ShareDirect)
	if w.slot.Powered() {
		t.Error("a direct connection switches the card on")
	}
}

func TestPolledReader(t *testing.T) {
	w := newServerWorld(t, settings{notify: false})
	w.insert(&pcsctest.EchoCard{})
	card := w.connect(pcsc.ShareShared)
	_, err := card.Transmit(selectCommand)
	expect(t, "transmit", err, 0)
	w.slot.Remove()
	_, err = card.Transmit(selectCommand)
	if err != pcsc.ErrNoSmartcard && err != pcsc.ErrRemovedCard {
		t.Errorf("transmit: %v", err)
	}
	w.await(pcsc.StateEmpty)
}

// The protocol that the driver refuses: the card's first will do, if it was asked for (pcsc-lite #162).
func TestProtocolRefusedByTheReader(t *testing.T) {
	refuse := func(w *world) {
		w.slot.Fault = func(call string) error {
			if call == "SetProtocol" {
				return pcsctest.IFDError(pcsc.ErrorCodeProtocolNot)
			}
			return nil
		}
	}
	w := newManagerWorld(t, settings{notify: true, prepare: refuse})
	w.insert(&pcsctest.EchoCard{}) // T=0 first, then T=1
	_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolT1)
	expect(t, "T=1 alone", err, pcsc.ErrProtoMismatch)
	card, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
	expect(t, "any", err, 0)
	if err == nil && card.ActiveProtocol() != pcsc.ProtocolT0 {
		t.Errorf("protocol %v", card.ActiveProtocol())
	}
}

func TestDriverErrorsBecomeResults(t *testing.T) {
	for _, row := range []struct {
		call string
		code int
		want pcsc.Error
	}{
		{"Transmit", pcsc.ErrorCodeCommunication, pcsc.ErrNotTransacted},
		{"Transmit", pcsc.ErrorCodeTimeout, pcsc.ErrNotTransacted},
		{"Transmit", pcsc.ErrorCodeNotPresent, pcsc.ErrNoSmartcard},
		{"Transmit", pcsc.ErrorCodeNoSuchDevice, pcsc.ErrReaderUnavailable},
		{"Control", pcsc.ErrorCodeCommunication, pcsc.ErrNotTransacted},
		{"Control", pcsc.ErrorCodeUnsupported, pcsc.ErrUnsupportedFeature},
		{"Control", pcsc.ErrorCodeInsufficientBuffer, pcsc.ErrInsufficientBuffer},
		{"Control", pcsc.ErrorCodeNoSuchDevice, pcsc.ErrReaderUnavailable},
		{"Attribute", pcsc.ErrorCodeCommunication, pcsc.ErrNotTransacted},
		{"Attribute", pcsc.ErrorCodeInsufficientBuffer, pcsc.ErrInsufficientBuffer},
		{"Attribute", pcsc.ErrorCodeTag, pcsc.ErrUnsupportedFeature},
	} {
		t.Run(fmt.Sprintf("%s %d", row.call, row.code), func(t *testing.T) {
			w := newManagerWorld(t, settings{notify: true, prepare: func(w *world) {
				w.slot.Fault = func(call string) error {
					if call == row.call {
						return pcsctest.IFDError(row.code)
					}
					return nil
				}
			}})
			w.insert(&pcsctest.EchoCard{})
			card := w.connect(pcsc.ShareShared)
			var err error
			switch row.call {
			case "Transmit":
				_, err = card.Transmit(selectCommand)
			case "Control":
				_, err = card.Control(1, nil)
			case "Attribute":
				_, err = card.GetAttrib(pcsc.AttrVendorName)
			}
			expect(t, row.call, err, row.want)
		})
	}
}

// A restart of the daemon: clients hear it at once, and can begin anew.
func TestDaemonRestart(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	w.insert(&pcsctest.EchoCard{})
	c := w.context()
	card, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
	expect(t, "connect", err, 0)
	waiting := w.context()
	woken := make(chan error, 1)
	go func() {
		woken <- waiting.GetStatusChange([]pcsc.ReaderState{{Reader: w.reader, CurrentState: pcsc.StatePresent}}, -1)
	}()
	letWait()
	soon(t, "end of the daemon", w.stop)
	_, err = card.Transmit(selectCommand)
	expect(t, "transmit", err, pcsc.ErrCommError)
	expect(t, "wait", <-woken, pcsc.ErrCommError)
	_, err = pcsc.NewContext(w.service)
	if err == nil {
		t.Error("a context without a daemon")
	}
}

func TestContextEndsItsWaits(t *testing.T) {
	inBothForms(t, settings{}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		c := w.context()
		woken := make(chan error, 1)
		states := w.states()
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		go func() { woken <- c.GetStatusChange(states, -1) }()
		letWait()
		expect(t, "release", c.Release(), 0)
		soon(t, "wait", func() {
			if err := <-woken; err != pcsc.ErrInvalidHandle { // it was too late to wait
				expect(t, "wait", err, pcsc.ErrCancelled)
			}
		})
		ok, err := c.IsValid()
		if ok || err != nil {
			t.Errorf("%v %v", ok, err)
		}
		ctx, cancel := context.WithTimeout(background(), 30*time.Millisecond)
		defer cancel()
		sc := w.raw()
		expect(t, "wait", w.service.GetStatusChange(ctx, sc, states, -1), pcsc.ErrCancelled)
	})
}

// Programs that die while their reader works on a command of one of them give up their places at once: others can use the
// other reader, as many as there may be.
func TestClientsThatDieAtABusyReader(t *testing.T) {
	const clients = 20
	frozen := make(chan struct{})
	var freeze atomic.Bool
	w := newServerWorld(t, settings{notify: true, clients: clients, prepare: func(w *world) {
		w.second.Fault = func(call string) error {
			if call == "Transmit" && freeze.Load() {
				<-frozen
			}
			return nil
		}
		w.slot.Insert(&pcsctest.EchoCard{})
		w.second.Insert(&pcsctest.EchoCard{})
	}})
	defer close(frozen)
	w.await(pcsc.StatePresent)
	const other = "Other Reader 01 00"
	freeze.Store(true)

	var dying []*script
	for len(dying) < clients-1 { // one place is the harness's own
		s := w.script(4)
		h, result := s.connect(other, 2)
		if result != 0 {
			t.Fatalf("connect: %X", result)
		}
		s.send(0x09, s.words(h, 2, 8, uint32(len(selectCommand)), 0, 0, 264, 0), selectCommand...)
		dying = append(dying, s)
		// The first is at the reader, the others wait for it.
		slowtest.Until(t, "the command at the reader", func() bool { return w.second.Calls("Transmit") > 0 })
	}
	letWait()
	for _, s := range dying {
		s.conn.Close()
	}

	soon(t, "as many programs at the other reader", func() {
		for range clients - 1 {
			s := w.script(4)
			if _, result := s.connect(reader, 2); result != 0 {
				t.Fatalf("connect: %X", result)
			}
		}
	})
	if n := w.second.Calls("Transmit"); n != 1 {
		t.Errorf("%d commands of dead programs went to the reader", n)
	}
}
