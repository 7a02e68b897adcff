package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

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
	m := resmgr.New(resmgr.Options{})
	driver, unplug := context.WithCancel(context.Background())
	unplugged := resmgr.Plug(driver, m, pcsctest.InstantDriver{})
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
		c := pcsc.NewClient(socket)
		sc, err := c.EstablishContext(pcsc.ScopeSystem)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ReleaseContext(sc); err != nil {
			t.Fatal(err)
		}
	})
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
	m := resmgr.New(resmgr.Options{PowerDelay: -1})
	driver, unplug := context.WithCancel(context.Background())
	unplugged := resmgr.Plug(driver, m, pcsctest.InstantDriver{})
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
		l := dialRaw(t, socket)
		defer l.conn.Close()
		r := requests{rawClient: l, locks: map[uint32]int{}}
		for i := 0; i+1 < len(b) && i < 200; i += 2 {
			if !r.random(t, b[i], b[i+1]) {
				return
			}
		}
	})
}

// rawClient is a connection with a context.
type rawClient struct {
	conn net.Conn
	sc   uint32
}

// dialRaw connects, agrees on a version and establishes a context.
func dialRaw(t *testing.T, socket string) *rawClient {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	l := &rawClient{conn: conn}
	version := wire.VersionMessage{Major: wire.Major, Minor: wire.MaxMinor}
	establish := wire.EstablishMessage{Scope: uint32(pcsc.ScopeSystem)}
	if err := errors.Join(exchange(l, wire.CmdVersion, &version, nil), exchange(l, wire.CmdEstablishContext, &establish, nil)); err != nil {
		t.Fatal(err)
	}
	if version.Result != 0 || establish.Result != 0 {
		t.Fatalf("results %X and %X", version.Result, establish.Result)
	}
	l.sc = establish.Context
	return l
}

// exchange sends m with data behind it and reads the answer into m.
func exchange[M wire.Message](l *rawClient, command wire.Command, m *M, data []byte) error {
	size := wire.Size[M]()
	b := wire.Append(nil, &wire.Header{Size: uint32(size), Command: command})
	if _, err := l.conn.Write(append(wire.Append(b, m), data...)); err != nil {
		return err
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(l.conn, answer); err != nil {
		return err
	}
	return wire.Decode(m, answer)
}

// requests is a client whose one connection has several handles.
type requests struct {
	*rawClient
	handles []uint32
	locks   map[uint32]int // how often each has the transaction lock
}

// waits tells whether a call would wait for another handle's lock: for ever, as it is the same client's.
func (l *requests) waits(h uint32) bool {
	for other, n := range l.locks {
		if other != h && n > 0 {
			return true
		}
	}
	return false
}

// send sends one request. It returns false when the daemon has hung up, which it may do for want of a handle only.
func send[M wire.Message](t *testing.T, l *requests, command wire.Command, arg byte, h uint32, m *M, data []byte) bool {
	t.Helper()
	if err := exchange(l.rawClient, command, m, data); err != nil {
		if h != 0 || command == wire.CmdConnect {
			t.Fatalf("command %X with %X ends the connection", command, arg)
		}
		return false
	}
	b := wire.Append(nil, m)
	if result := pcsc.Error(binary.NativeEndian.Uint32(b[len(b)-4:])); !strings.HasPrefix(result.Name(), "SCARD_") {
		t.Fatalf("command %X with %X: result %X", command, arg, uint32(result))
	}
	return true
}

// data reads what follows a successful answer.
func (l *requests) data(result, n uint32) bool {
	if result != 0 {
		return true
	}
	_, err := io.ReadFull(l.conn, make([]byte, n))
	return err == nil
}

// random sends one request, and tells whether the connection goes on.
func (l *requests) random(t *testing.T, what, arg byte) bool {
	t.Helper()
	var h uint32
	if len(l.handles) > 0 {
		h = l.handles[int(arg>>4)%len(l.handles)]
	}
	small := uint32(arg & 15)
	switch what % 10 {
	case 0:
		return l.waits(0) || l.connects(t, arg)
	case 1:
		m := wire.ReconnectMessage{Handle: h, Mode: uint32(arg & 2), Protocols: uint32(arg >> 2 & 7), Initialization: small}
		return send(t, l, wire.CmdReconnect, arg, h, &m, nil)
	case 2:
		return l.waits(h) || l.ends(t, wire.CmdDisconnect, arg, h)
	case 3:
		if l.waits(h) {
			return true
		}
		m := wire.HandleMessage{Handle: h}
		if !send(t, l, wire.CmdBeginTransaction, arg, h, &m, nil) {
			return false
		}
		if m.Result == 0 {
			l.locks[h]++
		}
	case 4:
		return l.ends(t, wire.CmdEndTransaction, arg, h)
	case 5:
		data := make([]byte, 4+small)
		m := wire.TransmitMessage{Handle: h, SendProtocol: uint32(arg & 7), SendLength: uint32(len(data)), RecvLength: uint32(arg)}
		return send(t, l, wire.CmdTransmit, arg, h, &m, data) && l.data(m.Result, m.RecvLength)
	case 6:
		m := wire.ControlMessage{Handle: h, Code: 0x42000000 + small, SendLength: small, RecvLength: uint32(arg)}
		return send(t, l, wire.CmdControl, arg, h, &m, make([]byte, small)) && l.data(m.Result, m.Returned)
	case 7:
		return send(t, l, wire.CmdStatus, arg, h, &wire.HandleMessage{Handle: h}, nil)
	case 8:
		m := wire.AttribMessage{Handle: h, ID: uint32(pcsc.AttrDeviceFriendlyName) + small, Length: uint32(arg)}
		return send(t, l, wire.CmdGetAttrib, arg, h, &m, nil)
	case 9:
		return send(t, l, wire.CmdSetAttrib, arg, h, &wire.AttribMessage{Handle: h, ID: uint32(arg), Length: small}, nil)
	}
	return true
}

// connects makes one more handle.
func (l *requests) connects(t *testing.T, arg byte) bool {
	t.Helper()
	m := wire.ConnectMessage{Context: l.sc, Mode: uint32(arg & 3), Protocols: uint32(arg >> 2 & 7)}
	copy(m.Reader[:], "R 00 00")
	if !send(t, l, wire.CmdConnect, arg, 0, &m, nil) {
		return false
	}
	if m.Result == 0 {
		l.handles = append(l.handles, m.Handle)
		if m.Mode == uint32(pcsc.ShareExclusive) {
			l.locks[m.Handle] = 1
		}
	}
	return true
}

// ends ends a handle, or its transaction.
func (l *requests) ends(t *testing.T, command wire.Command, arg byte, h uint32) bool {
	t.Helper()
	m := wire.DispositionMessage{Handle: h, Disposition: uint32(arg & 15)}
	if !send(t, l, command, arg, h, &m, nil) {
		return false
	}
	switch result := pcsc.Error(m.Result); {
	case command == wire.CmdDisconnect && result == pcsc.ErrSuccess:
		l.handles = slices.DeleteFunc(l.handles, func(x uint32) bool { return x == h })
		delete(l.locks, h)
	case result == pcsc.ErrSuccess || result == pcsc.ErrUnsupportedFeature:
		l.locks[h]--
	}
	return true
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
