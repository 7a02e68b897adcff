package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/schedule"
	"pam_pkcs11/pcsc/internal/wire"
	"pam_pkcs11/pcsc/resmgr"
)

// conn is the connection of one client, which has a goroutine of its own.
type conn struct {
	s       *Server
	fd      int // of stream
	stream  schedule.Conn
	peer    resmgr.Peer
	ctx     context.Context
	cancel  context.CancelFunc
	context atomic.Uint32 // number of the client's context, for CANCEL
	counted bool          // has a context that counts; guarded by s.mu
	mail    mailbox

	// Owned by the connection's goroutine; not guarded.
	minor      int32
	client     *resmgr.Client
	handles    map[pcsc.Handle]*resmgr.Connection
	in         []byte // read, and not yet used: in[from:to]
	from, to   int
	out        []byte
	announced  int    // number of reader states that SIZE announced
	seen       uint64 // version of the reader states at the last GET_READERS_STATE, for 4.3
	authorized map[string]bool
}

func newConn(ctx context.Context, s *Server, stream schedule.Conn, fd int, peer resmgr.Peer) *conn {
	c := &conn{
		s:       s,
		fd:      fd,
		stream:  stream,
		peer:    peer,
		minor:   wire.MinMinor + 1,
		handles: map[pcsc.Handle]*resmgr.Connection{},
		in:      make([]byte, 2048),
		out:     make([]byte, 0, 512),
		mail:    mailbox{fd: fd},
	}
	// Not with ctx itself: the end of the service must not be answered as if the client had
	// cancelled, see hangUp.
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

// hangUp makes the goroutine end, whatever it is waiting for.
func (c *conn) hangUp() {
	unix.Shutdown(c.fd, unix.SHUT_RDWR)
	c.cancel()
}

func (c *conn) log() *slog.Logger { return c.s.Logger.With("client", c.peer) }

// errBroken ends a connection; why is set when the client is at fault.
type errBroken struct{ why string }

func (e errBroken) Error() string { return e.why }

func broken(format string, args ...any) error { return errBroken{fmt.Sprintf(format, args...)} }

// serve answers requests until the client goes or breaks a rule.
func (c *conn) serve() {
	defer c.cancel()
	defer c.leave()

	if err := c.authorize(); err != nil {
		c.s.refusals.Say(fmt.Sprint("refused ", c.peer.UID), func(repeated int) {
			c.log().Warn("access refused", "err", err, "repeated", repeated)
		})
		c.refuse()
		return
	}

	if !c.s.welcome(c) {
		return
	}

	c.limitReads(helloTime)
	for {
		if err := c.request(); err != nil {
			if err, ok := err.(errBroken); ok && err.why != "" {
				c.log().Info("closing the connection", "err", err)
			}
			return
		}
	}
}

// A connection has to make a context within helloTime, and one that is refused has to send its
// first request within refusalTime: nobody keeps a place by saying nothing.
const (
	helloTime   = 60 * time.Second
	refusalTime = 2 * time.Second
)

// limitReads makes reading end with an error when nothing has come for d; 0 is no limit.
func (c *conn) limitReads(d time.Duration) {
	if err := c.stream.LimitReads(d); err != nil {
		c.log().Error("time limit of a connection", "err", err)
	}
}

// leave releases what the client left behind.
func (c *conn) leave() {
	// Release may wait for a card: from here on nothing is sent to a client that has gone.
	c.s.Manager.States().Unwatch(c)
	c.mail.close()
	c.dropContext()
}

// dropContext releases the client's context with its handles, if it has one.
func (c *conn) dropContext() {
	if c.client == nil {
		return
	}

	c.context.Store(0)
	c.client.Release()
	c.s.giveContext(c)
	c.client = nil
	clear(c.handles)
}

// peek reads until n bytes are there, and returns them without consuming them.
func (c *conn) peek(n int) ([]byte, error) {
	// No room behind from: what is unread moves to the front, or into a larger buffer.
	if len(c.in)-c.from < n {
		if n > len(c.in) {
			grown := make([]byte, n)
			copy(grown, c.in[c.from:c.to])
			clear(c.in)
			c.in = grown
		} else {
			// What was moved may be the beginning of a command with a PIN: no copy of it stays.
			kept := copy(c.in, c.in[c.from:c.to])
			clear(c.in[kept:c.to])
		}
		c.from, c.to = 0, c.to-c.from
	}

	for c.to-c.from < n {
		got, err := c.stream.Read(c.in[c.to:], c.to > c.from)
		if err != nil || got == 0 {
			return nil, errBroken{}
		}
		c.to += got
	}

	return c.in[c.from : c.from+n], nil
}

// discard consumes n bytes that peek has returned.
func (c *conn) discard(n int) {
	if c.from += n; c.from == c.to {
		c.from, c.to = 0, 0
	}
}

// request reads one request and answers it.
func (c *conn) request() error {
	head, err := c.peek(wire.Size[wire.Header]())
	if err != nil {
		return err
	}

	var h wire.Header
	if err := wire.Decode(&h, head); err != nil {
		return broken("%v", err)
	}

	size, ok := wire.BodySize(h.Command, c.minor)
	// Nothing in the stream marks where a request begins: a client that is out of
	// step cannot be served on.
	if !ok || uint32(size) != h.Size {
		return broken("command 0x%02X with a body of %d bytes is not one of 4.%d",
			uint32(h.Command), h.Size, c.minor)
	}

	whole := len(head) + size
	message, err := c.peek(whole)
	if err != nil {
		return err
	}

	length := wire.DataLength(h.Command, message[len(head):])
	// The bound comes before the buffer: the length is the client's.
	if length > pcsc.MaxBufferExtended {
		return broken("data of %d bytes", length)
	}
	if length > 0 {
		whole += int(length)
		if message, err = c.peek(whole); err != nil {
			return err
		}
	}

	// The bytes stay as they are until the next peek.
	c.discard(whole)
	body, data := message[len(head):][:size], message[len(head)+size:]
	return c.dispatch(h.Command, body, data)
}

// dispatch answers one request.
func (c *conn) dispatch(command wire.Command, body, data []byte) error {
	switch command {
	case wire.CmdTransmit:
		return c.transmit(body, data)
	case wire.CmdVersion:
		return c.version(body)
	case wire.CmdEstablishContext:
		return c.establish(body)
	case wire.CmdReleaseContext:
		return c.release(body)
	case wire.CmdConnect:
		return c.connect(body)
	case wire.CmdReconnect:
		return c.reconnect(body)
	case wire.CmdDisconnect, wire.CmdEndTransaction:
		return c.finish(command, body)
	case wire.CmdBeginTransaction, wire.CmdStatus:
		return c.begin(command, body)
	case wire.CmdControl:
		return c.control(body, data)
	case wire.CmdCancel:
		return c.cancelOther(body)
	case wire.CmdGetAttrib, wire.CmdSetAttrib:
		return c.attrib(command, body)
	}
	return c.readerStates(command)
}

// answer sends b. A message that reaches the mailbox meanwhile is sent behind it.
func (c *conn) answer(b []byte) error {
	c.mail.begin()
	defer c.mail.end()
	if c.stream.Write(b) != nil {
		return errBroken{}
	}
	return nil
}

// answerMessage sends m.
func answerMessage[M wire.Message](c *conn, m *M) error {
	c.out = wire.Append(c.out[:0], m)
	return c.answer(c.out)
}

// authorize returns an error unless the client may use the service at all.
func (c *conn) authorize() error {
	if c.s.Authorizer == nil {
		return nil
	}
	return c.s.Authorizer.Service(c.ctx, c.peer)
}

// mayUse reports whether the client may use a reader. A yes is kept for as long
// as the connection lives.
func (c *conn) mayUse(reader string) bool {
	if c.s.Authorizer == nil || c.authorized[reader] {
		return true
	}

	if err := c.s.Authorizer.Card(c.ctx, c.peer, reader); err != nil {
		key := fmt.Sprint("reader refused ", c.peer.UID, " ", reader)
		c.s.refusals.Say(key, func(repeated int) {
			c.log().Warn("access to the reader refused",
				"reader", reader, "err", err, "repeated", repeated)
		})
		return false
	}

	// A bound for clients that stay and see many readers come and go.
	if len(c.authorized) > 256 || c.authorized == nil {
		c.authorized = map[string]bool{}
	}
	c.authorized[reader] = true
	return true
}

// refuse answers the first request, VERSION, with the refusal, which libpcsclite returns to its
// caller as it is.
func (c *conn) refuse() {
	c.limitReads(refusalTime)
	size := wire.Size[wire.Header]()
	head, err := c.peek(size)
	if err != nil {
		return
	}

	var h wire.Header
	if wire.Decode(&h, head) != nil || h.Command != wire.CmdVersion {
		return
	}

	body, err := c.peek(size + wire.Size[wire.VersionMessage]())
	if err != nil {
		return
	}

	var m wire.VersionMessage
	if wire.Decode(&m, body[size:]) == nil {
		m.Result = uint32(pcsc.ErrSecurityViolation)
		answerMessage(c, &m)
	}
}
