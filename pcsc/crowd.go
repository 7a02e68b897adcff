package pcsc

import (
	"sync/atomic"
	"time"
)

// crowd counts the clients that are busy now. How the server waits for the next request depends on it: few clients are
// served fastest by a thread each, which the kernel wakes without a detour; with many the threads get in each other's
// way, and they are served in turns.
type crowd struct {
	begin       time.Time
	epoch       atomic.Int64 // the slice of time that count is for
	count, last atomic.Int32 // clients with a request in this slice and in the one before
}

// Slices of about 4 ms; from crowded clients on they take turns, up to lonely ones a thread waits for each.
const (
	crowdSlice = 22 // binary digits of nanoseconds
	crowded    = 4
	lonely     = 2
)

// note counts a client whose last request was in the slice given, and gives the slice of this one.
func (w *crowd) note(seen int64) int64 {
	now := int64(time.Since(w.begin))>>crowdSlice + 1
	if seen == now {
		return now
	}
	if before := w.epoch.Load(); before != now && w.epoch.CompareAndSwap(before, now) {
		w.last.Store(w.count.Swap(1))
		return now
	}
	w.count.Add(1)
	return now
}

func (w *crowd) busy() int { return int(max(w.count.Load(), w.last.Load())) }

// read waits for bytes of a request; more says that some of it have come. A client without a context is always waited
// for by a thread, whose reads have a time limit.
func (c *conn) read(b []byte, more bool) (int, error) {
	if !more {
		c.epoch = c.s.crowd.note(c.epoch)
		c.settle()
	}
	if c.turn != nil {
		return c.turn.read(b, more)
	}
	return readSocket(c.fd, b, more)
}

// settle chooses how to wait for the next request.
func (c *conn) settle() {
	busy := c.s.crowd.busy()
	switch {
	case c.turn == nil && busy >= crowded && c.client != nil:
		t, err := c.s.turns.enter(c.fd)
		if err != nil {
			c.log().Debug("waiting with a thread", "err", err)
			return
		}
		c.turn = t
	case c.turn != nil && (busy <= lonely || c.client == nil):
		c.endTurns()
	}
}

func (c *conn) endTurns() {
	if c.turn != nil {
		c.turn.leave()
		c.turn = nil
	}
}
