package pcsc

import (
	"context"
	"fmt"
	"slices"
)

// checkRequest is what Connect and Reconnect ask of their parameters, before anything else.
func checkRequest(mode ShareMode, protocols Protocol) Error {
	if mode != ShareDirect && protocols&(ProtocolAny|ProtocolRaw|ProtocolAnyOld) == 0 {
		return ErrProtoMismatch
	}
	if mode < ShareExclusive || mode > ShareDirect {
		return ErrInvalidValue
	}
	return ErrSuccess
}

// connect is Connect. The order of checks: parameters, name, reader, exclusive user, lock (waits), card.
func (c *client) connect(ctx context.Context, name string, mode ShareMode, protocols Protocol) (*handle, Protocol, Error) {
	if e := checkRequest(mode, protocols); e != ErrSuccess {
		return nil, 0, e
	}
	r := c.m.reader(name)
	if r == nil {
		return nil, 0, ErrUnknownReader
	}
	h := &handle{r: r, client: c, mode: mode}
	for {
		if e := r.waitUntilFree(ctx, h); e != ErrSuccess {
			return nil, 0, e
		}
		r.mu.Lock()
		// A card that is ready needs nothing of the driver, which may be busy with another client's command.
		if mode == ShareDirect || r.protocol != ProtocolUndefined && r.powered && !r.stopped() {
			defer r.mu.Unlock()
			if mode != ShareDirect && r.protocol&protocols == 0 && protocols&ProtocolAnyOld == 0 {
				return nil, 0, ErrProtoMismatch
			}
			return h.open()
		}
		r.mu.Unlock()
		if active, e, done := h.prepareAndOpen(protocols); done {
			return h, active, e
		}
	}
}

// prepareAndOpen gets the card ready and opens the handle. done is false when somebody's transaction has begun
// meanwhile, in which nobody else may touch the card.
func (h *handle) prepareAndOpen(protocols Protocol) (active Protocol, e Error, done bool) {
	r := h.r
	if !r.driver.lockFor(h.client) {
		return 0, ErrCancelled, true
	}
	defer r.driver.Unlock()
	r.mu.Lock()
	locked := r.owner != nil
	r.mu.Unlock()
	if locked {
		return 0, ErrSuccess, false
	}
	e = r.prepare(protocols)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == ErrSuccess {
		_, active, e = h.open()
	}
	if e != ErrSuccess {
		r.restartIdle() // it may have been switched on for nothing
	}
	return active, e, true
}

func (m *Manager) reader(name string) *reader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readers[name]
}

// waitUntilFree waits while another handle has the lock.
func (r *reader) waitUntilFree(ctx context.Context, h *handle) Error {
	r.mu.Lock()
	switch {
	case r.gone:
		r.mu.Unlock()
		return ErrUnknownReader
	case r.state&Unknown != 0:
		r.mu.Unlock()
		return ErrReaderUnavailable
	case r.sharing < 0:
		defer r.mu.Unlock()
		return r.taken(h, "connect")
	case r.owner == nil:
		r.mu.Unlock()
		return ErrSuccess
	}
	return r.waitAndUnlock(ctx, &lockWait{h: h, result: make(chan Error, 1)})
}

// open registers the handle with its reader and its client; r.mu is held.
func (h *handle) open() (*handle, Protocol, Error) {
	r, c := h.r, h.client
	switch {
	case r.gone:
		return nil, 0, ErrUnknownReader
	case r.sharing < 0, h.mode == ShareExclusive && r.sharing != 0:
		return nil, 0, r.taken(h, "connect")
	case h.mode == ShareExclusive && r.isBarred(c):
		return nil, 0, r.taken(h, "connect")
	case !r.hasRoom(c):
		c.m.told.sayLocked(fmt.Sprint("room ", r.name, c.uid()), func(repeated int) {
			r.log().Warn("too many connections to one reader", "client", c, "limit", c.m.options.HandlesPerReader,
				"repeated", repeated)
		})
		return nil, 0, ErrNoMemory
	}
	if e := c.m.number(h); e != ErrSuccess {
		return nil, 0, e
	}
	r.handles = append(r.handles, h)
	if h.mode == ShareExclusive {
		r.sharing, r.owner, r.depth = -1, h, 1
		go r.log().Info("a program has the reader for itself", "client", c)
	} else {
		r.sharing++
	}
	r.stopIdle()
	r.publishSharing()
	return h, r.protocol, ErrSuccess
}

// hasRoom reports whether one more connection of a client fits in; r.mu is held.
func (r *reader) hasRoom(c *client) bool {
	o := &r.m.options
	p := share(o.HandlesPerReader, o.HandlesPerUser)
	taken := len(r.handles)
	if p.plenty(taken) {
		return true
	}
	users, own := count(slices.Values(r.handles), func(h *handle) uint32 { return h.client.uid() }, c.uid())
	return p.room(c.uid(), taken, users, own) || c.peer != nil && p.roomAtLogin(taken, own) && c.peer.atLogin()
}

// number gives h its number and enters it.
func (m *Manager) number(h *handle) Error {
	c := h.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.released:
		return ErrInvalidHandle
	case len(c.handles) >= m.options.HandlesPerClient:
		m.told.sayLocked(fmt.Sprint("handles ", c.uid()), func(repeated int) {
			m.log.Warn("too many connections of one client", "client", c, "limit", m.options.HandlesPerClient,
				"repeated", repeated)
		})
		return ErrNoMemory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for h.id == 0 || m.handles[h.id] != nil {
		n, err := randomNumber()
		if err != nil {
			return ErrInternalError
		}
		h.id = Handle(n)
	}
	m.handles[h.id] = h
	c.handles[h.id] = h
	return ErrSuccess
}

// reconnect is Reconnect. The order of checks: initialization, parameters, reader, lock. An event does not matter: this
// is the call that clears it.
func (h *handle) reconnect(mode ShareMode, protocols Protocol, d Disposition) (Protocol, Error) {
	if d > UnpowerCard {
		return 0, ErrInvalidValue
	}
	if mode < ShareExclusive || mode > ShareDirect {
		return 0, ErrInvalidValue
	}
	if e := checkRequest(mode, protocols); e != ErrSuccess {
		return 0, e
	}
	if e := h.acquire(h.mayControl); e != ErrSuccess {
		return 0, e
	}
	r := h.r
	defer r.driver.Unlock()
	if d != LeaveCard {
		if e := r.power(d); e != ErrSuccess {
			return 0, e
		}
	}
	if mode != ShareDirect {
		if e := h.cardForReconnect(protocols); e != ErrSuccess {
			return 0, e
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := h.alive(); e != ErrSuccess {
		return 0, e
	}
	if e := h.changeMode(mode); e != ErrSuccess {
		return 0, e
	}
	h.event = ErrSuccess
	r.publishSharing()
	return r.protocol, ErrSuccess
}

func (h *handle) cardForReconnect(protocols Protocol) Error {
	r := h.r
	r.mu.Lock()
	state := r.state
	r.mu.Unlock()
	switch {
	case state&Present == 0:
		return ErrNoSmartcard
	case state&Swallowed != 0:
		return ErrUnresponsiveCard
	}
	return r.prepare(protocols)
}

// changeMode makes h exclusive, or shared again; r.mu is held.
func (h *handle) changeMode(mode ShareMode) Error {
	r := h.r
	switch {
	case mode == ShareExclusive && r.sharing < 0:
		if r.owner == nil { // the lock was lost with the card
			r.owner, r.depth = h, 1
		}
	case mode == ShareExclusive && r.sharing == 1:
		r.sharing, r.owner = -1, h
		r.depth++
	case mode == ShareExclusive:
		return r.taken(h, "reconnect")
	case r.sharing < 0:
		r.sharing = 1
		if r.owner == h {
			r.unlock()
		}
	}
	h.mode = mode
	return ErrSuccess
}

// disconnect is Disconnect. A reader that is gone is no reason to complain.
func (h *handle) disconnect(ctx context.Context, d Disposition) Error {
	if d > EjectCard {
		return ErrInvalidValue
	}
	r := h.r
	if d != LeaveCard {
		if e := h.dispose(ctx, d); e != ErrSuccess {
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
	if h.closed {
		return ErrInvalidHandle
	}
	h.drop()
	return ErrSuccess
}

// dispose waits until the card may be touched and does to it what Disconnect was asked for.
func (h *handle) dispose(ctx context.Context, d Disposition) Error {
	r := h.r
	for {
		r.mu.Lock()
		if r.gone || r.state&Unknown != 0 {
			r.mu.Unlock()
			return ErrSuccess
		}
		if r.lockedByOther(h) {
			if e := r.waitAndUnlock(ctx, &lockWait{h: h, result: make(chan Error, 1)}); e == ErrCancelled {
				return e
			}
		} else {
			r.mu.Unlock()
		}
		// The lock may have gone to the next who waits for it: that one must not be disturbed either.
		switch e := h.acquire(h.mayControl); e {
		case ErrSuccess:
		case ErrSharingViolation:
			continue
		case ErrCancelled: // the end of the client does the rest
			return e
		default:
			return ErrSuccess
		}
		break
	}
	defer r.driver.Unlock()
	r.mu.Lock()
	present := r.state&Present != 0
	r.mu.Unlock()
	switch {
	case !present:
	case d == ResetCard:
		r.power(ResetCard)
	case d == UnpowerCard:
		r.powerOff()
	}
	return ErrSuccess
}
