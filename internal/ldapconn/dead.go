package ldapconn

import (
	"slices"
	"sync"
	"time"
)

// deadFor is the time for which a server that failed is asked last.
const deadFor = 30 * time.Second

// DeadServers remembers servers that failed or kept others waiting, so that the next search begins
// with one that works. It changes the order only: where all servers are dead all are asked. Its
// methods may be called from several goroutines, and those but Import on a nil receiver.
type DeadServers struct {
	Now func() time.Time // nil is time.Now

	// mu guards the fields below.
	mu    sync.Mutex
	until map[string]time.Time
}

func (d *DeadServers) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Mark remembers a server that failed after it was connected to.
func (d *DeadServers) Mark(uri string) { d.mark(uri) }

// mark remembers a server that failed, or kept the next one waiting.
func (d *DeadServers) mark(uri string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	d.until[uri] = d.now().Add(deadFor)
}

// Export returns the servers that are remembered now, each with the time until which it is asked
// last.
func (d *DeadServers) Export() map[string]time.Time {
	kept := map[string]time.Time{}
	if d == nil {
		return kept
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	for uri, until := range d.until {
		if until.After(d.now()) {
			kept[uri] = until
		}
	}
	return kept
}

// Import takes over what Export gave, perhaps in another process. Times further ahead than a server
// is ever remembered do not count: the clock was set back, or the record is not ours.
func (d *DeadServers) Import(known map[string]time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	for uri, until := range known {
		if !until.After(d.now().Add(deadFor)) {
			d.until[uri] = until
		}
	}
}

// clear forgets a server, which works again.
func (d *DeadServers) clear(uri string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, uri)
}

// order returns the servers with the remembered dead ones at the end, otherwise as they were.
func (d *DeadServers) order(uris []string) []string {
	ordered := slices.Clone(uris)
	if d == nil {
		return ordered
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	// Stable: among servers that work the order of the configuration stays.
	slices.SortStableFunc(ordered, func(a, b string) int {
		return rank(d.until[a].After(now)) - rank(d.until[b].After(now))
	})
	return ordered
}

// rank is the sort key of a server.
func rank(dead bool) int {
	if dead {
		return 1
	}
	return 0
}
