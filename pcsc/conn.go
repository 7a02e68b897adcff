package pcsc

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one client of the server, with a goroutine of its own. While few clients are busy its reads block a thread: the
// round trip of an APDU then costs a third less than through the poller of the runtime. See crowd for the rest.
type conn struct {
	s       *Server
	fd      int
	peer    Peer
	ctx     context.Context
	cancel  context.CancelFunc
	context atomic.Uint32 // the number of client's context, for CANCEL
	counted bool          // has a context that counts; guarded by s.mu

	// The rest but mail belongs to the goroutine.
	minor      int32
	client     *client
	handles    map[Handle]*handle
	in         []byte // read, and not yet used: in[from:to]
	from, to   int
	out        []byte
	announced  int    // number of reader states that SIZE announced
	seen       uint64 // version of the board at the last GET_READERS_STATE, for 4.3
	authorized map[string]bool
	turn       *turn // how it waits in a crowd
	epoch      int64 // of the crowd at the last request

	mail mailbox
}

func newConn(ctx context.Context, s *Server, fd int, peer Peer) *conn {
	c := &conn{s: s, fd: fd, peer: peer, minor: minMinor + 1, handles: map[Handle]*handle{}, in: make([]byte, 2048),
		out: make([]byte, 0, 512)}
	// Not with ctx itself: the end of the service must not be answered as if the client had cancelled, see hangUp.
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.mail.fd = fd
	return c
}

// hangUp makes the goroutine end, whatever it is waiting for.
func (c *conn) hangUp() {
	unix.Shutdown(c.fd, unix.SHUT_RDWR)
	c.cancel()
}

func (c *conn) log() *slog.Logger { return c.s.Logger.With("client", c.peer) }

// errBroken is a connection that is to be closed; with a reason when the client is at fault.
type errBroken struct{ why string }

func (e errBroken) Error() string { return e.why }

func broken(format string, args ...any) error { return errBroken{fmt.Sprintf(format, args...)} }

// serve answers requests until the client goes or breaks a rule.
func (c *conn) serve() {
	defer c.cancel()
	defer c.leave()
	if err := c.authorize(); err != nil {
		c.s.told.say(fmt.Sprint("refused ", c.peer.UID), func(repeated int) {
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

// A connection has a context within helloTime, and one that is refused says within refusalTime what it wanted: nobody
// holds a place by saying nothing.
const (
	helloTime   = 60 * time.Second
	refusalTime = 2 * time.Second
)

// limitReads makes reading end with an error when nothing has come for d; 0 is no limit.
func (c *conn) limitReads(d time.Duration) {
	t := unix.NsecToTimeval(d.Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t); err != nil {
		c.log().Error("time limit of a connection", "err", err)
	}
}

// leave releases what the client left behind.
func (c *conn) leave() {
	c.s.Manager.board.unwatch(c)
	c.mail.close()
	c.dropContext()
	c.endTurns()
}

func (c *conn) dropContext() {
	if c.client == nil {
		return
	}
	c.context.Store(0)
	c.s.Manager.release(c.client)
	c.s.giveContext(c)
	c.client = nil
	clear(c.handles)
}

// need reads until n bytes are there, and gives them without taking them.
func (c *conn) need(n int) ([]byte, error) {
	if len(c.in)-c.from < n {
		if n > len(c.in) {
			grown := make([]byte, n)
			copy(grown, c.in[c.from:c.to])
			c.in = grown
		} else {
			copy(c.in, c.in[c.from:c.to])
		}
		c.from, c.to = 0, c.to-c.from
	}
	for c.to-c.from < n {
		got, err := c.read(c.in[c.to:], c.to > c.from)
		if err != nil || got == 0 {
			return nil, errBroken{}
		}
		c.to += got
	}
	return c.in[c.from : c.from+n], nil
}

func (c *conn) take(n int) {
	if c.from += n; c.from == c.to {
		c.from, c.to = 0, 0
	}
}

// request reads one request and answers it.
func (c *conn) request() error {
	h, err := c.need(headerSize)
	if err != nil {
		return err
	}
	size, command := binary.NativeEndian.Uint32(h), Command(binary.NativeEndian.Uint32(h[4:]))
	want, ok := bodySize(command, c.minor)
	if !ok || uint32(want) != size {
		return broken("command 0x%02X with a body of %d bytes is not one of 4.%d", uint32(command), size, c.minor)
	}
	if _, err = c.need(headerSize + want); err != nil {
		return err
	}
	whole := headerSize + want
	if command == CmdTransmit || command == CmdControl {
		at := headerSize + 12
		if command == CmdControl {
			at = headerSize + 8
		}
		length := binary.NativeEndian.Uint32(c.in[c.from+at:])
		if length > MaxBufferExtended {
			return broken("data of %d bytes", length)
		}
		whole += int(length)
		if _, err = c.need(whole); err != nil {
			return err
		}
	}
	message := c.in[c.from : c.from+whole]
	c.take(whole) // stays as it is until the next need
	body := message[headerSize:]
	if command == CmdTransmit {
		return c.transmit(body)
	}
	return c.dispatch(command, body)
}

func (c *conn) dispatch(command Command, body []byte) error {
	switch command {
	case CmdVersion:
		return c.version(body)
	case CmdEstablishContext:
		return c.establish(body)
	case CmdReleaseContext:
		return c.release(body)
	case CmdConnect:
		return c.connect(body)
	case CmdReconnect:
		return c.reconnect(body)
	case CmdDisconnect, CmdEndTransaction:
		return c.finish(command, body)
	case CmdBeginTransaction, CmdStatus:
		return c.begin(command, body)
	case CmdControl:
		return c.control(body)
	case CmdCancel:
		return c.cancelOther(body)
	case CmdGetAttrib, CmdSetAttrib:
		return c.attrib(command, body)
	}
	return c.readerStates(command)
}

// answer sends b. What the mailbox got meanwhile follows.
func (c *conn) answer(b []byte) error {
	c.mail.begin()
	defer c.mail.end()
	if writeSocket(c.fd, b) != nil {
		return errBroken{}
	}
	return nil
}

func (c *conn) answerMessage(m message) error {
	c.out = encode(c.out[:0], m)
	return c.answer(c.out)
}

func (c *conn) version(body []byte) error {
	var m VersionMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	if m.Major == ProtocolMajor && m.Minor >= minMinor && m.Minor <= maxMinor {
		c.minor, m.Result = m.Minor, ErrSuccess
	} else {
		c.log().Info("protocol version refused", "major", m.Major, "minor", m.Minor)
		m = VersionMessage{Major: ProtocolMajor, Minor: maxMinor, Result: ErrServiceStopped}
	}
	return c.answerMessage(&m)
}

// establish makes the context of this connection; a client may ask again when it has that number already.
func (c *conn) establish(body []byte) error {
	var m EstablishMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	c.dropContext()
	if !c.s.takeContext(c) {
		c.s.tooMany(c, "contexts")
		return broken("")
	}
	client, e := c.s.Manager.establish(c.ctx, &c.peer)
	if e != ErrSuccess {
		c.s.giveContext(c)
		m.Result = e
		return c.answerMessage(&m)
	}
	client.onWait = func() func() {
		if c.turn != nil {
			c.turn.pass() // to who may have the lock
		}
		return c.s.watch.onHangup(c.fd, client.cancel)
	}
	c.client = client
	c.limitReads(0)
	c.context.Store(uint32(client.id))
	m.Context, m.Result = client.id, ErrSuccess
	return c.answerMessage(&m)
}

func (c *conn) release(body []byte) error {
	var m ContextMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	if c.client == nil || c.client.id != m.Context {
		m.Result = ErrInvalidValue
		return c.answerMessage(&m)
	}
	c.dropContext()
	m.Result = ErrSuccess
	return c.answerMessage(&m)
}

func (c *conn) connect(body []byte) error {
	var m ConnectMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	c.s.Manager.awaitReaders(c.ctx)
	name := cString(m.Reader[:])
	switch {
	case c.client == nil || c.client.id != m.Context:
		m.Result = ErrInvalidValue
	case !c.mayUse(name):
		m.Result = ErrSecurityViolation
	default:
		var h *handle
		h, m.Active, m.Result = c.client.connect(c.client.ctx, name, m.Mode, m.Protocols)
		if m.Result == ErrSuccess {
			m.Handle = h.id
			c.handles[h.id] = h
		}
	}
	return c.answerMessage(&m)
}

// handle finds a handle of this connection. Using another's, or an old one, ends the connection.
func (c *conn) handle(id Handle) (*handle, error) {
	if h := c.handles[id]; h != nil {
		return h, nil
	}
	return nil, broken("handle %08X does not belong to the connection", uint32(id))
}

func (c *conn) reconnect(body []byte) error {
	var m ReconnectMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}
	m.Active, m.Result = h.reconnect(m.Mode, m.Protocols, m.Initialization)
	return c.answerMessage(&m)
}

func (c *conn) finish(command Command, body []byte) error {
	var m DispositionMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}
	if command == CmdEndTransaction {
		m.Result = h.end(m.Disposition)
	} else if m.Result = h.disconnect(c.client.ctx, m.Disposition); m.Result == ErrSuccess {
		delete(c.handles, m.Handle)
	}
	return c.answerMessage(&m)
}

func (c *conn) begin(command Command, body []byte) error {
	var m HandleMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}
	if command == CmdStatus {
		_, m.Result = h.status()
	} else {
		m.Result = h.begin(c.client.ctx)
	}
	return c.answerMessage(&m)
}

// transmit works on the bytes of the request themselves: it is the one call whose speed matters. Offsets as in
// TransmitMessage.
func (c *conn) transmit(body []byte) error {
	const size = 32
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(body[at:]) }
	h, err := c.handle(Handle(u32(0)))
	if err != nil {
		return err
	}
	room := u32(24)
	c.out = append(c.out[:0], body[:size]...)
	data, e := h.transmit(Protocol(u32(4)), body[size:], c.out[size:])
	if c.s.TraceAPDUs {
		c.trace(h, body[size:], data, e)
	}
	clear(body[size:]) // may be a PIN
	switch {
	case e != ErrSuccess:
		data = nil
		binary.NativeEndian.PutUint32(c.out[24:], 0)
	case uint32(len(data)) > room:
		e = ErrInsufficientBuffer
		binary.NativeEndian.PutUint32(c.out[24:], uint32(len(data)))
		data = nil
	default:
		binary.NativeEndian.PutUint32(c.out[16:], u32(4))
		binary.NativeEndian.PutUint32(c.out[24:], uint32(len(data)))
	}
	binary.NativeEndian.PutUint32(c.out[28:], uint32(e))
	// Where the driver appended in place this moves nothing.
	c.out = append(c.out, data...)
	return c.answer(c.out)
}

// trace logs what cannot be secret of an exchange: the header of the command and the status of the answer.
func (c *conn) trace(h *handle, command, answer []byte, e Error) {
	status := ""
	if len(answer) >= 2 {
		status = fmt.Sprintf("%X", answer[len(answer)-2:])
	}
	c.log().Info("APDU", "reader", h.r.name, "header", fmt.Sprintf("%X", command[:min(4, len(command))]),
		"bytes", len(command), "sw", status, "answer", len(answer), "result", e.Name())
}

func (c *conn) control(body []byte) error {
	const size = 24
	var m ControlMessage
	if err := decode(&m, body[:size]); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}
	data, e := h.control(m.Code, body[size:], int(min(m.RecvLength, MaxBufferExtended)))
	clear(body[size:]) // may be a PIN block
	m.Returned, m.Result = uint32(len(data)), e
	c.out = append(encode(c.out[:0], &m), data...)
	return c.answer(c.out)
}

func (c *conn) attrib(command Command, body []byte) error {
	var m AttribMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	if m.Length > MaxBuffer {
		return broken("attribute of %d bytes", m.Length)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}
	if command == CmdSetAttrib {
		m.Result = h.setAttrib(m.ID, slices.Clone(m.Value[:m.Length]))
		return c.answerMessage(&m)
	}
	room := m.Length
	value, e := h.getAttrib(m.ID)
	clear(m.Value[:])
	switch {
	case e != ErrSuccess:
		m.Length = 0
	case uint32(len(value)) > room:
		e, m.Length = ErrInsufficientBuffer, uint32(len(value))
	default:
		m.Length = uint32(copy(m.Value[:], value))
	}
	m.Result = e
	return c.answerMessage(&m)
}

// cancelOther ends the wait of the context named, which is another connection's.
func (c *conn) cancelOther(body []byte) error {
	var m ContextMessage
	if err := decode(&m, body); err != nil {
		return broken("%v", err)
	}
	m.Result = ErrInvalidHandle
	if other := c.s.connOf(m.Context, c.peer); other != nil {
		other.cancelWait()
		m.Result = ErrSuccess
	}
	return c.answerMessage(&m)
}

// authorize asks whether the client may use the service at all.
func (c *conn) authorize() error {
	if c.s.Authorizer == nil {
		return nil
	}
	return c.s.Authorizer.Service(c.ctx, c.peer)
}

// mayUse asks whether the client may use a reader; the answer is kept for the connection when it is yes.
func (c *conn) mayUse(reader string) bool {
	if c.s.Authorizer == nil || c.authorized[reader] {
		return true
	}
	if err := c.s.Authorizer.Card(c.ctx, c.peer, reader); err != nil {
		c.s.told.say(fmt.Sprint("reader refused ", c.peer.UID, " ", reader), func(repeated int) {
			c.log().Warn("access to the reader refused", "reader", reader, "err", err, "repeated", repeated)
		})
		return false
	}
	if len(c.authorized) > 256 || c.authorized == nil {
		c.authorized = map[string]bool{}
	}
	c.authorized[reader] = true
	return true
}

// refuse answers the first request, VERSION, with the refusal: the client gives it to its caller as it is.
func (c *conn) refuse() {
	c.limitReads(refusalTime)
	h, err := c.need(headerSize)
	if err != nil || Command(binary.NativeEndian.Uint32(h[4:])) != CmdVersion {
		return
	}
	body, err := c.need(headerSize + 12)
	if err != nil {
		return
	}
	var m VersionMessage
	if decode(&m, body[headerSize:]) == nil {
		m.Result = ErrSecurityViolation
		c.answerMessage(&m)
	}
}

// mailbox is the way of the one message that comes unasked: the end of a wait. It goes out between answers, never inside
// one, and to a client of 4.6 not before it has got the states that it armed itself against.
type mailbox struct {
	fd      int
	mu      sync.Mutex
	armed   bool
	held    bool
	writing bool
	due     bool
	closed  bool
	result  Error
}

// arm expects one message; held keeps it back until release.
func (b *mailbox) arm(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed, b.held, b.due = true, held, false
}

// disarm expects none any more.
func (b *mailbox) disarm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
}

// close ends the mailbox before the descriptor is closed: a change of the board that is being told just now, or a CANCEL,
// would else reach the next client that gets the same descriptor.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed, b.due, b.closed = false, false, true
}

// post sends the message that was expected; others are lost. It never waits.
func (b *mailbox) post(result Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.armed || b.closed {
		return
	}
	b.armed, b.due, b.result = false, true, result
	b.flush()
}

func (b *mailbox) begin() {
	b.mu.Lock()
	b.writing = true
	b.mu.Unlock()
}

func (b *mailbox) end() {
	b.mu.Lock()
	b.writing = false
	b.flush()
	b.mu.Unlock()
}

// release lets a message go that was held back.
func (b *mailbox) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	b.flush()
}

// flush sends what is due; b.mu is held. A client that does not even take eight bytes is cut off.
func (b *mailbox) flush() {
	if !b.due || b.held || b.writing {
		return
	}
	b.due = false
	message := encode(make([]byte, 0, 8), &WaitMessage{Result: b.result})
	if err := unix.Send(b.fd, message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		unix.Shutdown(b.fd, unix.SHUT_RDWR)
	}
}
