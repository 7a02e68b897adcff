package pcsc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzMessages: every structure decodes, then encodes to the same bytes, or fails.
func FuzzMessages(f *testing.F) {
	for _, n := range []int{0, 4, 8, 12, 24, 32, 152, 184, 280} {
		f.Add(bytes.Repeat([]byte{0xA5}, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var size sizeMessage
		for _, m := range []message{&Header{}, &VersionMessage{}, &EstablishMessage{}, &ContextMessage{}, &ConnectMessage{},
			&ReconnectMessage{}, &DispositionMessage{}, &HandleMessage{}, &TransmitMessage{}, &ControlMessage{},
			&AttribMessage{}, &WaitMessage{}, &ReaderEventsMessage{}, &ReaderStateMessage{}, &size} {
			if decode(m, b) == nil && !bytes.Equal(encode(nil, m), b) {
				t.Errorf("%T changes %X to %X", m, b, encode(nil, m))
			}
		}
		parseStates(b)
		offeredProtocols(b)
	})
}

// FuzzConnection throws bytes at a daemon: it must answer or hang up, and serve the next.
func FuzzConnection(f *testing.F) {
	words := func(v ...uint32) []byte {
		var b []byte
		for _, x := range v {
			b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
		}
		return b
	}
	version := words(12, 0x11, 4, 6, 0)
	f.Add(version)
	f.Add(append(bytes.Clone(version), words(12, 1, 2, 0, 0, 0, 0x13, 0, 0x16, 0, 0x17, 0, 0x14)...))
	f.Add(words(12, 0x11, 4, 4, 0, 12, 1, 2, 0, 0, 0, 0x13, 0, 0x14, 0, 0x12))
	f.Add(words(8, 0x0D, 1, 0))
	f.Add(words(32, 9, 1, 2, 16, 5, 2, 16, 300, 0, 1))
	f.Add(words(0xFFFFFFFF, 4))
	f.Add(append(append(words(12, 0x11, 4, 4, 0, 12, 1, 2, 0, 0, 152, 4, 1), make([]byte, 148)...), words(0, 0x12)...))
	m := NewManager(Options{})
	driver, unplug := context.WithCancel(context.Background())
	unplugged := Plug(driver, m, instantDriver{})
	m.Ready()
	socket := filepath.Join(f.TempDir(), "s")
	fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 64)); err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := &Server{Manager: m}
	go func() { ended <- s.Serve(ctx, fd) }()
	f.Cleanup(func() {
		cancel()
		<-ended
		unplug()
		<-unplugged
		unix.Close(fd)
		m.Close()
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(client)
		unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		if err := unix.Connect(client, &unix.SockaddrUnix{Name: socket}); err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n, err := unix.SendmsgN(client, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			b = b[n:]
		}
		unix.Shutdown(client, unix.SHUT_WR)
		for buffer := make([]byte, 1<<16); ; {
			n, err := unix.Read(client, buffer)
			if err == unix.EAGAIN {
				t.Fatal("the daemon neither answers nor hangs up")
			}
			if n <= 0 {
				break
			}
		}
		c := NewClient(socket)
		sc, err := c.EstablishContext(ScopeSystem)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ReleaseContext(sc); err != nil {
			t.Fatal(err)
		}
	})
}

// instant is a slot without faults, for the model.
type instant struct{}

func (*instant) Events() <-chan bool                   { return make(chan bool) }
func (*instant) Present(context.Context) (bool, error) { return true, nil }
func (*instant) PowerUp(context.Context) ([]byte, error) {
	return []byte{0x3B, 0x80, 0x80, 0x01, 0x01}, nil
}
func (*instant) Reset(context.Context) ([]byte, error) {
	return []byte{0x3B, 0x80, 0x80, 0x01, 0x01}, nil
}
func (*instant) PowerDown(context.Context) error                   { return nil }
func (*instant) SetProtocol(context.Context, uint32) error         { return nil }
func (*instant) Attribute(context.Context, uint32) ([]byte, error) { return nil, errors.ErrUnsupported }
func (*instant) SetAttribute(context.Context, uint32, []byte) error {
	return errors.ErrUnsupported
}
func (*instant) Control(context.Context, uint32, []byte, int) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
func (*instant) Transmit(_ context.Context, _ uint32, command, reply []byte) ([]byte, error) {
	return append(reply[:0], 0x90, 0x00), nil
}

type instantDriver struct{}

func (instantDriver) Run(ctx context.Context, attach func(id, product, iface, serial string, slots []*instant), _ func(string), settled func()) error {
	attach("1", "R", "", "", []*instant{{}})
	settled()
	<-ctx.Done()
	return nil
}

// FuzzRequests sends well-formed requests in any order on a connection with a context and a handle: two bytes choose the
// command and its arguments, the handle and context are filled in. Each must be answered with the size of its kind
// and a result that has a name, or the connection must end; nothing may come that was not asked for.
func FuzzRequests(f *testing.F) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := make([]byte, 120)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	m := NewManager(Options{PowerDelay: -1})
	driver, unplug := context.WithCancel(context.Background())
	unplugged := Plug(driver, m, instantDriver{})
	m.Ready()
	socket := filepath.Join(f.TempDir(), "s")
	fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 64)); err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&Server{Manager: m}).Serve(ctx, fd) }()
	f.Cleanup(func() {
		cancel()
		<-ended
		unplug()
		<-unplugged
		unix.Close(fd)
		m.Close()
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewClient(socket)
		sc, err := c.EstablishContext(ScopeSystem)
		if err != nil {
			t.Fatal(err)
		}
		defer c.ReleaseContext(sc)
		l := c.contexts[sc]
		l.conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := requests{link: l, locks: map[Handle]int{}}
		for i := 0; i+1 < len(b) && i < 200; i += 2 {
			if !r.random(t, b[i], b[i+1]) {
				return
			}
		}
	})
}

// requests is a client whose one connection has several handles.
type requests struct {
	*link
	handles []Handle
	locks   map[Handle]int // how often each has the transaction lock
}

// waits tells whether a call would wait for another handle's lock: for ever, as it is the same client's.
func (l *requests) waits(h Handle) bool {
	for other, n := range l.locks {
		if other != h && n > 0 {
			return true
		}
	}
	return false
}

// random sends one request, and tells whether the connection goes on.
func (l *requests) random(t *testing.T, what, arg byte) bool {
	t.Helper()
	var h Handle
	if len(l.handles) > 0 {
		h = l.handles[int(arg>>4)%len(l.handles)]
	}
	small := uint32(arg & 15)
	var m message
	var command Command
	var data []byte
	switch what % 10 {
	case 0:
		if l.waits(0) {
			return true
		}
		c := &ConnectMessage{Context: l.sc, Mode: ShareMode(arg & 3), Protocols: Protocol(arg >> 2 & 7)}
		copy(c.Reader[:], "R 00 00")
		command, m = CmdConnect, c
	case 1:
		command, m = CmdReconnect, &ReconnectMessage{Handle: h, Mode: ShareMode(arg & 2), Protocols: Protocol(arg >> 2 & 7), Initialization: Disposition(small)}
	case 2:
		if l.waits(h) {
			return true
		}
		command, m = CmdDisconnect, &DispositionMessage{Handle: h, Disposition: Disposition(small)}
	case 3:
		if l.waits(h) {
			return true
		}
		command, m = CmdBeginTransaction, &HandleMessage{Handle: h}
	case 4:
		command, m = CmdEndTransaction, &DispositionMessage{Handle: h, Disposition: Disposition(small)}
	case 5:
		data = make([]byte, 4+small)
		command, m = CmdTransmit, &TransmitMessage{Handle: h, SendProtocol: Protocol(arg & 7), SendLength: uint32(len(data)), RecvLength: uint32(arg)}
	case 6:
		data = make([]byte, small)
		command, m = CmdControl, &ControlMessage{Handle: h, Code: 0x42000000 + small, SendLength: small, RecvLength: uint32(arg)}
	case 7:
		command, m = CmdStatus, &HandleMessage{Handle: h}
	case 8:
		command, m = CmdGetAttrib, &AttribMessage{Handle: h, ID: AttrDeviceFriendlyName + Attrib(small), Length: uint32(arg)}
	case 9:
		command, m = CmdSetAttrib, &AttribMessage{Handle: h, ID: Attrib(arg), Length: small}
	}
	err := l.exchange(command, m, data)
	if err != nil {
		if h != 0 || command == CmdConnect {
			t.Fatalf("command %X with %X ends the connection", command, arg)
		}
		return false // no handle: the daemon hangs up
	}
	b := encode(nil, m)
	if result := Error(binary.NativeEndian.Uint32(b[len(b)-4:])); errorTexts[result].name == "" {
		t.Fatalf("command %X with %X: result %X", command, arg, uint32(result))
	}
	switch m := m.(type) {
	case *ConnectMessage:
		if m.Result == ErrSuccess {
			l.handles = append(l.handles, m.Handle)
			if m.Mode == ShareExclusive {
				l.locks[m.Handle] = 1
			}
		}
	case *HandleMessage:
		if command == CmdBeginTransaction && m.Result == ErrSuccess {
			l.locks[h]++
		}
	case *DispositionMessage:
		switch {
		case command == CmdDisconnect && m.Result == ErrSuccess:
			l.handles = slices.DeleteFunc(l.handles, func(x Handle) bool { return x == h })
			delete(l.locks, h)
		case m.Result == ErrSuccess || m.Result == ErrUnsupportedFeature:
			l.locks[h]--
		}
	case *TransmitMessage:
		_, err = l.data(m.Result, m.RecvLength)
	case *ControlMessage:
		_, err = l.data(m.Result, m.Returned)
	}
	return err == nil
}

func FuzzRules(f *testing.F) {
	f.Add([]byte("allow = local\nuser = alice\n# x\ngroup = 12\npolkit = yes\nreader_states = 48\nignore_reader = Foo Bar\n"))
	f.Add([]byte("allow=all"))
	f.Add([]byte("allow = everybody"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRules("f", b)
		if err != nil {
			var e *RulesError
			if !errors.As(err, &e) || e.Line < 1 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			return
		}
		if r.Allow != AllowLocal && r.Allow != AllowAll && r.Allow != AllowNone {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzStatusChange(f *testing.F) {
	f.Add(uint32(0), uint32(0x34), int32(1), uint32(1))
	f.Fuzz(func(t *testing.T, current, state uint32, sharing int32, counter uint32) {
		p := &published{name: "R", state: State(state), sharing: sharing, counter: counter}
		s := ReaderState{Reader: "R", CurrentState: StateFlag(current)}
		compareReader(p, &s)
		// What was answered is no change any more.
		again := ReaderState{Reader: "R", CurrentState: s.EventState &^ StateChanged}
		if s.EventState&0xFFFF&^StateChanged != 0 && compareReader(p, &again) {
			t.Errorf("state %X sharing %d is news twice: %X", state, sharing, s.EventState)
		}
	})
}
