package resmgr

import (
	"sync"

	"pam_pkcs11/pcsc"
)

// Watcher is told once of the next change of the reader states, and is then forgotten. Fire must
// not wait for anything; it is called without locks of the reader states.
type Watcher interface{ Fire() }

// ReaderStates is the array of reader states that everybody may see. Taking a copy and registering
// for the next change is one step: no change can fall between the two.
type ReaderStates struct {
	mu       sync.Mutex        // guards the fields below
	entries  []pcsc.ReaderInfo // free ones have no name
	events   uint16            // readers added and removed; 1 to 0x7FFF, never 0
	version  uint64            // changes that wake
	watchers map[Watcher]struct{}
	readers  int // entries that are not free
}

func newReaderStates(size int) *ReaderStates {
	return &ReaderStates{
		entries:  make([]pcsc.ReaderInfo, size),
		events:   1,
		watchers: map[Watcher]struct{}{},
	}
}

// add adds a reader to the array, which grows when it is full, and returns its place.
func (b *ReaderStates) add(p pcsc.ReaderInfo) int {
	b.mu.Lock()
	// Free places are used again: clients of protocol 4.5 and older see a
	// fixed number of them only.
	place := -1
	for i := range b.entries {
		if b.entries[i].Name == "" {
			place = i
			break
		}
	}
	if place < 0 {
		place = len(b.entries)
		b.entries = append(b.entries, pcsc.ReaderInfo{})
	}

	b.readers++
	b.countReader()
	b.entries[place] = p
	b.fireAndUnlock()
	return place
}

func (b *ReaderStates) remove(place int) {
	b.mu.Lock()
	b.entries[place] = pcsc.ReaderInfo{}
	b.readers--
	b.countReader()
	b.fireAndUnlock()
}

func (b *ReaderStates) countReader() {
	// 0 is the count of a client that knows none (pcsc.StatusChange).
	if b.events++; b.events > 0x7FFF {
		b.events = 1
	}
}

// update changes a reader's entry, and wakes those who wait.
func (b *ReaderStates) update(place int, p pcsc.ReaderInfo) {
	b.mu.Lock()
	b.entries[place] = p
	b.fireAndUnlock()
}

// setSharing is update for the one field that changes with every connection. A change of the
// protocol alone wakes nobody.
func (b *ReaderStates) setSharing(place int, sharing int32, protocol pcsc.Protocol) {
	b.mu.Lock()
	e := &b.entries[place]
	wakes := e.Sharing != sharing
	e.Sharing = sharing
	e.Protocol = protocol
	if wakes {
		b.fireAndUnlock()
		return
	}
	b.mu.Unlock()
}

// fireAndUnlock tells the watchers of a change, with b.mu released.
func (b *ReaderStates) fireAndUnlock() {
	b.version++
	if len(b.watchers) == 0 {
		b.mu.Unlock()
		return
	}

	woken := make([]Watcher, 0, len(b.watchers))
	for w := range b.watchers {
		woken = append(woken, w)
	}
	clear(b.watchers)
	b.mu.Unlock()

	// Fire is called without b.mu: a watcher may ask for the states.
	for _, w := range woken {
		w.Fire()
	}
}

// snapshot copies the state of the readers, and registers w for the next change unless it is nil.
func (b *ReaderStates) snapshot(w Watcher) pcsc.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.watchers[w] = struct{}{}
	}

	s := pcsc.Snapshot{Events: b.events, Readers: make([]pcsc.ReaderInfo, 0, b.readers)}
	for _, e := range b.entries {
		if e.Name != "" {
			s.Readers = append(s.Readers, e)
		}
	}
	return s
}

// Each calls entry for the first n entries (all when n is negative), used or free, and registers w
// unless it is nil. An entry beyond those that there are is a free one. entry must not wait, and
// must not keep or change what it is given.
func (b *ReaderStates) Each(n int, w Watcher, entry func(*pcsc.ReaderInfo)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.watchers[w] = struct{}{}
	}

	if n < 0 {
		n = len(b.entries)
	}

	var free pcsc.ReaderInfo
	for i := range n {
		if i < len(b.entries) {
			entry(&b.entries[i])
		} else {
			entry(&free)
		}
	}
}

// Size is the number of entries, used or free. It never shrinks: clients of
// protocol 4.6 rely on that.
func (b *ReaderStates) Size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

// Events counts readers that came and went.
func (b *ReaderStates) Events() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events
}

// Watch registers w for the next change.
func (b *ReaderStates) Watch(w Watcher) {
	b.mu.Lock()
	b.watchers[w] = struct{}{}
	b.mu.Unlock()
}

// WatchSince is Watch for a caller whose copy of the states is of a Version: w is fired at once if
// they have changed since.
func (b *ReaderStates) WatchSince(version uint64, w Watcher) {
	b.mu.Lock()
	missed := b.version != version
	if !missed {
		b.watchers[w] = struct{}{}
	}
	b.mu.Unlock()

	if missed {
		w.Fire()
	}
}

// Version counts the changes that fire watchers.
func (b *ReaderStates) Version() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

// Unwatch forgets w and reports whether it was still registered.
func (b *ReaderStates) Unwatch(w Watcher) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, registered := b.watchers[w]
	delete(b.watchers, w)
	return registered
}
