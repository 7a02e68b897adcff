package pcsc

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/pcscd/pcscd.comm"

// socketVariable is the environment variable that names another socket to libpcsclite, and to EstablishContext.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// EstablishContext makes a context with the daemon of this machine.
func EstablishContext() (*Context, error) {
	path := os.Getenv(socketVariable)
	if path == "" {
		path = DefaultSocket
	}
	return NewContext(NewClient(path))
}

// Client is a Service over the socket of a daemon, ours or pcscd of any version from 1.8.24 (protocol 4.4). Each context
// is a connection. A broken connection, or a daemon that was restarted, is ErrCommError: the context is then lost, and a
// new one can be established.
type Client struct {
	path string

	mu       sync.Mutex
	contexts map[SCardContext]*link
	handles  map[Handle]connection
}

// connection is where a handle belongs.
type connection struct {
	*link
	reader string
}

var _ Service = (*Client)(nil)

// NewClient makes a client for the socket at path. Nothing is connected yet.
func NewClient(path string) *Client {
	return &Client{path: path, contexts: map[SCardContext]*link{}, handles: map[Handle]connection{}}
}

// link is one connection: a context and its handles. Its calls go one after the other.
type link struct {
	client *Client
	conn   net.Conn
	minor  int32
	sc     SCardContext

	mu      sync.Mutex
	broken  bool
	names   []string // of the readers when the number of reader events was events
	events  uint16
	waitMu  sync.Mutex
	waiting bool // in a GetStatusChange that can be cancelled
	ended   bool // released: a wait ends
}

// handshakeTime bounds the exchange of versions.
const handshakeTime = 5 * time.Second

// dial connects and agrees on a version.
func (c *Client) dial() (*link, error) {
	conn, err := net.DialTimeout("unix", c.path, handshakeTime)
	if err != nil {
		return nil, ErrNoService
	}
	l := &link{client: c, conn: conn, minor: maxMinor}
	conn.SetDeadline(time.Now().Add(handshakeTime))
	for range 2 {
		m := VersionMessage{Major: ProtocolMajor, Minor: l.minor}
		if err := l.exchange(CmdVersion, &m, nil); err != nil {
			conn.Close()
			return nil, ErrSecurityViolation // the daemon closes without a word on those it does not want
		}
		switch {
		case m.Result == ErrSuccess && m.Major == ProtocolMajor && m.Minor >= 4 && m.Minor <= l.minor:
			l.minor = m.Minor
			conn.SetDeadline(time.Time{})
			return l, nil
		case m.Result == ErrServiceStopped && m.Major == ProtocolMajor && m.Minor >= 4 && m.Minor < l.minor:
			l.minor = m.Minor // an older daemon that wants its own number
			continue
		case m.Result != ErrSuccess:
			conn.Close()
			return nil, m.Result
		}
		break
	}
	conn.Close()
	return nil, ErrServiceStopped
}

// send writes a request.
func (l *link) send(command Command, m message, data []byte) error {
	b := make([]byte, headerSize, headerSize+64+len(data))
	if m != nil {
		b = encode(b, m)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)-headerSize))
	binary.NativeEndian.PutUint32(b[4:], uint32(command))
	if _, err := l.conn.Write(append(b, data...)); err != nil {
		return l.fail()
	}
	return nil
}

// receive reads m.
func (l *link) receive(m message) error {
	b := make([]byte, len(encode(nil, m)))
	if err := l.read(b); err != nil {
		return err
	}
	return decode(m, b)
}

func (l *link) read(b []byte) error {
	if _, err := io.ReadFull(l.conn, b); err != nil {
		return l.fail()
	}
	return nil
}

// exchange sends m with data behind it and reads the answer into m.
func (l *link) exchange(command Command, m message, data []byte) error {
	if l.broken {
		return ErrCommError
	}
	if err := l.send(command, m, data); err != nil {
		return err
	}
	return l.receive(m)
}

// fail notes that the connection cannot be used any more.
func (l *link) fail() error {
	l.broken = true
	l.conn.Close()
	return ErrCommError
}

// call is exchange with the lock of the connection, which ctx's end breaks: there is no way to take a call back.
func (l *link) call(ctx context.Context, command Command, m message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	err := l.exchange(command, m, nil)
	if !stop() && err != nil {
		return ErrCancelled
	}
	return err
}

// EstablishContext connects to the daemon.
func (c *Client) EstablishContext(scope Scope) (SCardContext, error) {
	l, err := c.dial()
	if err != nil {
		return 0, err
	}
	m := EstablishMessage{Scope: scope}
	if err := l.exchange(CmdEstablishContext, &m, nil); err != nil {
		return 0, err
	}
	if m.Result != ErrSuccess {
		l.conn.Close()
		return 0, m.Result
	}
	l.sc = m.Context
	c.mu.Lock()
	defer c.mu.Unlock()
	c.contexts[l.sc] = l
	return l.sc, nil
}

func (c *Client) link(sc SCardContext) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.contexts[sc]; l != nil {
		return l, nil
	}
	return nil, ErrInvalidHandle
}

func (c *Client) linkOf(h Handle) (connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.handles[h]; l.link != nil {
		return l, nil
	}
	return connection{}, ErrInvalidHandle
}

// ReleaseContext ends a context and its connection.
func (c *Client) ReleaseContext(sc SCardContext) error {
	l, err := c.link(sc)
	if err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.contexts, sc)
	for h, of := range c.handles {
		if of.link == l {
			delete(c.handles, h)
		}
	}
	c.mu.Unlock()
	l.waitMu.Lock()
	l.ended = true
	waiting := l.waiting
	l.waitMu.Unlock()
	if waiting {
		l.cancel()
	}
	m := ContextMessage{Context: sc}
	if err := l.call(context.Background(), CmdReleaseContext, &m); err != nil {
		return err
	}
	l.conn.Close()
	return m.Result.result()
}

// IsValidContext is nil for a context that was not released and whose connection lives.
func (c *Client) IsValidContext(sc SCardContext) error {
	_, err := c.link(sc)
	return err
}

// ListReaders names the readers.
func (c *Client) ListReaders(sc SCardContext) ([]string, error) {
	l, err := c.link(sc)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	snap, err := l.readStates()
	if err != nil {
		return nil, err
	}
	return snap.names()
}

// ListReaderGroups names the one group there is.
func (c *Client) ListReaderGroups(sc SCardContext) ([]string, error) {
	if _, err := c.link(sc); err != nil {
		return nil, err
	}
	return []string{DefaultReaderGroup}, nil
}

// readStates asks for the reader states; l.mu is held.
func (l *link) readStates() (snapshot, error) {
	if l.broken {
		return snapshot{}, ErrCommError
	}
	if l.minor < 6 {
		if err := l.send(CmdGetReadersState, nil, nil); err != nil {
			return snapshot{}, err
		}
		return l.readArray(16)
	}
	if err := l.send(CmdGetReadersStateSize, nil, nil); err != nil {
		return snapshot{}, err
	}
	var size sizeMessage
	if err := l.receive(&size); err != nil {
		return snapshot{}, err
	}
	if err := l.send(CmdGetReadersStateArray, nil, nil); err != nil {
		return snapshot{}, err
	}
	return l.readArray(int(size))
}

// maxReaderStates bounds what a daemon may announce.
const maxReaderStates = 4096

func (l *link) readArray(n int) (snapshot, error) {
	if n < 0 || n > maxReaderStates {
		return snapshot{}, l.fail()
	}
	b := make([]byte, n*readerStateSize)
	if err := l.read(b); err != nil {
		return snapshot{}, err
	}
	return parseStates(b)
}

// parseStates reads an array of reader states.
func parseStates(b []byte) (snapshot, error) {
	var s snapshot
	for ; len(b) >= readerStateSize; b = b[readerStateSize:] {
		var m ReaderStateMessage
		if err := decode(&m, b[:readerStateSize]); err != nil {
			return s, err
		}
		name := cString(m.Reader[:])
		if name == "" {
			continue
		}
		s.readers = append(s.readers, published{name: name, counter: m.EventCounter, state: m.State, sharing: m.Sharing,
			atr: m.ATR[:min(m.ATRLength, MaxATR)], protocol: m.Protocol})
	}
	return s, nil
}

// Connect connects to a reader. When ctx ends before the daemon has answered the whole context is lost.
func (c *Client) Connect(ctx context.Context, sc SCardContext, reader string, mode ShareMode, protocols Protocol) (Handle, Protocol, error) {
	l, err := c.link(sc)
	if err != nil {
		return 0, 0, err
	}
	m := ConnectMessage{Context: sc, Mode: mode, Protocols: protocols}
	if len(reader) >= MaxReaderName {
		return 0, 0, ErrInvalidValue
	}
	copy(m.Reader[:], reader)
	if err := l.call(ctx, CmdConnect, &m); err != nil {
		return 0, 0, err
	}
	if m.Result != ErrSuccess {
		return 0, 0, m.Result
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles[m.Handle] = connection{l, reader}
	return m.Handle, m.Active, nil
}

// Reconnect takes a connection up again.
func (c *Client) Reconnect(h Handle, mode ShareMode, protocols Protocol, initialization Disposition) (Protocol, error) {
	l, err := c.linkOf(h)
	if err != nil {
		return 0, err
	}
	m := ReconnectMessage{Handle: h, Mode: mode, Protocols: protocols, Initialization: initialization}
	if err := l.call(context.Background(), CmdReconnect, &m); err != nil {
		return 0, err
	}
	return m.Active, m.Result.result()
}

// Disconnect ends a connection.
func (c *Client) Disconnect(ctx context.Context, h Handle, d Disposition) error {
	l, err := c.linkOf(h)
	if err != nil {
		return err
	}
	m := DispositionMessage{Handle: h, Disposition: d}
	if err := l.call(ctx, CmdDisconnect, &m); err != nil {
		return err
	}
	if m.Result == ErrSuccess {
		c.mu.Lock()
		delete(c.handles, h)
		c.mu.Unlock()
	}
	return m.Result.result()
}

// BeginTransaction waits for the transaction lock. A daemon that does not queue (pcscd) is asked again and again.
func (c *Client) BeginTransaction(ctx context.Context, h Handle) error {
	l, err := c.linkOf(h)
	if err != nil {
		return err
	}
	for {
		m := HandleMessage{Handle: h}
		if err := l.call(ctx, CmdBeginTransaction, &m); err != nil {
			return err
		}
		if m.Result != ErrSharingViolation {
			return m.Result.result()
		}
		select {
		case <-ctx.Done():
			return ErrCancelled
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// EndTransaction gives the transaction lock up.
func (c *Client) EndTransaction(h Handle, d Disposition) error {
	l, err := c.linkOf(h)
	if err != nil {
		return err
	}
	m := DispositionMessage{Handle: h, Disposition: d}
	if err := l.call(context.Background(), CmdEndTransaction, &m); err != nil {
		return err
	}
	return m.Result.result()
}

// Transmit exchanges one APDU.
func (c *Client) Transmit(h Handle, protocol Protocol, command []byte, max int) ([]byte, error) {
	l, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	if len(command) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	const pciSize = 16 // sizeof(SCARD_IO_REQUEST)
	m := TransmitMessage{Handle: h, SendProtocol: protocol, SendPCI: pciSize, SendLength: uint32(len(command)),
		RecvProtocol: ProtocolAny, RecvPCI: pciSize, RecvLength: uint32(min(max, MaxBufferExtended))}
	if err := l.exchange(CmdTransmit, &m, command); err != nil {
		return nil, err
	}
	return l.data(m.Result, m.RecvLength)
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

// Control performs a reader command.
func (c *Client) Control(h Handle, code uint32, in []byte, max int) ([]byte, error) {
	l, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	if len(in) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := ControlMessage{Handle: h, Code: code, SendLength: uint32(len(in)), RecvLength: uint32(min(max, MaxBufferExtended))}
	if err := l.exchange(CmdControl, &m, in); err != nil {
		return nil, err
	}
	return l.data(m.Result, m.Returned)
}

// Status tells what is in the reader: the daemon's verdict on the handle, and the reader's state.
func (c *Client) Status(h Handle) (*CardStatus, error) {
	l, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := HandleMessage{Handle: h}
	if err := l.exchange(CmdStatus, &m, nil); err != nil {
		return nil, err
	}
	if m.Result != ErrSuccess {
		return nil, m.Result
	}
	snap, err := l.readStates()
	if err != nil {
		return nil, err
	}
	p := snap.find(l.reader)
	if p == nil {
		return nil, ErrReaderUnavailable
	}
	return &CardStatus{Reader: p.name, State: p.state, EventCounter: uint16(p.counter), ActiveProtocol: p.protocol,
		Atr: p.atr}, nil
}

// GetAttrib reads an attribute.
func (c *Client) GetAttrib(h Handle, id Attrib) ([]byte, error) {
	l, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	m := AttribMessage{Handle: h, ID: id, Length: MaxBuffer}
	if err := l.call(context.Background(), CmdGetAttrib, &m); err != nil {
		return nil, err
	}
	if m.Result != ErrSuccess {
		return nil, m.Result
	}
	return m.Value[:min(m.Length, MaxBuffer)], nil
}

// SetAttrib writes an attribute.
func (c *Client) SetAttrib(h Handle, id Attrib, value []byte) error {
	l, err := c.linkOf(h)
	if err != nil {
		return err
	}
	if len(value) > MaxBuffer {
		return ErrInsufficientBuffer
	}
	m := AttribMessage{Handle: h, ID: id, Length: uint32(len(value))}
	copy(m.Value[:], value)
	if err := l.call(context.Background(), CmdSetAttrib, &m); err != nil {
		return err
	}
	return m.Result.result()
}
