package pcsc_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// script is a client that knows nothing but bytes.
type script struct {
	t    *testing.T
	conn net.Conn
	sc   uint32
}

func (w *world) script(minor int32) *script {
	w.t.Helper()
	s := w.dial()
	got := s.ask(0x11, s.words(4, uint32(minor), 0), 12)
	if want := s.words(4, uint32(minor), 0); string(got) != string(want) {
		w.t.Fatalf("version 4.%d is answered with %X", minor, got)
	}
	got = s.ask(0x01, s.words(2, 0, 0), 12)
	if s.sc = s.word(got, 4); s.word(got, 8) != 0 || s.sc == 0 {
		w.t.Fatalf("establish is answered with %X", got)
	}
	return s
}

func (w *world) dial() *script {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &script{t: w.t, conn: conn}
}

func (s *script) words(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}

func (s *script) word(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }

// send writes header and body apart, as libpcsclite does.
func (s *script) send(command uint32, body []byte, data ...byte) {
	s.conn.Write(s.words(uint32(len(body)), command))
	if len(body) > 0 {
		s.conn.Write(body)
	}
	if len(data) > 0 {
		s.conn.Write(data)
	}
}

// receive reads n bytes, all of which have to come.
func (s *script) receive(n int) []byte {
	s.t.Helper()
	b := make([]byte, n)
	s.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for at := 0; at < n; {
		got, err := s.conn.Read(b[at:])
		if err != nil {
			s.t.Fatalf("%d of %d bytes: %v", at, n, err)
		}
		at += got
	}
	return b
}

func (s *script) ask(command uint32, body []byte, n int) []byte {
	s.t.Helper()
	s.send(command, body)
	return s.receive(n)
}

// silent checks that nothing more has come.
func (s *script) silent() {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := s.conn.Read(make([]byte, 1)); n != 0 || err == nil {
		s.t.Fatal("a byte too many has come")
	} else if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		s.t.Fatal("the connection was closed")
	}
}

// closed checks that the daemon has hung up.
func (s *script) closed() {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := s.conn.Read(make([]byte, 1))
	if ne, ok := err.(net.Error); n != 0 || err == nil || ok && ne.Timeout() {
		s.t.Fatalf("the connection is still open: %d %v", n, err)
	}
}

func (s *script) connectMessage(sc uint32, name string, mode, protocols uint32) []byte {
	b := make([]byte, 152)
	binary.NativeEndian.PutUint32(b, sc)
	copy(b[4:], name)
	binary.NativeEndian.PutUint32(b[132:], mode)
	binary.NativeEndian.PutUint32(b[136:], protocols)
	return b
}

// connect gives the handle and the result.
func (s *script) connect(name string, mode uint32) (handle, result uint32) {
	s.t.Helper()
	b := s.ask(0x04, s.connectMessage(s.sc, name, mode, 3), 152)
	return s.word(b, 140), s.word(b, 148)
}

func stateOf(b []byte) (name string, counter, state uint32, sharing int32, atrLength uint32) {
	for i, c := range b[:128] {
		if c == 0 {
			name = string(b[:i])
			break
		}
	}
	u := binary.NativeEndian.Uint32
	return name, u(b[128:]), u(b[132:]), int32(u(b[136:])), u(b[176:])
}

func TestHandshake(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	for _, row := range []struct {
		name         string
		major, minor uint32
		want         []uint32
	}{
		{"4.3", 4, 3, []uint32{4, 3, 0}},
		{"4.4", 4, 4, []uint32{4, 4, 0}},
		{"4.5", 4, 5, []uint32{4, 5, 0}},
		{"4.6", 4, 6, []uint32{4, 6, 0}},
		{"4.2 is too old", 4, 2, []uint32{4, 6, 0x8010001E}},
		{"4.7 is told what would do", 4, 7, []uint32{4, 6, 0x8010001E}},
		{"5.0", 5, 0, []uint32{4, 6, 0x8010001E}},
		{"0.0", 0, 0, []uint32{4, 6, 0x8010001E}},
		{"negative", 4, 0xFFFFFFFF, []uint32{4, 6, 0x8010001E}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := w.dial()
			got := s.ask(0x11, s.words(row.major, row.minor, 0), 12)
			if string(got) != string(s.words(row.want...)) {
				t.Errorf("%X", got)
			}
			// The connection stays open, and the version that was named is accepted then.
			if got := s.ask(0x11, s.words(4, 6, 0), 12); s.word(got, 8) != 0 {
				t.Errorf("again: %X", got)
			}
		})
	}
}

func TestDaemonHangsUp(t *testing.T) { inDaemons(t, settings{}, daemonHangsUp) }

func daemonHangsUp(t *testing.T, w *world) {
	w.insert(&pcsctest.EchoCard{})
	for _, row := range []struct {
		name string
		do   func(s *script)
	}{
		{"on an unknown command", func(s *script) { s.send(0x55, nil) }},
		{"on the reserved LIST_READERS", func(s *script) { s.send(0x03, s.words(s.sc)) }},
		{"on the reserved GET_STATUS_CHANGE", func(s *script) { s.send(0x0C, nil) }},
		{"on the reserved CANCEL_TRANSACTION", func(s *script) { s.send(0x0E, s.words(0, 0)) }},
		{"on command 0", func(s *script) { s.send(0, nil) }},
		{"on a body that is too short", func(s *script) { s.send(0x02, s.words(s.sc)) }},
		{"on a body that is too long", func(s *script) { s.send(0x02, s.words(s.sc, 0, 0)) }},
		{"on a body of 4 GiB", func(s *script) { s.conn.Write(s.words(0xFFFFFFFF, 0x04)) }},
		{"on the connect message of 1.8.3", func(s *script) { s.send(0x04, make([]byte, 124)) }},
		{"on the size of the states in 4.4", func(s *script) { s.send(0x16, nil) }},
		{"on the reader events in 4.4", func(s *script) { s.send(0x15, nil) }},
		{"on a command of 65549 bytes", func(s *script) {
			h, _ := s.connect(reader, 2)
			s.send(0x09, s.words(h, 2, 16, 65549, 3, 16, 300, 0))
		}},
		{"on control data of 65549 bytes", func(s *script) {
			h, _ := s.connect(reader, 2)
			s.send(0x0A, s.words(h, 1, 65549, 300, 0, 0))
		}},
		{"on an attribute of 265 bytes", func(s *script) {
			h, _ := s.connect(reader, 2)
			b := make([]byte, 280)
			binary.NativeEndian.PutUint32(b, h)
			binary.NativeEndian.PutUint32(b[272:], 265)
			s.send(0x0F, b)
		}},
		{"on a handle that was never given", func(s *script) { s.send(0x0B, s.words(0x12345, 0)) }},
		{"on another connection's handle", func(s *script) {
			h, _ := w.script(4).connect(reader, 2)
			s.send(0x0B, s.words(h, 0))
		}},
		{"on a handle used after its context's release", func(s *script) {
			h, _ := s.connect(reader, 2)
			s.ask(0x02, s.words(s.sc, 0), 8)
			s.send(0x0B, s.words(h, 0))
		}},
		{"on a handle used after disconnect", func(s *script) {
			h, _ := s.connect(reader, 2)
			s.ask(0x06, s.words(h, 0, 0), 12)
			s.send(0x0B, s.words(h, 0))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := w.script(4)
			row.do(s)
			s.closed()
			w.script(4) // others are served
		})
	}
}

func TestContextsOnTheWire(t *testing.T) { inDaemons(t, settings{}, contextsOnTheWire) }

func contextsOnTheWire(t *testing.T, w *world) {
	s := w.script(4)
	if got := s.ask(0x02, s.words(s.sc+1, 0), 8); s.word(got, 4) != uint32(pcsc.ErrInvalidValue) {
		t.Errorf("release of another context: %X", got)
	}
	b := s.ask(0x04, s.connectMessage(s.sc+1, reader, 3, 3), 152)
	if s.word(b, 148) != uint32(pcsc.ErrInvalidValue) {
		t.Errorf("connect with another context: %X", s.word(b, 148))
	}
	if w.stock { // its cancel does not find the context any more that came second
		return
	}
	first := s.sc
	got := s.ask(0x01, s.words(2, 0, 0), 12)
	if s.word(got, 8) != 0 || s.word(got, 4) == first {
		t.Errorf("establish again: %X", got)
	}
	s.sc = s.word(got, 4)
	if _, result := s.connect(reader, 3); result != 0 {
		t.Errorf("connect: %X", result)
	}
	if got := w.dial().ask(0x0D, s.words(0x7777, 0), 8); s.word(got, 4) != uint32(pcsc.ErrInvalidHandle) {
		t.Errorf("cancel of an unknown context: %X", got)
	}
	if got := w.dial().ask(0x0D, s.words(first, 0), 8); s.word(got, 4) != uint32(pcsc.ErrInvalidHandle) {
		t.Errorf("cancel of a context that was replaced: %X", got)
	}
	if got := w.dial().ask(0x0D, s.words(s.sc, 0), 8); s.word(got, 4) != 0 {
		t.Errorf("cancel of a context that does not wait: %X", got)
	}
	s.silent()
}

// Protocol 4.4 and 4.5: WAIT is answered with the states; one message follows, whatever happens.
func TestWaitFourFour(t *testing.T) {
	inDaemons(t, settings{}, func(t *testing.T, w *world) { waitFourFour(t, w, 4) })
	if !stockIsTested() {
		inDaemons(t, settings{}, func(t *testing.T, w *world) { waitFourFour(t, w, 5) })
	}
}

func waitFourFour(t *testing.T, w *world, minor int32) {
	s := w.script(minor)
	states := s.ask(0x13, nil, 16*184)
	if name, _, state, sharing, _ := stateOf(states); name != reader || state != 2 || sharing != 0 {
		t.Fatalf("%q %X %d", name, state, sharing)
	}
	s.silent()
	if got := s.ask(0x14, nil, 8); s.word(got, 4) != 0 { // STOP of a wait without event: acknowledged
		t.Errorf("%X", got)
	}
	s.ask(0x13, nil, 16*184)
	w.slot.Insert(&pcsctest.EchoCard{})
	if got := s.receive(8); s.word(got, 4) != 0 {
		t.Errorf("event %X", got)
	}
	s.send(0x14, nil) // STOP after the event: not answered
	s.silent()
	states = s.ask(0x13, nil, 16*184)
	if _, counter, state, _, atr := stateOf(states); counter != 1 || state != 0x34 || atr != uint32(len(pcsctest.EchoATR)) {
		t.Errorf("counter %d state %X ATR %d", counter, state, atr)
	}
	other := w.dial()
	if got := other.ask(0x0D, s.words(s.sc, 0), 8); s.word(got, 4) != 0 {
		t.Errorf("cancel: %X", got)
	}
	if got := s.receive(8); s.word(got, 4) != uint32(pcsc.ErrCancelled) {
		t.Errorf("cancelled wait: %X", got)
	}
	s.ask(0x13, nil, 16*184) // a later wait is not cancelled by it
	s.silent()
}

// Protocol 4.6: nothing may come between WAIT and the answer to ARRAY, or the client takes it for the size.
func TestWaitFourSix(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	s := w.script(6)
	s.send(0x13, nil)
	w.insert(&pcsctest.EchoCard{}) // in the middle
	w.remove()
	s.silent()
	if got := s.ask(0x16, nil, 4); s.word(got, 0) != 16 {
		t.Fatalf("size %X", got)
	}
	s.silent()
	states := s.ask(0x17, nil, 16*184)
	if _, counter, state, _, _ := stateOf(states); counter != 2 || state != 2 {
		t.Errorf("counter %d state %X", counter, state)
	}
	if got := s.receive(8); s.word(got, 4) != 0 {
		t.Errorf("event %X", got)
	}
	s.send(0x14, nil)
	s.silent()
	// STOP without ARRAY, with an event held back: one message.
	s.send(0x13, nil)
	w.insert(&pcsctest.EchoCard{})
	s.send(0x14, nil)
	s.receive(8)
	s.silent()
	// CANCEL in the middle is held back too.
	s.send(0x13, nil)
	s.ask(0x16, nil, 4)
	w.dial().ask(0x0D, s.words(s.sc, 0), 8)
	s.silent()
	s.ask(0x17, nil, 16*184)
	if got := s.receive(8); s.word(got, 4) != uint32(pcsc.ErrCancelled) {
		t.Errorf("%X", got)
	}
	s.silent()
}

// Protocol 4.3: WAIT has a body and no answer, STOP is always answered; an event between the states and WAIT is told.
func TestWaitFourThree(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	s := w.script(3)
	s.ask(0x12, nil, 16*184)
	s.send(0x13, s.words(0, 0))
	s.silent()
	w.slot.Insert(&pcsctest.EchoCard{})
	s.receive(8)
	if got := s.ask(0x14, s.words(0, 0), 8); s.word(got, 4) != 0 {
		t.Errorf("%X", got)
	}
	s.silent()
	s.ask(0x12, nil, 16*184)
	w.remove()
	s.send(0x13, s.words(0, 0))
	s.receive(8)
}

func TestReaderStatesGrowAndNeverShrink(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	s := w.script(6)
	for i := range 20 {
		w.driver.Add(pcsctest.Reader{ID: string(rune('a' + i)), Product: "More", Slots: []*pcsctest.Slot{pcsctest.NewSlot(true)}})
	}
	slowtest.Until(t, "22 readers", func() bool { return s.word(s.ask(0x16, nil, 4), 0) == 22 })
	states := s.ask(0x17, nil, 22*184)
	if name, _, _, _, _ := stateOf(states[21*184:]); name != "More 15 00" {
		t.Errorf("%q", name)
	}
	old := w.script(4)
	old.ask(0x12, nil, 16*184) // exactly the number that is compiled into it
	old.silent()
	for i := range 20 {
		w.driver.Remove(string(rune('a' + i)))
	}
	if got := s.word(s.ask(0x16, nil, 4), 0); got != 22 {
		t.Errorf("size %d", got)
	}
	if got := s.word(w.script(6).ask(0x15, nil, 8), 0); got != 1+2+40 {
		t.Errorf("%d reader events", got)
	}
}

func TestReaderStatesOfOtherBuilds(t *testing.T) {
	w := newServerWorld(t, settings{notify: true, options: resmgr.Options{ReaderStates: 48}})
	s := w.script(4)
	s.ask(0x13, nil, 48*184)
	s.silent()
	if got := s.word(w.script(6).ask(0x16, nil, 4), 0); got != 48 {
		t.Errorf("size %d", got)
	}
}

func TestTooManyHandles(t *testing.T) {
	w := newServerWorld(t, settings{notify: true, options: resmgr.Options{HandlesPerClient: 3, HandlesPerReader: 5}})
	s := w.script(4)
	for i := range 4 {
		_, result := s.connect(reader, 3)
		if (result != 0) != (i == 3) {
			t.Errorf("connection %d: %X", i, result)
		}
	}
	other := w.script(4)
	for i := range 3 {
		_, result := other.connect(reader, 3)
		if (result != 0) != (i == 2) {
			t.Errorf("other connection %d: %X", i, result)
		}
	}
}

func TestTooManyClients(t *testing.T) {
	w := newServerWorld(t, settings{notify: true, clients: 3})
	var all []*script
	for range 3 {
		all = append(all, w.script(4))
	}
	s := w.dial()
	s.ask(0x11, s.words(4, 4, 0), 12)
	s.send(0x01, s.words(2, 0, 0))
	s.closed()
	if got := w.dial().ask(0x0D, s.words(all[0].sc, 0), 8); s.word(got, 4) != 0 {
		t.Errorf("cancel is refused: %X", got)
	}
	all[0].conn.Close()
	slowtest.Until(t, "the end of a client", func() bool { return w.server.Clients() <= 3 })
	w.script(4)
}
