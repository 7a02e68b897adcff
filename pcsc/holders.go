package pcsc

import (
	"fmt"
	"strings"
	"time"
)

// Who has the reader: a refusal or a wait because of another program is a line of the log that names both.

// taken is ErrSharingViolation, and tells the log who has the reader that h's program wanted to do something with: once a
// minute for a user and a holder. r.mu is held.
func (r *reader) taken(h *handle, wanted string) Error {
	holders := r.holders(h)
	if len(holders) == 0 {
		return ErrSharingViolation
	}

	key := fmt.Sprint("taken ", r.name, " ", h.client.uid(), " ", holders[0].client.pid())
	r.m.told.sayLocked(key, func(repeated int) {
		var who, modes []string
		for _, other := range holders {
			who = append(who, other.client.LogValue().String())
			modes = append(modes, r.kind(other))
		}
		r.log().Warn("a program is refused the reader, which another has", "client", h.client, "wants", wanted,
			"holder", strings.Join(who, ", "), "mode", strings.Join(modes, ", "), "repeated", repeated)
	})
	return ErrSharingViolation
}

// mostHolders bounds how many programs a line names.
const mostHolders = 5

// holders are the connections that keep h from what it wants, or the first of them; r.mu is held.
func (r *reader) holders(h *handle) []*handle {
	if r.owner != nil && r.owner != h {
		return []*handle{r.owner}
	}
	var all []*handle
	for _, other := range r.handles {
		if other != h && len(all) < mostHolders {
			all = append(all, other)
		}
	}
	return all
}

// kind says in which way a connection has the reader.
func (r *reader) kind(h *handle) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kindLocked(h)
}

// kindLocked is kind where r.mu is held.
func (r *reader) kindLocked(h *handle) string {
	switch {
	case h.mode == ShareExclusive:
		return "exclusive"
	case r.owner == h:
		return "transaction"
	case h.mode == ShareDirect:
		return "direct"
	}
	return "shared"
}

// longWait is after how long a wait for somebody's transaction is worth a line in the log.
const longWait = time.Second

// tellOfLongWait says who keeps whom waiting, once a minute for a user and a holder.
func (r *reader) tellOfLongWait(w *lockWait) {
	r.mu.Lock()
	owner := r.owner
	r.mu.Unlock()
	if owner == nil {
		return
	}
	key := fmt.Sprint("waits ", r.name, " ", w.h.client.uid(), " ", owner.client.pid())
	r.m.told.say(key, func(repeated int) {
		r.log().Warn("a program waits for the transaction of another to end", "client", w.h.client,
			"holder", owner.client, "after", longWait, "repeated", repeated)
	})
}

// uid is the user of the client's program.
func (c *client) uid() uint32 {
	if c.peer == nil {
		return 0
	}
	return c.peer.UID
}

// pid is the client's process, 0 for this one.
func (c *client) pid() int {
	if c.peer == nil {
		return 0
	}
	return c.peer.PID
}
