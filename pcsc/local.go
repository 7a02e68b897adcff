package pcsc

import (
	"context"
	"slices"
	"time"
)

// Manager is a Service in the process. The methods here are the functions of PC/SC by their numbers; what they do is in
// connect.go, lock.go, reader.go and statuschange.go.
var _ Service = (*Manager)(nil)

// EstablishContext makes a context.
func (m *Manager) EstablishContext(Scope) (SCardContext, error) {
	c, e := m.establish(context.Background(), nil)
	if e != ErrSuccess {
		return 0, e
	}
	return c.id, nil
}

// ReleaseContext ends a context.
func (m *Manager) ReleaseContext(sc SCardContext) error {
	c, err := m.client(sc)
	if err != nil {
		return err
	}
	m.release(c)
	return nil
}

// IsValidContext is nil for a living context.
func (m *Manager) IsValidContext(sc SCardContext) error {
	_, err := m.client(sc)
	return err
}

// ListReaders names the readers.
func (m *Manager) ListReaders(sc SCardContext) ([]string, error) {
	c, err := m.client(sc)
	if err != nil {
		return nil, err
	}
	m.awaitReaders(c.ctx)
	snap := m.board.look(nil)
	return snap.names()
}

func (s *snapshot) names() ([]string, error) {
	if len(s.readers) == 0 {
		return nil, ErrNoReadersAvailable
	}
	names := make([]string, len(s.readers))
	for i, r := range s.readers {
		names[i] = r.name
	}
	return names, nil
}

// ListReaderGroups names the one group there is.
func (m *Manager) ListReaderGroups(sc SCardContext) ([]string, error) {
	if _, err := m.client(sc); err != nil {
		return nil, err
	}
	return []string{DefaultReaderGroup}, nil
}

// Connect connects to a reader, and to the card in it unless mode is ShareDirect.
func (m *Manager) Connect(ctx context.Context, sc SCardContext, reader string, mode ShareMode, protocols Protocol) (Handle, Protocol, error) {
	c, err := m.client(sc)
	if err != nil {
		return 0, 0, err
	}
	m.awaitReaders(c.ctx)
	ctx, done := c.both(ctx)
	defer done()
	h, active, e := c.connect(ctx, reader, mode, protocols)
	if e != ErrSuccess {
		return 0, 0, e
	}
	return h.id, active, nil
}

// both is a ctx that ends with the caller's and with the context's release.
func (c *client) both(ctx context.Context) (context.Context, func()) {
	if ctx.Done() == nil {
		return c.ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Reconnect takes a connection up again.
func (m *Manager) Reconnect(id Handle, mode ShareMode, protocols Protocol, initialization Disposition) (Protocol, error) {
	h, err := m.lookup(id)
	if err != nil {
		return 0, err
	}
	active, e := h.reconnect(mode, protocols, initialization)
	return active, e.result()
}

// Disconnect ends a connection.
func (m *Manager) Disconnect(ctx context.Context, id Handle, d Disposition) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}
	ctx, done := h.client.both(ctx)
	defer done()
	return h.disconnect(ctx, d).result()
}

// BeginTransaction waits for the transaction lock.
func (m *Manager) BeginTransaction(ctx context.Context, id Handle) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}
	ctx, done := h.client.both(ctx)
	defer done()
	return h.begin(ctx).result()
}

// EndTransaction gives the transaction lock up.
func (m *Manager) EndTransaction(id Handle, d Disposition) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}
	return h.end(d).result()
}

// Transmit exchanges one APDU.
func (m *Manager) Transmit(id Handle, protocol Protocol, command []byte, max int) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	if len(command) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}
	answer, e := h.transmit(protocol, command, nil)
	switch {
	case e != ErrSuccess:
		return nil, e
	case len(answer) > max:
		return nil, ErrInsufficientBuffer
	}
	return answer, nil
}

// Control performs a reader command.
func (m *Manager) Control(id Handle, code uint32, in []byte, max int) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	if len(in) > MaxBufferExtended {
		return nil, ErrInsufficientBuffer
	}
	out, e := h.control(code, in, max)
	return out, e.result()
}

// Status tells what is in the reader.
func (m *Manager) Status(id Handle) (*CardStatus, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	status, e := h.status()
	if e != ErrSuccess {
		return nil, e
	}
	return &status, nil
}

// GetAttrib reads an attribute.
func (m *Manager) GetAttrib(id Handle, attribute Attrib) ([]byte, error) {
	h, err := m.lookup(id)
	if err != nil {
		return nil, err
	}
	value, e := h.getAttrib(attribute)
	return value, e.result()
}

// SetAttrib writes an attribute.
func (m *Manager) SetAttrib(id Handle, attribute Attrib, value []byte) error {
	h, err := m.lookup(id)
	if err != nil {
		return err
	}
	if len(value) > MaxBuffer {
		return ErrInsufficientBuffer
	}
	return h.setAttrib(attribute, slices.Clone(value)).result()
}

// Cancel ends the GetStatusChange that waits on sc now.
func (m *Manager) Cancel(sc SCardContext) error {
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
func (m *Manager) GetStatusChange(ctx context.Context, sc SCardContext, states []ReaderState, timeout time.Duration) error {
	c, err := m.client(sc)
	if err != nil {
		return err
	}
	m.awaitReaders(c.ctx)
	ctx, done := c.both(ctx)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &waiting{m: m, changed: make(chan struct{}, 1), cancel: cancel}
	c.mu.Lock()
	c.waiting = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.waiting == w {
			c.waiting = nil
		}
	}()
	return statusChange(ctx, w, states, timeout, m.now)
}

// waiting is the stateSource of a GetStatusChange in the process.
type waiting struct {
	m       *Manager
	changed chan struct{}
	cancel  context.CancelFunc
}

func (w *waiting) fire() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *waiting) arm(context.Context) (snapshot, error) {
	select {
	case <-w.changed: // of an earlier round
	default:
	}
	return w.m.board.look(w), nil
}

func (w *waiting) disarm() error {
	w.m.board.unwatch(w)
	return nil
}

func (w *waiting) wait(ctx context.Context, d time.Duration) error {
	defer w.m.board.unwatch(w)
	var timeout <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-w.changed:
		return nil
	case <-timeout:
		return ErrTimeout
	case <-ctx.Done():
		return ErrCancelled
	}
}
