package resmgr

import (
	"slices"
	"time"

	"pam_pkcs11/pcsc"
)

// A program of root's, as one that logs somebody in, does not wait for ever for the end of
// another's transaction.

// isRoot reports whether the client is a program of root's at the socket.
func (c *Client) isRoot() bool { return c.peer != nil && c.peer.UID == 0 }

// enqueue puts a wait behind those that came before it, one of root's before
// all others; r.mu is held.
func (r *reader) enqueue(w *lockWait) {
	at := len(r.queue)
	// Those of root's keep their own order.
	if w.h.client.isRoot() {
		others := func(other *lockWait) bool { return !other.h.client.isRoot() }
		if i := slices.IndexFunc(r.queue, others); i >= 0 {
			at = i
		}
	}
	r.queue = slices.Insert(r.queue, at, w)
}

// barTime is for how long a user whose transaction was ended cannot begin another one, so that
// those who have waited come first.
const barTime = 2 * time.Second

// isBarred reports whether the client's user is kept from beginning a transaction; r.mu is held.
func (r *reader) isBarred(c *Client) bool {
	return c.uid() == r.barred && r.barred != 0 && r.m.now().Before(r.barredUntil)
}

// endTransactionFor ends the transaction that w, of root's, still waits for. A command that is at
// the reader is not disturbed: its end is waited for. The card is reset, so that nothing of what
// the holder has opened is left open; everybody else who is connected gets ErrResetCard.
func (r *reader) endTransactionFor(w *lockWait) {
	if !r.driver.lockFor(w.h.client.ctx, w.h.client.onWait) {
		return
	}
	defer r.driver.Unlock()

	r.mu.Lock()

	owner := r.owner
	// It has ended by itself while this waited for the driver.
	if owner == nil || !slices.Contains(r.queue, w) {
		r.mu.Unlock()
		return
	}

	r.barred = owner.client.uid()
	r.barredUntil = r.m.now().Add(barTime)
	r.mu.Unlock()

	r.log().Warn("a transaction has kept a program of root's waiting for too long: "+
		"it is ended (transaction_limit)",
		"client", w.h.client, "holder", owner.client, "after", r.m.options.TransactionLimit)
	r.power(pcsc.ResetCard)

	r.mu.Lock()
	defer r.mu.Unlock()
	// The card may have been taken out during the reset, which ends the transaction too.
	if r.owner == owner {
		r.free()
	}
}
