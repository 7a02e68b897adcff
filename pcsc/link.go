package pcsc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"pam_pkcs11/pcsc/internal/wire"
)

// link is one connection: a context and its handles. Its calls go one after the other.
type link struct {
	client *Client
	conn   net.Conn
	minor  int32
	sc     SCardContext

	mu     sync.Mutex // guards the next three; held during a call, however long it takes
	broken bool
	names  []string // of the readers when the number of reader events was events
	events uint16

	waitMu  sync.Mutex // guards the fields below
	waiting bool       // in a GetStatusChange that can be cancelled
	ended   bool       // released: a wait ends
}

// handshakeTime bounds the exchange of versions, and that for a context behind it.
const handshakeTime = 5 * time.Second

// dial connects and agrees on a version. A daemon that is older wants its own number, and is asked
// a second time. The connection keeps a deadline: establish takes it away.
func (c *Client) dial() (*link, error) {
	dialer := c.connects
	if dialer == nil {
		dialer = c.connectPath
	}
	conn, err := dialer()
	if err != nil {
		return nil, err
	}

	l := &link{client: c, conn: conn, minor: wire.MaxMinor}
	conn.SetDeadline(time.Now().Add(handshakeTime))

	older, err := l.agree()
	if older {
		_, err = l.agree()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// connect connects to the daemon. Debian's lets one client wait at its socket; for those that come
// meanwhile the kernel says EAGAIN, where a blocking connect would have waited.
func connect(path string, deadline time.Time) (net.Conn, error) {
	for {
		conn, err := net.DialTimeout("unix", path, time.Until(deadline))
		if !errors.Is(err, syscall.EAGAIN) || time.Until(deadline) < connectPause {
			return conn, err
		}
		time.Sleep(connectPause)
	}
}

// connectPause lies between two attempts.
const connectPause = 5 * time.Millisecond

// agree asks for version l.minor. older reports that the daemon wants an older one,
// which l.minor is then.
func (l *link) agree() (older bool, err error) {
	m := wire.VersionMessage{Major: wire.Major, Minor: l.minor}
	if err := exchange(l, wire.CmdVersion, &m, nil); err != nil {
		// The daemon closes the connection of a client that it refuses, without an answer.
		return false, ErrSecurityViolation
	}

	// Up to 4.3 the requests WAIT and STOP have a body, which this client does not send.
	spoken := m.Major == wire.Major && m.Minor >= 4
	switch result := Error(m.Result); {
	case result == ErrSuccess && spoken && m.Minor <= l.minor:
		l.minor = m.Minor
		return false, nil
	case result == ErrServiceStopped && spoken && m.Minor < l.minor:
		l.minor = m.Minor
		return true, ErrServiceStopped
	case result != ErrSuccess:
		return false, result
	}
	return false, ErrServiceStopped
}

// establish makes the context, for which nobody waits long: the daemon that agreed on a version may
// have stopped since.
func (l *link) establish(scope Scope) error {
	l.conn.SetDeadline(time.Now().Add(handshakeTime))
	m := wire.EstablishMessage{Scope: uint32(scope)}
	if err := exchange(l, wire.CmdEstablishContext, &m, nil); err != nil {
		return err
	}
	if m.Result != 0 {
		l.conn.Close()
		return Error(m.Result)
	}

	l.conn.SetDeadline(time.Time{})
	l.sc = SCardContext(m.Context)
	return nil
}

// send writes a request with data behind its message. The data may be a command with a PIN:
// no copy of it is left.
func send[M wire.Message](l *link, command wire.Command, m *M, data []byte) error {
	size := wire.Size[M]()
	b := make([]byte, 0, wire.Size[wire.Header]()+size+len(data))
	b = wire.Append(b, &wire.Header{Size: uint32(size), Command: command})
	b = append(wire.Append(b, m), data...)
	defer clear(b)
	return l.write(b)
}

// sendBare writes a request without a message.
func (l *link) sendBare(command wire.Command) error {
	return l.write(wire.Append(nil, &wire.Header{Command: command}))
}

func (l *link) write(b []byte) error {
	if _, err := l.conn.Write(b); err != nil {
		return l.fail()
	}
	return nil
}

// receive reads m.
func receive[M wire.Message](l *link, m *M) error {
	b := make([]byte, wire.Size[M]())
	if err := l.read(b); err != nil {
		return err
	}
	return wire.Decode(m, b)
}

func (l *link) read(b []byte) error {
	if _, err := io.ReadFull(l.conn, b); err != nil {
		return l.fail()
	}
	return nil
}

// exchange sends m with data behind it and reads the answer into m.
func exchange[M wire.Message](l *link, command wire.Command, m *M, data []byte) error {
	if l.broken {
		return ErrCommError
	}
	if err := send(l, command, m, data); err != nil {
		return err
	}
	return receive(l, m)
}

// fail notes that the connection cannot be used any more.
func (l *link) fail() error {
	l.broken = true
	l.conn.Close()
	return ErrCommError
}

// call is exchange with the lock of the connection, which ctx's end breaks: there is no
// way to take a call back.
func call[M wire.Message](ctx context.Context, l *link, command wire.Command, m *M) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	err := exchange(l, command, m, nil)
	// The end of ctx has closed the connection before the answer was there.
	if !stop() && err != nil {
		return ErrCancelled
	}
	return err
}

// readStates asks for the reader states; l.mu is held.
func (l *link) readStates() (Snapshot, error) {
	if l.broken {
		return Snapshot{}, ErrCommError
	}
	// GET_READERS_STATE brings a fixed number of states. Since 4.6 the number is asked for first.
	if l.minor < 6 {
		if err := l.sendBare(wire.CmdGetReadersState); err != nil {
			return Snapshot{}, err
		}
		return l.readArray(oldReaderStates)
	}

	if err := l.sendBare(wire.CmdGetReadersStateSize); err != nil {
		return Snapshot{}, err
	}
	var size wire.SizeMessage
	if err := receive(l, &size); err != nil {
		return Snapshot{}, err
	}

	if err := l.sendBare(wire.CmdGetReadersStateArray); err != nil {
		return Snapshot{}, err
	}
	return l.readArray(int(size.States))
}

// maxReaderStates bounds what a daemon may announce.
const maxReaderStates = 4096

// oldReaderStates is the number of states that daemons before 4.6 send
// (PCSCLITE_MAX_READERS_CONTEXTS).
const oldReaderStates = 16

// readArray reads n reader states.
func (l *link) readArray(n int) (Snapshot, error) {
	if n < 0 || n > maxReaderStates {
		return Snapshot{}, l.fail()
	}

	b := make([]byte, n*wire.Size[wire.ReaderStateMessage]())
	if err := l.read(b); err != nil {
		return Snapshot{}, err
	}
	return parseStates(b)
}

// parseStates reads an array of reader states.
func parseStates(b []byte) (Snapshot, error) {
	var s Snapshot
	size := wire.Size[wire.ReaderStateMessage]()

	for ; len(b) >= size; b = b[size:] {
		var m wire.ReaderStateMessage
		if err := wire.Decode(&m, b[:size]); err != nil {
			return s, err
		}

		// Up to 4.5 the array has its free places too.
		name := wire.Text(m.Reader[:])
		if name == "" {
			continue
		}

		s.Readers = append(s.Readers, ReaderInfo{
			Name:         name,
			EventCounter: m.EventCounter,
			State:        State(m.State),
			Sharing:      m.Sharing,
			ATR:          m.ATR[:min(m.ATRLength, MaxATR)],
			Protocol:     Protocol(m.Protocol),
		})
	}
	return s, nil
}

// data reads what follows a successful answer.
func (l *link) data(result Error, n uint32) ([]byte, error) {
	if result != ErrSuccess {
		return nil, result
	}
	if n > MaxBufferExtended {
		return nil, l.fail()
	}
	b := make([]byte, n)
	return b, l.read(b)
}
