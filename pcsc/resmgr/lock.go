package resmgr

import (
	"context"
	"time"

	"pam_pkcs11/pcsc"
)

// lockWait is a call that waits until no other handle has the transaction lock of a reader. The
// waits of a reader are served in the order in which they came, see enqueue.
type lockWait struct {
	h      *Connection
	begin  bool            // wants the lock; else only waits for it to be free
	result chan pcsc.Error // of capacity 1
}

// BeginTransaction takes the transaction lock, or waits for it. It checks reader,
// event, lock, in this order.
func (h *Connection) BeginTransaction(ctx context.Context) pcsc.Error {
	r := h.r
	r.mu.Lock()
	switch e := h.alive(); {
	case e != pcsc.ErrSuccess:
		r.mu.Unlock()
		return e
	case r.state&pcsc.Unknown != 0:
		r.mu.Unlock()
		return pcsc.ErrReaderUnavailable
	case h.event != pcsc.ErrSuccess:
		defer r.mu.Unlock()
		return h.event
	case r.owner == nil && r.isBarred(h.client):
		defer r.mu.Unlock()
		// libpcsclite does not report this to its program, but asks again in a moment.
		return pcsc.ErrSharingViolation
	case r.owner == nil || r.owner == h:
		r.owner = h
		r.depth++
		r.mu.Unlock()
		return pcsc.ErrSuccess
	}

	return r.waitAndUnlock(ctx, &lockWait{h: h, begin: true, result: make(chan pcsc.Error, 1)})
}

// waitAndUnlock queues w, releases r.mu and waits. When ctx ends first the result is ErrCancelled
// and nothing is held.
func (r *reader) waitAndUnlock(ctx context.Context, w *lockWait) pcsc.Error {
	r.enqueue(w)
	holder := r.owner.client

	r.mu.Unlock()
	r.log().Debug("waiting for a transaction to end", "client", w.h.client, "holder", holder)

	late := time.AfterFunc(longWait, func() { r.logLongWait(w) })
	defer late.Stop()

	if limit := r.m.options.TransactionLimit; w.h.client.isRoot() && limit > 0 {
		defer time.AfterFunc(limit, func() { r.endTransactionFor(w) }).Stop()
	}
	// A client that waits does not read its socket: the guard notices that its program dies.
	if guard := w.h.client.onWait; guard != nil {
		defer guard()()
	}

	select {
	case e := <-w.result:
		return e
	case <-ctx.Done():
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.queue {
		if other == w {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			return pcsc.ErrCancelled
		}
	}
	// It was served at the same moment: the lock must not stay with a call that has given up.
	if e := <-w.result; e == pcsc.ErrSuccess && w.begin {
		r.unlock()
	}
	return pcsc.ErrCancelled
}

// unlock takes one from the owner's depth and hands the lock on when none is left; r.mu is held.
func (r *reader) unlock() {
	if r.depth--; r.depth > 0 {
		return
	}
	r.free()
}

// free takes the lock from its owner, however deep, and gives it to the next in
// the queue; r.mu is held.
func (r *reader) free() {
	r.owner, r.depth = nil, 0

	for len(r.queue) > 0 {
		w := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		if w.begin {
			r.owner = w.h
			r.depth = 1
		}
		// This does not wait: the channel has room for one result, and w was in the queue once.
		w.result <- pcsc.ErrSuccess
		if w.begin {
			return
		}
	}
}

// wakeAll ends the waits for which verdict returns true, and leaves the
// others queued; r.mu is held.
func (r *reader) wakeAll(verdict func(*lockWait) (pcsc.Error, bool)) {
	kept := r.queue[:0]
	for _, w := range r.queue {
		if e, end := verdict(w); end {
			w.result <- e
		} else {
			kept = append(kept, w)
		}
	}

	clear(r.queue[len(kept):])
	r.queue = kept
}

// EndTransaction is the EndTransaction of pcsc.Service. It checks event and lock, and performs the
// disposition before others may use the card.
func (h *Connection) EndTransaction(d pcsc.Disposition) pcsc.Error {
	if d > pcsc.EjectCard {
		return pcsc.ErrInvalidValue
	}

	r := h.r
	check := func() pcsc.Error {
		switch e := h.alive(); {
		case e != pcsc.ErrSuccess:
			return e
		case h.event != pcsc.ErrSuccess:
			return h.event
		case r.lockedByOther(h):
			return r.sharingViolation(h, "end a transaction")
		// One level belongs to the exclusive connection itself, and ends with that.
		case r.depth == 0 || r.sharing < 0 && r.depth == 1:
			return pcsc.ErrNotTransacted
		}
		return pcsc.ErrSuccess
	}

	// No reader of today has a motor: the transaction ends without the disposition.
	if d == pcsc.EjectCard {
		r.mu.Lock()
		defer r.mu.Unlock()

		e := check()
		if e == pcsc.ErrSuccess {
			r.unlock()
			e = pcsc.ErrUnsupportedFeature
		}
		return e
	}

	if d != pcsc.LeaveCard {
		if e := h.acquire(check); e != pcsc.ErrSuccess {
			return e
		}

		r.power(d)
		r.driver.Unlock()
		// The owner has the event of its own reset now: only the lock is still to be given up.
		check = func() pcsc.Error {
			if r.owner != h {
				return pcsc.ErrSuccess
			}
			return h.alive()
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	e := check()
	if e == pcsc.ErrSuccess && r.owner == h {
		r.unlock()
	}
	return e
}
