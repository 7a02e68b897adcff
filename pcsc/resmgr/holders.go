package resmgr

import (
	"fmt"
	"strings"
	"time"

	"pam_pkcs11/pcsc"
)

// A refusal or a wait because of another program is logged with the names of both.

// sharingViolation logs who has the reader that h's program wanted to do something with, once a
// minute for a user and a holder, and returns ErrSharingViolation. r.mu is held.
func (r *reader) sharingViolation(h *Connection, wanted string) pcsc.Error {
	holders := r.holders(h)
	if len(holders) == 0 {
		return pcsc.ErrSharingViolation
	}

	key := fmt.Sprint("taken ", r.name, " ", h.client.uid(), " ", holders[0].client.pid())
	r.m.contention.SayLocked(key, func(repeated int) {
		// In a goroutine of its own, without r.mu: names are read from /proc.
		var who, modes []string
		for _, other := range holders {
			who = append(who, other.client.LogValue().String())
			modes = append(modes, r.kind(other))
		}
		r.log().Warn("a program is refused the reader, which another has",
			"client", h.client, "wants", wanted, "holder", strings.Join(who, ", "),
			"mode", strings.Join(modes, ", "), "repeated", repeated)
	})
	return pcsc.ErrSharingViolation
}

// mostHolders bounds how many programs a line names.
const mostHolders = 5

// holders are the connections that keep h from what it wants, or the first of them; r.mu is held.
func (r *reader) holders(h *Connection) []*Connection {
	if r.owner != nil && r.owner != h {
		return []*Connection{r.owner}
	}

	var all []*Connection
	for _, other := range r.handles {
		if other != h && len(all) < mostHolders {
			all = append(all, other)
		}
	}
	return all
}

// kind is the way in which a connection has the reader.
func (r *reader) kind(h *Connection) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kindLocked(h)
}

// kindLocked is kind where r.mu is held.
func (r *reader) kindLocked(h *Connection) string {
	switch {
	case h.mode == pcsc.ShareExclusive:
		return "exclusive"
	case r.owner == h:
		return "transaction"
	case h.mode == pcsc.ShareDirect:
		return "direct"
	}
	return "shared"
}

// longWait is after how long a wait for somebody's transaction is worth a line in the log.
const longWait = time.Second

// logLongWait logs who keeps whom waiting, once a minute for a user and a holder.
func (r *reader) logLongWait(w *lockWait) {
	r.mu.Lock()
	owner := r.owner
	r.mu.Unlock()
	// The transaction has ended at this very moment.
	if owner == nil {
		return
	}

	key := fmt.Sprint("waits ", r.name, " ", w.h.client.uid(), " ", owner.client.pid())
	r.m.contention.Say(key, func(repeated int) {
		r.log().Warn("a program waits for the transaction of another to end", "client", w.h.client,
			"holder", owner.client, "after", longWait, "repeated", repeated)
	})
}

// uid is the user of the client's program.
func (c *Client) uid() uint32 {
	if c.peer == nil {
		return 0
	}
	return c.peer.UID
}

// pid is the client's process, 0 for this one.
func (c *Client) pid() int {
	if c.peer == nil {
		return 0
	}
	return c.peer.PID
}
