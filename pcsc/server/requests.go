package server

import (
	"fmt"
	"slices"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
	"pam_pkcs11/pcsc/resmgr"
)

// version agrees on the protocol's version. A client that is refused is told
// ours, and may ask again.
func (c *conn) version(body []byte) error {
	var m wire.VersionMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	if m.Major == wire.Major && m.Minor >= wire.MinMinor && m.Minor <= wire.MaxMinor {
		c.minor = m.Minor
		m.Result = uint32(pcsc.ErrSuccess)
	} else {
		c.log().Info("protocol version refused", "major", m.Major, "minor", m.Minor)
		m = wire.VersionMessage{
			Major:  wire.Major,
			Minor:  wire.MaxMinor,
			Result: uint32(pcsc.ErrServiceStopped),
		}
	}
	return answerMessage(c, &m)
}

// establish makes the context of this connection; a client may ask again when it
// has that number already.
func (c *conn) establish(body []byte) error {
	var m wire.EstablishMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	c.dropContext()
	if !c.s.takeContext(c) {
		c.s.tooMany(c, "contexts")
		return broken("")
	}

	client, e := c.s.Manager.Establish(c.ctx, &c.peer)
	if e != pcsc.ErrSuccess {
		c.s.giveContext(c)
		m.Result = uint32(e)
		return answerMessage(c, &m)
	}

	client.OnWait(func() (end func()) {
		// The holder of the lock may be a client that waits for this slot.
		c.stream.Yield()
		return c.stream.OnHangup(client.Cancel)
	})
	c.client = client

	// From now on the client may be silent for as long as it likes.
	c.limitReads(0)
	m.Context = uint32(client.ID())
	m.Result = uint32(pcsc.ErrSuccess)
	// CANCEL looks for the number, from another connection's goroutine.
	c.context.Store(m.Context)
	return answerMessage(c, &m)
}

func (c *conn) release(body []byte) error {
	var m wire.ContextMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	if c.client == nil || uint32(c.client.ID()) != m.Context {
		m.Result = uint32(pcsc.ErrInvalidValue)
		return answerMessage(c, &m)
	}

	c.dropContext()
	m.Result = uint32(pcsc.ErrSuccess)
	return answerMessage(c, &m)
}

func (c *conn) connect(body []byte) error {
	var m wire.ConnectMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	// The client may be the one that the daemon was started for, and knows its reader's name.
	c.s.Manager.AwaitReaders(c.ctx)

	name := wire.Text(m.Reader[:])
	switch {
	case c.client == nil || uint32(c.client.ID()) != m.Context:
		m.Result = uint32(pcsc.ErrInvalidValue)
	case !c.mayUse(name):
		m.Result = uint32(pcsc.ErrSecurityViolation)
	default:
		h, active, e := c.client.Connect(name, pcsc.ShareMode(m.Mode), pcsc.Protocol(m.Protocols))
		m.Active = uint32(active)
		m.Result = uint32(e)
		if e == pcsc.ErrSuccess {
			m.Handle = uint32(h.ID())
			c.handles[h.ID()] = h
		}
	}
	return answerMessage(c, &m)
}

// handle finds a handle of this connection. Using another's, or an old one, ends the connection.
func (c *conn) handle(id uint32) (*resmgr.Connection, error) {
	if h := c.handles[pcsc.Handle(id)]; h != nil {
		return h, nil
	}
	return nil, broken("handle %08X does not belong to the connection", id)
}

func (c *conn) reconnect(body []byte) error {
	var m wire.ReconnectMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	active, e := h.Reconnect(
		pcsc.ShareMode(m.Mode), pcsc.Protocol(m.Protocols), pcsc.Disposition(m.Initialization))
	m.Active = uint32(active)
	m.Result = uint32(e)
	return answerMessage(c, &m)
}

// finish answers END_TRANSACTION and DISCONNECT.
func (c *conn) finish(command wire.Command, body []byte) error {
	var m wire.DispositionMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	var e pcsc.Error
	// A handle of this connection has a context: dropContext takes both away.
	if d := pcsc.Disposition(m.Disposition); command == wire.CmdEndTransaction {
		e = h.EndTransaction(d)
	} else if e = h.Disconnect(c.client.Context(), d); e == pcsc.ErrSuccess {
		delete(c.handles, h.ID())
	}

	m.Result = uint32(e)
	return answerMessage(c, &m)
}

// begin answers BEGIN_TRANSACTION and STATUS.
func (c *conn) begin(command wire.Command, body []byte) error {
	var m wire.HandleMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	var e pcsc.Error
	if command == wire.CmdStatus {
		_, e = h.Status()
	} else {
		e = h.BeginTransaction(c.client.Context())
	}

	m.Result = uint32(e)
	return answerMessage(c, &m)
}

// transmit is the one call whose speed matters: the driver appends its answer where it is sent
// from, behind the message.
func (c *conn) transmit(body, command []byte) error {
	var m wire.TransmitMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}
	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	c.out = wire.Append(c.out[:0], &m)
	data, e := h.Transmit(pcsc.Protocol(m.SendProtocol), command, c.out[len(c.out):])
	if c.s.TraceAPDUs {
		c.trace(h, command, data, e)
	}
	// It may have a PIN, and the buffer lives as long as the connection.
	clear(command)

	room := m.RecvLength
	m.RecvLength = uint32(len(data))
	switch {
	case e != pcsc.ErrSuccess:
		data = nil
		m.RecvLength = 0
	case m.RecvLength > room:
		// The length stays: it is the room that the client would need.
		data = nil
		e = pcsc.ErrInsufficientBuffer
	default:
		m.RecvProtocol = m.SendProtocol
	}

	m.Result = uint32(e)
	wire.Put(c.out, &m)
	// Where the driver has appended in place, the answer is there already.
	c.out = append(c.out, data...)
	return c.answer(c.out)
}

// trace logs what cannot be secret of an exchange: the header of the command and
// the status of the answer.
func (c *conn) trace(h *resmgr.Connection, command, answer []byte, e pcsc.Error) {
	status := ""
	if len(answer) >= 2 {
		status = fmt.Sprintf("%X", answer[len(answer)-2:])
	}

	header := fmt.Sprintf("%X", command[:min(4, len(command))])
	c.log().Info("APDU", "reader", h.Reader(), "header", header, "bytes", len(command),
		"sw", status, "answer", len(answer), "result", e.Name())
}

func (c *conn) control(body, in []byte) error {
	var m wire.ControlMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	data, e := h.Control(m.Code, in, int(min(m.RecvLength, pcsc.MaxBufferExtended)))
	// It may be a PIN block.
	clear(in)

	m.Returned = uint32(len(data))
	m.Result = uint32(e)
	c.out = append(wire.Append(c.out[:0], &m), data...)
	return c.answer(c.out)
}

// attrib answers GET_ATTRIB and SET_ATTRIB.
func (c *conn) attrib(command wire.Command, body []byte) error {
	var m wire.AttribMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}
	if m.Length > pcsc.MaxBuffer {
		return broken("attribute of %d bytes", m.Length)
	}

	h, err := c.handle(m.Handle)
	if err != nil {
		return err
	}

	if command == wire.CmdSetAttrib {
		m.Result = uint32(h.SetAttrib(pcsc.Attrib(m.ID), slices.Clone(m.Value[:m.Length])))
		return answerMessage(c, &m)
	}

	room := m.Length
	value, e := h.GetAttrib(pcsc.Attrib(m.ID))
	// The message goes back whole, and without what the request had in it.
	clear(m.Value[:])
	switch {
	case e != pcsc.ErrSuccess:
		m.Length = 0
	case uint32(len(value)) > room:
		e = pcsc.ErrInsufficientBuffer
		m.Length = uint32(len(value))
	default:
		m.Length = uint32(copy(m.Value[:], value))
	}

	m.Result = uint32(e)
	return answerMessage(c, &m)
}

// cancelOther ends the wait of the named context, which belongs to another connection.
func (c *conn) cancelOther(body []byte) error {
	var m wire.ContextMessage
	if err := wire.Decode(&m, body); err != nil {
		return broken("%v", err)
	}

	m.Result = uint32(pcsc.ErrInvalidHandle)
	if other := c.s.connOf(pcsc.SCardContext(m.Context), c.peer); other != nil {
		other.cancelWait()
		m.Result = uint32(pcsc.ErrSuccess)
	}
	return answerMessage(c, &m)
}
