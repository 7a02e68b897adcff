package resmgr

import (
	"context"
	"fmt"
	"slices"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/shares"
)

// checkRequest checks the parameters of Connect and Reconnect, before anything else.
func checkRequest(mode pcsc.ShareMode, protocols pcsc.Protocol) pcsc.Error {
	const possible = pcsc.ProtocolAny | pcsc.ProtocolRaw | pcsc.ProtocolAnyOld
	if mode != pcsc.ShareDirect && protocols&possible == 0 {
		return pcsc.ErrProtoMismatch
	}
	if mode < pcsc.ShareExclusive || mode > pcsc.ShareDirect {
		return pcsc.ErrInvalidValue
	}
	return pcsc.ErrSuccess
}

// connect is Connect. The order of checks: parameters, name, reader, exclusive
// user, lock (waits), card.
func (c *Client) connect(
	ctx context.Context, name string, mode pcsc.ShareMode, protocols pcsc.Protocol,
) (*Connection, pcsc.Protocol, pcsc.Error) {
	if e := checkRequest(mode, protocols); e != pcsc.ErrSuccess {
		return nil, 0, e
	}
	r := c.m.reader(name)
	if r == nil {
		return nil, 0, pcsc.ErrUnknownReader
	}

	h := &Connection{r: r, client: c, mode: mode}
	for {
		if e := r.waitUntilFree(ctx, h); e != pcsc.ErrSuccess {
			return nil, 0, e
		}

		r.mu.Lock()
		// Nothing is needed of the driver then, which may be busy with another client's command.
		if mode == pcsc.ShareDirect || r.ready() {
			defer r.mu.Unlock()
			fits := r.protocol&protocols != 0 || protocols&pcsc.ProtocolAnyOld != 0
			if mode != pcsc.ShareDirect && !fits {
				return nil, 0, pcsc.ErrProtoMismatch
			}
			return h.open()
		}
		r.mu.Unlock()

		if active, e, done := h.prepareAndOpen(protocols); done {
			return h, active, e
		}
	}
}

// ready reports whether the card can be used as it is: it is on, and its
// protocol agreed; r.mu is held.
func (r *reader) ready() bool {
	return r.protocol != pcsc.ProtocolUndefined && r.powered && !r.stopped()
}

// prepareAndOpen gets the card ready and opens the handle. done is false when another's transaction
// has begun meanwhile, in which only its owner may touch the card.
func (h *Connection) prepareAndOpen(
	protocols pcsc.Protocol,
) (active pcsc.Protocol, e pcsc.Error, done bool) {
	r := h.r
	if !r.driver.lockFor(h.client.ctx, h.client.onWait) {
		return 0, pcsc.ErrCancelled, true
	}
	defer r.driver.Unlock()

	r.mu.Lock()
	locked := r.owner != nil
	r.mu.Unlock()
	if locked {
		return 0, pcsc.ErrSuccess, false
	}

	e = r.prepare(protocols)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == pcsc.ErrSuccess {
		_, active, e = h.open()
	}
	if e != pcsc.ErrSuccess {
		// The card may have been switched on for this alone.
		r.restartIdle()
	}
	return active, e, true
}

func (m *Manager) reader(name string) *reader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readers[name]
}

// waitUntilFree waits while another handle has the lock.
func (r *reader) waitUntilFree(ctx context.Context, h *Connection) pcsc.Error {
	r.mu.Lock()
	switch {
	case r.gone:
		r.mu.Unlock()
		return pcsc.ErrUnknownReader
	case r.state&pcsc.Unknown != 0:
		r.mu.Unlock()
		return pcsc.ErrReaderUnavailable
	case r.sharing < 0:
		defer r.mu.Unlock()
		return r.sharingViolation(h, "connect")
	case r.owner == nil:
		r.mu.Unlock()
		return pcsc.ErrSuccess
	}

	// waitAndUnlock unlocks r.mu.
	return r.waitAndUnlock(ctx, &lockWait{h: h, result: make(chan pcsc.Error, 1)})
}

// open enters the handle with its reader and its client; r.mu is held.
func (h *Connection) open() (*Connection, pcsc.Protocol, pcsc.Error) {
	r, c := h.r, h.client
	switch {
	case r.gone:
		return nil, 0, pcsc.ErrUnknownReader
	case r.sharing < 0, h.mode == pcsc.ShareExclusive && r.sharing != 0:
		return nil, 0, r.sharingViolation(h, "connect")
	case h.mode == pcsc.ShareExclusive && r.isBarred(c):
		return nil, 0, r.sharingViolation(h, "connect")
	case !r.hasRoom(c):
		c.m.contention.SayLocked(fmt.Sprint("room ", r.name, c.uid()), func(repeated int) {
			r.log().Warn("too many connections to one reader",
				"client", c, "limit", c.m.options.HandlesPerReader, "repeated", repeated)
		})
		return nil, 0, pcsc.ErrNoMemory
	}

	if e := c.m.number(h); e != pcsc.ErrSuccess {
		return nil, 0, e
	}

	r.handles = append(r.handles, h)
	if h.mode == pcsc.ShareExclusive {
		// Exclusive use is a transaction that lasts as long as the connection.
		r.sharing = -1
		r.owner = h
		r.depth = 1
		go r.log().Info("a program has the reader for itself", "client", c)
	} else {
		r.sharing++
	}

	r.stopIdle()
	r.publishSharing()
	return h, r.protocol, pcsc.ErrSuccess
}

// hasRoom reports whether one more connection of a client fits in; r.mu is held.
func (r *reader) hasRoom(c *Client) bool {
	o := &r.m.options
	p := shares.Of(o.HandlesPerReader, o.HandlesPerUser)
	taken := len(r.handles)
	// Nearly always so, and then no connection has to be counted.
	if p.Plenty(taken) {
		return true
	}

	uidOf := func(h *Connection) uint32 { return h.client.uid() }
	users, own := shares.Count(slices.Values(r.handles), uidOf, c.uid())
	if p.Room(c.uid(), taken, users, own) {
		return true
	}
	// The name of the program is read from /proc: last, and only if it matters.
	return c.peer != nil && p.RoomAtLogin(taken, own) && c.peer.AtLogin()
}

// number gives h its number and enters it.
func (m *Manager) number(h *Connection) pcsc.Error {
	c := h.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.released:
		return pcsc.ErrInvalidHandle
	case len(c.handles) >= m.options.HandlesPerClient:
		m.contention.SayLocked(fmt.Sprint("handles ", c.uid()), func(repeated int) {
			m.log.Warn("too many connections of one client",
				"client", c, "limit", m.options.HandlesPerClient, "repeated", repeated)
		})
		return pcsc.ErrNoMemory
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	// Random numbers: one that a program has kept from an earlier connection
	// will hardly be another's.
	for h.id == 0 || m.handles[h.id] != nil {
		n, err := randomNumber()
		if err != nil {
			return pcsc.ErrInternalError
		}
		h.id = pcsc.Handle(n)
	}

	m.handles[h.id] = h
	c.handles[h.id] = h
	return pcsc.ErrSuccess
}

// Reconnect is the Reconnect of pcsc.Service. The order of checks: initialization, parameters,
// reader, lock. An event is no obstacle: this is the call that clears it.
func (h *Connection) Reconnect(
	mode pcsc.ShareMode, protocols pcsc.Protocol, d pcsc.Disposition,
) (pcsc.Protocol, pcsc.Error) {
	if d > pcsc.UnpowerCard {
		return 0, pcsc.ErrInvalidValue
	}
	// The mode is checked before the protocols here, and after them in Connect.
	if mode < pcsc.ShareExclusive || mode > pcsc.ShareDirect {
		return 0, pcsc.ErrInvalidValue
	}
	if e := checkRequest(mode, protocols); e != pcsc.ErrSuccess {
		return 0, e
	}

	if e := h.acquire(h.mayControl); e != pcsc.ErrSuccess {
		return 0, e
	}

	r := h.r
	defer r.driver.Unlock()
	if d != pcsc.LeaveCard {
		if e := r.power(d); e != pcsc.ErrSuccess {
			return 0, e
		}
	}

	if mode != pcsc.ShareDirect {
		if e := h.cardForReconnect(protocols); e != pcsc.ErrSuccess {
			return 0, e
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	// r.mu was free while the card was powered: the handle may have been closed.
	if e := h.alive(); e != pcsc.ErrSuccess {
		return 0, e
	}
	if e := h.changeMode(mode); e != pcsc.ErrSuccess {
		return 0, e
	}

	h.event = pcsc.ErrSuccess
	r.publishSharing()
	return r.protocol, pcsc.ErrSuccess
}

// cardForReconnect gets the card ready for Reconnect; r.driver is held. A card that is mute stays
// so: only a power action could change that.
func (h *Connection) cardForReconnect(protocols pcsc.Protocol) pcsc.Error {
	r := h.r
	r.mu.Lock()
	state := r.state
	r.mu.Unlock()

	switch {
	case state&pcsc.Present == 0:
		return pcsc.ErrNoSmartcard
	case state&pcsc.Swallowed != 0:
		return pcsc.ErrUnresponsiveCard
	}
	return r.prepare(protocols)
}

// changeMode makes h exclusive, or shared again; r.mu is held.
func (h *Connection) changeMode(mode pcsc.ShareMode) pcsc.Error {
	r := h.r
	switch {
	case mode == pcsc.ShareExclusive && r.sharing < 0:
		// The lock was lost with the card that was taken out.
		if r.owner == nil {
			r.owner = h
			r.depth = 1
		}
	case mode == pcsc.ShareExclusive && r.sharing == 1:
		r.sharing = -1
		r.owner = h
		r.depth++
	case mode == pcsc.ShareExclusive:
		return r.sharingViolation(h, "reconnect")
	case r.sharing < 0:
		r.sharing = 1
		if r.owner == h {
			r.unlock()
		}
	}

	h.mode = mode
	return pcsc.ErrSuccess
}

// Disconnect is the Disconnect of pcsc.Service. That the reader has gone is no error.
func (h *Connection) Disconnect(ctx context.Context, d pcsc.Disposition) pcsc.Error {
	if d > pcsc.EjectCard {
		return pcsc.ErrInvalidValue
	}

	r := h.r
	if d != pcsc.LeaveCard {
		if e := h.dispose(ctx, d); e != pcsc.ErrSuccess {
			return e
		}
	}

	c := h.client
	c.mu.Lock()
	delete(c.handles, h.id)
	c.mu.Unlock()

	c.m.mu.Lock()
	delete(c.m.handles, h.id)
	c.m.mu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	// The client was released meanwhile.
	if h.closed {
		return pcsc.ErrInvalidHandle
	}
	h.drop()
	return pcsc.ErrSuccess
}

// dispose waits until the card may be touched and performs the disposition.
func (h *Connection) dispose(ctx context.Context, d pcsc.Disposition) pcsc.Error {
	r := h.r
	for {
		r.mu.Lock()
		if r.gone || r.state&pcsc.Unknown != 0 {
			r.mu.Unlock()
			return pcsc.ErrSuccess
		}
		if r.lockedByOther(h) {
			w := &lockWait{h: h, result: make(chan pcsc.Error, 1)}
			if e := r.waitAndUnlock(ctx, w); e == pcsc.ErrCancelled {
				return e
			}
		} else {
			r.mu.Unlock()
		}

		// The lock may have gone to the next who waits for it: that one must
		// not be disturbed either.
		switch e := h.acquire(h.mayControl); e {
		case pcsc.ErrSuccess:
		case pcsc.ErrSharingViolation:
			continue
		case pcsc.ErrCancelled:
			// The end of the client closes the handle, and resets the card where that is due.
			return e
		default:
			// The card or its reader has gone, and with it what was to be done.
			return pcsc.ErrSuccess
		}
		break
	}

	defer r.driver.Unlock()
	r.mu.Lock()
	present := r.state&pcsc.Present != 0
	r.mu.Unlock()

	// EjectCard leaves the card where it is: no reader of today has a motor.
	switch {
	case !present:
	case d == pcsc.ResetCard:
		r.power(pcsc.ResetCard)
	case d == pcsc.UnpowerCard:
		r.powerOff()
	}
	return pcsc.ErrSuccess
}
