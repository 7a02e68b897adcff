package pcsc

import (
	"context"
	"net"
	"os"
	"sync"
	"time"

	"pam_pkcs11/pcsc/internal/wire"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/pcscd/pcscd.comm"

// socketVariable is the environment variable that names another socket to libpcsclite, and to
// EstablishContext.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// EstablishContext makes a context with the daemon of this machine.
func EstablishContext() (*Context, error) {
	path := os.Getenv(socketVariable)
	if path == "" {
		path = DefaultSocket
	}
	return NewContext(NewClient(path))
}

// Client is a Service over the socket of a daemon, ours or pcscd of any version from 1.8.24
// (protocol 4.4). Each context is a connection. A broken connection, or a daemon that was
// restarted, is ErrCommError: the context is then lost, and a new one can be established.
type Client struct {
	path     string
	connects func() (net.Conn, error) // nil: to path

	mu       sync.Mutex // guards the fields below
	contexts map[SCardContext]*link
	handles  map[Handle]connection
}

// connection is where a handle belongs.
type connection struct {
	link   *link
	reader string
}

var _ Service = (*Client)(nil)

// NewClient makes a client for the socket at path. Nothing is connected yet.
func NewClient(path string) *Client {
	return &Client{path: path, contexts: map[SCardContext]*link{}, handles: map[Handle]connection{}}
}

// WithDial has dial make every connection of the client, in place of one to the path. It can refuse
// a daemon before a byte is sent to it, and bounds its own waits; EstablishContext returns its
// errors as they are. It is called before the client is used, and returns c.
func (c *Client) WithDial(dial func() (net.Conn, error)) *Client {
	c.connects = dial
	return c
}

// connectPath connects to the path.
func (c *Client) connectPath() (net.Conn, error) {
	conn, err := connect(c.path, time.Now().Add(handshakeTime))
	if err != nil {
		return nil, ErrNoService
	}
	return conn, nil
}

// EstablishContext connects to the daemon.
func (c *Client) EstablishContext(scope Scope) (SCardContext, error) {
	l, err := c.dial()
	if err != nil {
		return 0, err
	}
	if err := l.establish(scope); err != nil {
		return 0, err
	}

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

// linkOf finds the connection of a handle, and the handle's reader.
func (c *Client) linkOf(h Handle) (l *link, reader string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of, known := c.handles[h]; known {
		return of.link, of.reader, nil
	}
	return nil, "", ErrInvalidHandle
}

// ReleaseContext ends a context and its connection.
func (c *Client) ReleaseContext(sc SCardContext) error {
	l, err := c.link(sc)
	if err != nil {
		return err
	}

	// From here on no new call finds the context or one of its handles.
	c.mu.Lock()
	delete(c.contexts, sc)
	for h, of := range c.handles {
		if of.link == l {
			delete(c.handles, h)
		}
	}
	c.mu.Unlock()

	// A GetStatusChange holds l.mu for as long as it waits: unless it is cancelled, the call below
	// would have to wait for it.
	l.waitMu.Lock()
	l.ended = true
	waiting := l.waiting
	l.waitMu.Unlock()
	if waiting {
		l.cancel()
	}

	m := wire.ContextMessage{Context: uint32(sc)}
	if err := call(context.Background(), l, wire.CmdReleaseContext, &m); err != nil {
		return err
	}
	l.conn.Close()
	return Error(m.Result).Err()
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
	return snap.Names()
}

// ListReaderGroups names the one group there is.
func (c *Client) ListReaderGroups(sc SCardContext) ([]string, error) {
	if _, err := c.link(sc); err != nil {
		return nil, err
	}
	return []string{DefaultReaderGroup}, nil
}

// Connect connects to a reader. When ctx ends before the daemon has answered the
// whole context is lost.
func (c *Client) Connect(
	ctx context.Context, sc SCardContext, reader string, mode ShareMode, protocols Protocol,
) (Handle, Protocol, error) {
	l, err := c.link(sc)
	if err != nil {
		return 0, 0, err
	}
	// The field has room for the name and its NUL.
	if len(reader) >= MaxReaderName {
		return 0, 0, ErrInvalidValue
	}
	m := wire.ConnectMessage{Context: uint32(sc), Mode: uint32(mode), Protocols: uint32(protocols)}
	copy(m.Reader[:], reader)
	if err := call(ctx, l, wire.CmdConnect, &m); err != nil {
		return 0, 0, err
	}
	if m.Result != 0 {
		return 0, 0, Error(m.Result)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	h := Handle(m.Handle)
	c.handles[h] = connection{link: l, reader: reader}
	return h, Protocol(m.Active), nil
}

// Reconnect takes a connection up again.
func (c *Client) Reconnect(
	h Handle, mode ShareMode, protocols Protocol, initialization Disposition,
) (Protocol, error) {
	l, _, err := c.linkOf(h)
	if err != nil {
		return 0, err
	}

	m := wire.ReconnectMessage{
		Handle:         uint32(h),
		Mode:           uint32(mode),
		Protocols:      uint32(protocols),
		Initialization: uint32(initialization),
	}
	if err := call(context.Background(), l, wire.CmdReconnect, &m); err != nil {
		return 0, err
	}
	return Protocol(m.Active), Error(m.Result).Err()
}

// Disconnect ends a connection.
func (c *Client) Disconnect(ctx context.Context, h Handle, d Disposition) error {
	l, _, err := c.linkOf(h)
	if err != nil {
		return err
	}

	m := wire.DispositionMessage{Handle: uint32(h), Disposition: uint32(d)}
	if err := call(ctx, l, wire.CmdDisconnect, &m); err != nil {
		return err
	}

	// A handle whose Disconnect was refused can still be used, and ended later.
	if m.Result == 0 {
		c.mu.Lock()
		delete(c.handles, h)
		c.mu.Unlock()
	}
	return Error(m.Result).Err()
}

// BeginTransaction waits for the transaction lock. A daemon that does not queue (pcscd) is asked
// again and again.
func (c *Client) BeginTransaction(ctx context.Context, h Handle) error {
	l, _, err := c.linkOf(h)
	if err != nil {
		return err
	}

	for {
		m := wire.HandleMessage{Handle: uint32(h)}
		if err := call(ctx, l, wire.CmdBeginTransaction, &m); err != nil {
			return err
		}
		if Error(m.Result) != ErrSharingViolation {
			return Error(m.Result).Err()
		}

		// pcscd has no queue: after the end of a transaction the reader is free
		// for whoever asks first.
		select {
		case <-ctx.Done():
			return ErrCancelled
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// EndTransaction gives the transaction lock up.
func (c *Client) EndTransaction(h Handle, d Disposition) error {
	l, _, err := c.linkOf(h)
	if err != nil {
		return err
	}

	m := wire.DispositionMessage{Handle: uint32(h), Disposition: uint32(d)}
	if err := call(context.Background(), l, wire.CmdEndTransaction, &m); err != nil {
		return err
	}
	return Error(m.Result).Err()
}

// Transmit exchanges one APDU.
func (c *Client) Transmit(h Handle, protocol Protocol, command []byte, max int) ([]byte, error) {
	l, _, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	if len(command) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	// The PCI for the answer is what libpcsclite sends for a caller without one.
	const pciSize = 16 // sizeof(SCARD_IO_REQUEST)
	m := wire.TransmitMessage{
		Handle:       uint32(h),
		SendProtocol: uint32(protocol),
		SendPCI:      pciSize,
		SendLength:   uint32(len(command)),
		RecvProtocol: uint32(ProtocolAny),
		RecvPCI:      pciSize,
		RecvLength:   uint32(min(max, MaxBufferExtended)),
	}

	if err := exchange(l, wire.CmdTransmit, &m, command); err != nil {
		return nil, err
	}
	return l.data(Error(m.Result), m.RecvLength)
}

// Control performs a reader command.
func (c *Client) Control(h Handle, code uint32, in []byte, max int) ([]byte, error) {
	l, _, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}
	if len(in) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	m := wire.ControlMessage{
		Handle:     uint32(h),
		Code:       code,
		SendLength: uint32(len(in)),
		RecvLength: uint32(min(max, MaxBufferExtended)),
	}

	if err := exchange(l, wire.CmdControl, &m, in); err != nil {
		return nil, err
	}
	return l.data(Error(m.Result), m.Returned)
}

// Status returns the reader's state, if the daemon says that the handle is still good.
func (c *Client) Status(h Handle) (*CardStatus, error) {
	l, reader, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	// The answer to STATUS says only whether the handle is good. What SCardStatus returns beside
	// that is in the reader states.
	m := wire.HandleMessage{Handle: uint32(h)}
	if err := exchange(l, wire.CmdStatus, &m, nil); err != nil {
		return nil, err
	}
	if m.Result != 0 {
		return nil, Error(m.Result)
	}

	snap, err := l.readStates()
	if err != nil {
		return nil, err
	}

	p := snap.find(reader)
	if p == nil {
		return nil, ErrReaderUnavailable
	}

	return &CardStatus{
		Reader:         p.Name,
		State:          p.State,
		EventCounter:   uint16(p.EventCounter),
		ActiveProtocol: p.Protocol,
		ATR:            p.ATR,
	}, nil
}

// GetAttrib reads an attribute.
func (c *Client) GetAttrib(h Handle, id Attrib) ([]byte, error) {
	l, _, err := c.linkOf(h)
	if err != nil {
		return nil, err
	}

	m := wire.AttribMessage{Handle: uint32(h), ID: uint32(id), Length: MaxBuffer}
	if err := call(context.Background(), l, wire.CmdGetAttrib, &m); err != nil {
		return nil, err
	}

	if m.Result != 0 {
		return nil, Error(m.Result)
	}
	return m.Value[:min(m.Length, MaxBuffer)], nil
}

// SetAttrib writes an attribute.
func (c *Client) SetAttrib(h Handle, id Attrib, value []byte) error {
	l, _, err := c.linkOf(h)
	if err != nil {
		return err
	}
	if len(value) > MaxBuffer {
		return ErrInsufficientBuffer
	}

	m := wire.AttribMessage{Handle: uint32(h), ID: uint32(id), Length: uint32(len(value))}
	copy(m.Value[:], value)

	if err := call(context.Background(), l, wire.CmdSetAttrib, &m); err != nil {
		return err
	}
	return Error(m.Result).Err()
}
