package resmgr

import (
	"context"
	"slices"
	"time"

	"pam_pkcs11/pcsc"
)

// Manager is a pcsc.Service in the process. The methods here are the functions of PC/SC
// with contexts and handles by their numbers; what they do is in connect.go, lock.go,
// reader.go and waiting.go.
var _ pcsc.Service = (*Manager)(nil)

// EstablishContext makes a context.
func (m *Manager) EstablishContext(pcsc.Scope) (pcsc.SCardContext, error) {
	c, e := m.Establish(context.Background(), nil)
	if e != pcsc.ErrSuccess {
		return 0, e
	}
	return c.id, nil
}

// ReleaseContext ends a context.
func (m *Manager) ReleaseContext(sc pcsc.SCardContext) error {
	c, err := m.client(sc)
	if err != nil {
		return err
	}
	c.Release()
	return nil
}

// IsValidContext is nil for a living context.
func (m *Manager) IsValidContext(sc pcsc.SCardContext) error {
	_, err := m.client(sc)
	return err
}

// ListReaders names the readers.
func (m *Manager) ListReaders(sc pcsc.SCardContext) ([]string, error) {
	c, err := m.client(sc)
	if err != nil {
		return nil, err
	}
	m.AwaitReaders(c.ctx)
	snap := m.states.snapshot(nil)
	return snap.Names()
}

// ListReaderGroups names the one group there is.
func (m *Manager) ListReaderGroups(sc pcsc.SCardContext) ([]string, error) {
	if _, err := m.client(sc); err != nil {
		return nil, err
	}
	return []string{pcsc.DefaultReaderGroup}, nil
}

// Connect connects to a reader, and to the card in it unless mode is ShareDirect.
func (m *Manager) Connect(
	ctx context.Context, sc pcsc.SCardContext, reader string, mode pcsc.ShareMode,
	protocols pcsc.Protocol,
) (pcsc.Handle, pcsc.Protocol, error) {
	c, err := m.client(sc)
	if err != nil {
		return 0, 0, err
	}
	m.AwaitReaders(c.ctx)

	ctx, done := c.joinContext(ctx)
	defer done()

	h, active, e := c.connect(ctx, reader, mode, protocols)
	if e != pcsc.ErrSuccess {
		return 0, 0, e
	}
	return h.id, active, nil
}

// joinContext returns a context that ends with ctx and with the release of c.
func (c *Client) joinContext(ctx context.Context) (context.Context, func()) {
	if ctx.Done() == nil {
		return c.ctx, func() {}
	}

	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Reconnect takes a connection up again.
func (m *Manager) Reconnect(
	id pcsc.Handle, mode pcsc.ShareMode, protocols pcsc.Protocol, initialization pcsc.Disposition,
) (pcsc.Protocol, error) {
	h, err := m.lookup(id)
	if err != nil {
		return 0, err
	}
	active, e := h.Reconnect(mode, protocols, initialization)
	return active, e.Err()
}

// Disconnect ends a connection.
func (m *Manager) Disconnect(ctx context.Context, id pcsc.Handle, d pcsc.Disposition) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}

	ctx, done := h.client.joinContext(ctx)
	defer done()
	return h.Disconnect(ctx, d).Err()
}

// BeginTransaction waits for the transaction lock.
func (m *Manager) BeginTransaction(ctx context.Context, id pcsc.Handle) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}

	ctx, done := h.client.joinContext(ctx)
	defer done()
	return h.BeginTransaction(ctx).Err()
}

// EndTransaction gives the transaction lock up.
func (m *Manager) EndTransaction(id pcsc.Handle, d pcsc.Disposition) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}
	return h.EndTransaction(d).Err()
}

// Transmit exchanges one APDU.
func (m *Manager) Transmit(
	id pcsc.Handle, protocol pcsc.Protocol, command []byte, max int,
) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	if len(command) > pcsc.MaxBufferExtended {
		return nil, pcsc.ErrInsufficientBuffer
	}

	answer, e := h.Transmit(protocol, command, nil)
	switch {
	case e != pcsc.ErrSuccess:
		return nil, e
	case len(answer) > max:
		return nil, pcsc.ErrInsufficientBuffer
	}
	return answer, nil
}

// Control performs a reader command.
func (m *Manager) Control(id pcsc.Handle, code uint32, in []byte, max int) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	if len(in) > pcsc.MaxBufferExtended {
		return nil, pcsc.ErrInsufficientBuffer
	}

	out, e := h.Control(code, in, max)
	return out, e.Err()
}

// Status returns the reader's state and the card's ATR.
func (m *Manager) Status(id pcsc.Handle) (*pcsc.CardStatus, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}

	status, e := h.Status()
	if e != pcsc.ErrSuccess {
		return nil, e
	}
	return &status, nil
}

// GetAttrib reads an attribute.
func (m *Manager) GetAttrib(id pcsc.Handle, attribute pcsc.Attrib) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	value, e := h.GetAttrib(attribute)
	return value, e.Err()
}

// SetAttrib writes an attribute.
func (m *Manager) SetAttrib(id pcsc.Handle, attribute pcsc.Attrib, value []byte) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}

	if len(value) > pcsc.MaxBuffer {
		return pcsc.ErrInsufficientBuffer
	}

	// A copy, as the driver may keep the value.
	return h.SetAttrib(attribute, slices.Clone(value)).Err()
}

// Cancel ends the GetStatusChange that waits on sc now.
func (m *Manager) Cancel(sc pcsc.SCardContext) error {
	c, err := m.client(sc)
	if err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != nil {
		c.waiting.cancel()
	}
	return nil
}

// GetStatusChange waits for a change of reader states.
func (m *Manager) GetStatusChange(
	ctx context.Context, sc pcsc.SCardContext, states []pcsc.ReaderState, timeout time.Duration,
) error {
	c, err := m.client(sc)
	if err != nil {
		return err
	}
	m.AwaitReaders(c.ctx)

	ctx, done := c.joinContext(ctx)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	w := &waiting{states: m.states, changed: make(chan struct{}, 1), cancel: cancel}
	c.mu.Lock()
	c.waiting = w
	c.mu.Unlock()

	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		// A later call may have taken the place meanwhile: Cancel is for that one.
		if c.waiting == w {
			c.waiting = nil
		}
	}()
	return pcsc.StatusChange(ctx, w, states, timeout, m.now)
}
