package pcsc

import (
	"encoding/binary"
	"sync"
)

// published is what everybody may know of one reader.
type published struct {
	name     string
	counter  uint32
	state    State
	sharing  int32
	atr      []byte
	protocol Protocol
}

func (p *published) message() *ReaderStateMessage {
	m := &ReaderStateMessage{EventCounter: p.counter, State: p.state, Sharing: p.sharing, ATRLength: uint32(len(p.atr)),
		Protocol: p.protocol}
	copy(m.Reader[:MaxReaderName-1], p.name)
	copy(m.ATR[:], p.atr)
	return m
}

// snapshot is the board at one moment.
type snapshot struct {
	readers []published // in use only
	events  uint16
}

func (s *snapshot) find(name string) *published {
	for i := range s.readers {
		if s.readers[i].name == name {
			return &s.readers[i]
		}
	}
	return nil
}

// watcher is told once of the next change on the board, and is then forgotten. fire must not wait for anything; it is
// called without locks of the board.
type watcher interface{ fire() }

// board is the array of reader states. Taking a copy and registering for the next change is one step: no change can
// fall between the two.
type board struct {
	mu       sync.Mutex
	entries  []published // free ones have no name
	wire     []byte      // entries in the protocol's form, kept so that an answer is one copy
	events   uint16      // readers added and removed; 1 to 0x7FFF, never 0
	version  uint64      // changes that wake
	watchers map[watcher]struct{}
	readers  int
}

func newBoard(size int) *board {
	return &board{
		entries: make([]published, size), wire: make([]byte, size*readerStateSize), events: 1,
		watchers: map[watcher]struct{}{},
	}
}

// add puts a reader on the board, which grows when it is full, and gives its place.
func (b *board) add(p published) int {
	b.mu.Lock()
	place := -1
	for i := range b.entries {
		if b.entries[i].name == "" {
			place = i
			break
		}
	}
	if place < 0 {
		place = len(b.entries)
		b.entries = append(b.entries, published{})
		b.wire = append(b.wire, make([]byte, readerStateSize)...)
	}
	b.readers++
	b.countReader()
	b.put(place, p)
	b.fireAndUnlock()
	return place
}

func (b *board) remove(place int) {
	b.mu.Lock()
	b.entries[place] = published{}
	clear(b.wire[place*readerStateSize:][:readerStateSize])
	b.readers--
	b.countReader()
	b.fireAndUnlock()
}

func (b *board) countReader() {
	if b.events++; b.events > 0x7FFF {
		b.events = 1
	}
}

// put writes an entry; b.mu is held.
func (b *board) put(place int, p published) {
	b.entries[place] = p
	encode(b.wire[:place*readerStateSize], p.message())
}

// update changes a reader's entry. loud wakes those who wait; a change of the protocol alone is not news.
func (b *board) update(place int, p published, loud bool) {
	b.mu.Lock()
	b.put(place, p)
	if loud {
		b.fireAndUnlock()
		return
	}
	b.mu.Unlock()
}

// setSharing is update for the one field that changes with every connection.
func (b *board) setSharing(place int, sharing int32, protocol Protocol) {
	b.mu.Lock()
	e := &b.entries[place]
	loud := e.sharing != sharing
	e.sharing, e.protocol = sharing, protocol
	at := b.wire[place*readerStateSize:]
	binary.NativeEndian.PutUint32(at[136:], uint32(sharing))
	binary.NativeEndian.PutUint32(at[180:], uint32(protocol))
	if loud {
		b.fireAndUnlock()
		return
	}
	b.mu.Unlock()
}

// fireAndUnlock tells the watchers of a change, with b.mu released.
func (b *board) fireAndUnlock() {
	b.version++
	if len(b.watchers) == 0 {
		b.mu.Unlock()
		return
	}
	woken := make([]watcher, 0, len(b.watchers))
	for w := range b.watchers {
		woken = append(woken, w)
	}
	clear(b.watchers)
	b.mu.Unlock()
	for _, w := range woken {
		w.fire()
	}
}

// look copies the state of the readers, and registers w for the next change unless it is nil.
func (b *board) look(w watcher) snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.watchers[w] = struct{}{}
	}
	s := snapshot{events: b.events, readers: make([]published, 0, b.readers)}
	for _, e := range b.entries {
		if e.name != "" {
			s.readers = append(s.readers, e)
		}
	}
	return s
}

// appendWire appends the first n states in the protocol's form (all when n is negative), and registers w unless nil.
func (b *board) appendWire(to []byte, n int, w watcher) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.watchers[w] = struct{}{}
	}
	if n < 0 {
		return append(to, b.wire...)
	}
	have := min(n*readerStateSize, len(b.wire))
	to = append(to, b.wire[:have]...)
	return append(to, make([]byte, n*readerStateSize-have)...)
}

// size is the number of entries, used or free. It never shrinks: clients of 4.6 rely on that.
func (b *board) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

func (b *board) readerEvents() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events
}

// watch registers w for the next change.
func (b *board) watch(w watcher) {
	b.mu.Lock()
	b.watchers[w] = struct{}{}
	b.mu.Unlock()
}

// watchSince is watch for a client of 4.3, which took its copy of the board at version: what changed since is told at
// once.
func (b *board) watchSince(version uint64, w watcher) {
	b.mu.Lock()
	missed := b.version != version
	if !missed {
		b.watchers[w] = struct{}{}
	}
	b.mu.Unlock()
	if missed {
		w.fire()
	}
}

func (b *board) currentVersion() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

// unwatch forgets w and reports whether it was still registered.
func (b *board) unwatch(w watcher) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, registered := b.watchers[w]
	delete(b.watchers, w)
	return registered
}
