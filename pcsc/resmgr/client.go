package resmgr

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/waitfor"
)

// Client is an established context and its handles: what a Manager knows of one program.
type Client struct {
	m      *Manager
	id     pcsc.SCardContext
	peer   *Peer               // nil: this process
	ctx    context.Context     // of its waits
	cancel context.CancelFunc  // ends all waits of the client
	onWait func() (end func()) // called around a wait for a lock, see OnWait; may be nil

	mu       sync.Mutex // guards the fields below; taken after reader.mu
	released bool
	handles  map[pcsc.Handle]*Connection
	waiting  *waiting // the GetStatusChange that runs now, of a client in this process
}

// ID is the number of the context.
func (c *Client) ID() pcsc.SCardContext { return c.id }

// Context ends with the client, or with Cancel.
func (c *Client) Context() context.Context { return c.ctx }

// Cancel ends all waits of the client, now and later: its program is gone.
func (c *Client) Cancel() { c.cancel() }

// OnWait sets begin, which is called before the client waits for another's use of a card; what that
// returns is called afterwards. OnWait is called once, before the client is used.
func (c *Client) OnWait(begin func() (end func())) { c.onWait = begin }

// Connect is pcsc.Service's Connect, whose waits end with the client.
func (c *Client) Connect(
	reader string, mode pcsc.ShareMode, protocols pcsc.Protocol,
) (*Connection, pcsc.Protocol, pcsc.Error) {
	return c.connect(c.ctx, reader, mode, protocols)
}

// LogValue names the client for the log.
func (c *Client) LogValue() slog.Value {
	if c.peer == nil {
		return slog.StringValue("this process")
	}
	return c.peer.LogValue()
}

// Establish makes a context for the program of a peer, or for this process if peer is
// nil. ctx ends its waits.
func (m *Manager) Establish(ctx context.Context, peer *Peer) (*Client, pcsc.Error) {
	c := &Client{m: m, peer: peer, handles: map[pcsc.Handle]*Connection{}}
	c.ctx, c.cancel = context.WithCancel(ctx)

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		c.cancel()
		return nil, pcsc.ErrShutdown
	}

	for c.id == 0 || m.clients[c.id] != nil {
		n, err := randomNumber()
		if err != nil {
			c.cancel()
			return nil, pcsc.ErrInternalError
		}
		c.id = pcsc.SCardContext(n)
	}

	m.clients[c.id] = c
	return c, pcsc.ErrSuccess
}

// randomNumber is a positive number of 31 bits.
func randomNumber() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	// With one bit set it is never 0, which stands for no number.
	return binary.NativeEndian.Uint32(b[:])&0x7FFFFFFF | 0x100, nil
}

// Release ends a context: its waits, its handles. Cards that the client had locked are reset.
func (c *Client) Release() {
	m := c.m

	c.mu.Lock()
	c.released = true
	handles := make([]*Connection, 0, len(c.handles))
	for _, h := range c.handles {
		handles = append(handles, h)
	}
	clear(c.handles)
	c.mu.Unlock()

	// Calls that wait for a lock give up: they must not come before the resets below.
	c.cancel()
	m.mu.Lock()
	delete(m.clients, c.id)
	for _, h := range handles {
		delete(m.handles, h.id)
	}
	m.mu.Unlock()

	if len(handles) == 0 {
		return
	}

	// Each reset has a goroutine: one reader that does not answer must not hold up the others.
	var resets sync.WaitGroup
	for _, h := range handles {
		h.abandon(&resets)
	}
	waitfor.Group(&resets, resetTime)
}

// resetTime is how long a release waits for the reset of cards that were locked, so that the next
// program finds them free; a reader that does not answer is no reason to wait longer.
const resetTime = 2 * time.Second

// abandon is Disconnect for a client that has gone without one. A card that it had locked to
// itself, or had opened with a PIN, is reset; in the second case not before another's
// transaction has ended.
func (h *Connection) abandon(resets *sync.WaitGroup) {
	r := h.r
	r.mu.Lock()
	locked := r.owner == h
	open := r.unlocked.By(h)
	used := locked || open
	present := !r.gone && r.state&pcsc.Present != 0
	// An event is a reset or a removal: nothing that the client did to the card has outlived it.
	if !used || h.event != pcsc.ErrSuccess || !present {
		h.drop()
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()

	r.log().Info("the client is gone: resetting the card that it left behind",
		"client", h.client, "locked", locked, "unlocked by its PIN", open)
	resets.Go(func() {
		if h.awaitLock() {
			h.resetAbandoned(locked)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		h.drop()
	})
}

// resetAbandoned resets the card of a client that is gone; h has the transaction lock. A card that
// the client had not locked to itself may have been locked against its PIN by another meanwhile:
// then there is nothing to reset.
func (h *Connection) resetAbandoned(locked bool) {
	r := h.r
	r.driver.Lock()
	defer r.driver.Unlock()

	r.mu.Lock()
	due := r.owner == h && h.event == pcsc.ErrSuccess && !r.gone && (locked || r.unlocked.By(h))
	r.mu.Unlock()

	if due {
		r.power(pcsc.ResetCard)
	}
}

// awaitLock gives h the transaction lock, once the transaction of another has ended; r.driver is
// not held. It reports whether h has it: not when the card was reset or removed meanwhile, or the
// reader given up.
func (h *Connection) awaitLock() bool {
	r := h.r
	r.mu.Lock()
	if !r.lockedByOther(h) {
		defer r.mu.Unlock()
		// Otherwise h has it already, by its mode or a transaction.
		if r.owner == nil {
			r.owner = h
			r.depth = 1
		}
		return true
	}

	w := &lockWait{h: h, begin: true, result: make(chan pcsc.Error, 1)}
	r.enqueue(w)
	r.mu.Unlock()

	select {
	case e := <-w.result:
		return e == pcsc.ErrSuccess
	case <-r.ctx.Done():
		return false
	}
}
