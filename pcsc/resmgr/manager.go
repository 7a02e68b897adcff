// Package resmgr is a PC/SC resource manager: readers, the cards in them, and
// who may use which when.
//
// Manager is a pcsc.Service inside the process, over drivers that are plugged into it (Plug). A
// server of other programs gives each of them a Client of its own (Manager.Establish), so that the
// log, the limits and the status can name it.
//
// What happens to a card is in power.go, connections are in connect.go and reader.go, transactions
// in lock.go and limit.go, and what everybody may see of the readers in readerstates.go.
package resmgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/repeats"
	"pam_pkcs11/pcsc/internal/waitfor"
)

// Options of a Manager. The zero value is what pcscd does.
type Options struct {
	// ReaderStates is the number of entries that clients of protocol 4.5 and older get: a constant
	// of their build, 16 everywhere but in some patched Fedora and RHEL builds (48). 0 is 16.
	ReaderStates int
	// HandlesPerClient and HandlesPerReader limit connections; 0 is 200. HandlesPerUser is how many
	// of those to one reader one user may have who is not root; 0 is 0.6 of them all.
	HandlesPerClient, HandlesPerReader, HandlesPerUser int
	// TransactionLimit is how long a client of root waits for the transaction of another before
	// that is ended. 0 is 10 s, negative is for ever.
	TransactionLimit time.Duration
	// PowerDelay is how long an unused card stays switched on. 0 is 5 s, negative is for ever.
	PowerDelay time.Duration
	// SettleTime bounds how long the first question for readers waits for drivers to
	// find theirs. 0 is 5 s.
	SettleTime time.Duration
	Names      NameOptions
	Logger     *slog.Logger
	Now        func() time.Time
}

// Manager is the resource manager in the process: a pcsc.Service over the readers of its drivers. A
// server of other programs uses Establish and States in place of the Service's functions.
type Manager struct {
	options Options
	log     *slog.Logger
	states  *ReaderStates
	now     func() time.Time

	settled    chan struct{} // closed when the first readers are there
	pending    atomic.Int64  // what settled still waits for
	settle     sync.Once
	ready      sync.Once
	driversMu  sync.Mutex // guards the next two: drivers that can do more than Run
	rescanner  []pcsc.Rescanner
	complainer []pcsc.Complainer

	mu      sync.Mutex // guards closed to handles; taken after reader.mu and Client.mu
	closed  bool
	shown   chan struct{}            // closed when the last reader attached is to be seen
	readers map[string]*reader       // by name
	places  map[placeKey][]*reader   // by driver and id
	numbers map[any]map[int]placeKey // reader numbers in use, by driver
	clients map[pcsc.SCardContext]*Client
	handles map[pcsc.Handle]*Connection
	work    sync.WaitGroup // goroutines of readers and cleanups

	contention repeats.Lines // what was logged of programs that keep others waiting
}

// placeKey identifies a reader of a driver.
type placeKey struct {
	driver any
	id     string
}

// New makes a manager without readers; Plug gives it some.
func New(o Options) *Manager {
	setDefault := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	setDefault(&o.ReaderStates, 16)
	setDefault(&o.HandlesPerClient, 200)
	setDefault(&o.HandlesPerReader, 200)

	if o.PowerDelay == 0 {
		o.PowerDelay = 5 * time.Second
	}
	if o.TransactionLimit == 0 {
		o.TransactionLimit = 10 * time.Second
	}
	if o.SettleTime == 0 {
		o.SettleTime = 5 * time.Second
	}

	m := &Manager{
		options: o,
		log:     o.Logger,
		now:     o.Now,
		settled: make(chan struct{}),
		states:  newReaderStates(max(o.ReaderStates, 16)),
		readers: map[string]*reader{},
		places:  map[placeKey][]*reader{},
		numbers: map[any]map[int]placeKey{},
		clients: map[pcsc.SCardContext]*Client{},
		handles: map[pcsc.Handle]*Connection{},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}

	m.pending.Store(1) // taken back when the first driver settles, or by Ready
	return m
}

// States are the reader states.
func (m *Manager) States() *ReaderStates { return m.states }

// FixedStates is how many reader states clients of protocol 4.5 and older get, see
// Options.ReaderStates.
func (m *Manager) FixedStates() int { return m.options.ReaderStates }

// Plug starts a driver, which runs until ctx ends or it gives up; what its Run returned is then in
// the channel, and its readers are gone.
func Plug[S pcsc.Slot](ctx context.Context, m *Manager, d pcsc.Driver[S]) <-chan error {
	// A pointer is the driver's identity: d may be of a type that cannot be a key.
	key := new(int)
	m.pending.Add(1)
	settled := sync.OnceFunc(m.settleOne)

	m.driversMu.Lock()
	if r, ok := any(d).(pcsc.Rescanner); ok {
		m.rescanner = append(m.rescanner, r)
	}
	if c, ok := any(d).(pcsc.Complainer); ok {
		m.complainer = append(m.complainer, c)
	}
	m.driversMu.Unlock()

	ended := make(chan error, 1)
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		err := d.Run(ctx, func(id, product, iface, serial string, slots []S) {
			// A []S is no []pcsc.Slot, although every S is a Slot.
			general := make([]pcsc.Slot, len(slots))
			for i, s := range slots {
				general[i] = s
			}
			m.attach(placeKey{key, id}, product, iface, serial, general)
		}, func(id string) { m.detach(placeKey{key, id}) }, settled)

		// In this order: who waits for the error finds the readers gone, and nobody waits for a
		// driver to settle that has ended.
		m.detachAll(key)
		settled()
		ended <- err
	}()
	return ended
}

// detachAll detaches all readers of a driver.
func (m *Manager) detachAll(driver any) {
	m.mu.Lock()
	var left []placeKey
	for place := range m.places {
		if place.driver == driver {
			left = append(left, place)
		}
	}
	m.mu.Unlock()

	for _, place := range left {
		m.detach(place)
	}
}

// Ready has to be called when all drivers are plugged in: from then on the manager is settled as
// soon as they are.
func (m *Manager) Ready() { m.ready.Do(m.settleOne) }

// settleOne takes one from pending. The manager is settled with the last.
func (m *Manager) settleOne() {
	if m.pending.Add(-1) == 0 {
		m.settle.Do(func() { close(m.settled) })
	}
}

// AwaitReaders waits, within bounds, until the readers that were there at the start are known.
func (m *Manager) AwaitReaders(ctx context.Context) {
	// A client may be the one that the daemon was started for: too early an answer would be that
	// there is no reader.
	select {
	case <-m.settled:
		return
	default:
	}

	timer := time.NewTimer(m.options.SettleTime)
	defer timer.Stop()
	select {
	case <-m.settled:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Rescan asks the drivers to look for readers again.
func (m *Manager) Rescan() {
	m.driversMu.Lock()
	drivers := slices.Clone(m.rescanner)
	m.driversMu.Unlock()

	// Without the lock: a driver may need time to look.
	for _, d := range drivers {
		d.Rescan()
	}
}

// rescan is Rescan for callers that must not wait.
func (m *Manager) rescan() { go m.Rescan() }

// attach makes the readers of a place, one for each slot; see pcsc.Driver.
func (m *Manager) attach(key placeKey, product, iface, serial string, slots []pcsc.Slot) {
	// A known id is a new reader in the old one's place, see pcsc.Driver.
	m.detach(key)
	if text := m.options.Names.text(product, iface, serial); m.options.Names.ignored(text) {
		m.log.Info("reader ignored", "reader", text)
		return
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	// Close has taken the list of readers: nobody would give this one up.
	if m.closed {
		return
	}

	used := m.numbers[key.driver]
	if used == nil {
		used = map[int]placeKey{}
		m.numbers[key.driver] = used
	}
	number := 0
	for ; used[number] != (placeKey{}); number++ {
	}
	// A name has two hexadecimal digits for the number.
	if number > 0xFF || len(slots) == 0 {
		m.log.Error("reader refused", "reader", product, "slots", len(slots), "number", number)
		return
	}

	used[number] = key
	for i, slot := range slots {
		name := m.options.Names.readerName(product, iface, serial, number, i)
		// Numbers count for each driver: readers of two of them may have the same name.
		for n := number; m.readers[name] != nil && n < 0xFF; n++ {
			name = m.options.Names.readerName(product, iface, serial, n+1, i)
		}

		r := &reader{
			m:     m,
			name:  name,
			slot:  slot,
			place: -1,
			state: pcsc.Absent,
			done:  make(chan struct{}),
		}
		r.ctx, r.stop = context.WithCancel(context.Background())

		m.readers[name] = r
		m.places[key] = append(m.places[key], r)
		m.start(r)
	}
}

// firstLook is how long a reader is kept back until it has said whether a card is there, so that a
// client which the daemon was started for finds its card.
const firstLook = 2 * time.Second

// start watches r and shows it among the reader states; m.mu is held.
func (m *Manager) start(r *reader) {
	m.pending.Add(1)

	// Readers appear in the order in which they were attached, whichever of them answers first.
	before := m.shown
	shown := make(chan struct{})
	m.shown = shown
	show := sync.OnceFunc(func() {
		defer close(shown)
		if before != nil {
			<-before
		}

		r.mu.Lock()
		if !r.gone {
			r.place = m.states.add(r.published())
			r.log().Info("reader added")
		}
		r.mu.Unlock()

		m.settleOne()
	})

	// A reader that is slow to answer is shown without its card.
	late := time.AfterFunc(firstLook, show)
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		r.watchSlot(func() { late.Stop(); show() })
	}()
}

// detach gives the readers of a place up, if there are any.
func (m *Manager) detach(key placeKey) {
	m.mu.Lock()
	gone := m.places[key]
	delete(m.places, key)
	for n, k := range m.numbers[key.driver] {
		if k == key {
			delete(m.numbers[key.driver], n)
		}
	}

	for _, r := range gone {
		delete(m.readers, r.name)
	}
	m.mu.Unlock()

	// Without m.mu, which is taken after reader.mu.
	for _, r := range gone {
		r.giveUp()
	}
}

// giveUp ends all waits for the reader. Calls into the slot end by themselves.
func (r *reader) giveUp() {
	r.stop()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.stopIdle()
	r.owner, r.depth = nil, 0
	r.wakeAll(func(*lockWait) (pcsc.Error, bool) { return pcsc.ErrReaderUnavailable, true })

	if r.place >= 0 {
		r.m.states.remove(r.place)
		r.log().Info("reader removed")
	}
}

// Close gives all readers up and ends all waits. The ctx of every Plug must have ended before:
// Close waits for the drivers, but no longer than 5 s: a reader that does not answer must not keep
// the process from ending.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true

	keys := make([]placeKey, 0, len(m.places))
	for k := range m.places {
		keys = append(keys, k)
	}
	clients := make([]*Client, 0, len(m.clients))
	for _, c := range m.clients {
		clients = append(clients, c)
	}
	m.mu.Unlock()

	// Clients come first: a card that one of them leaves open can be reset
	// while its reader is there.
	for _, c := range clients {
		c.Release()
	}
	for _, k := range keys {
		m.detach(k)
	}

	if !waitfor.Group(&m.work, closeTime) {
		return errors.New("a reader does not answer")
	}
	return nil
}

// closeTime bounds the wait for readers that are busy when the service ends.
const closeTime = 5 * time.Second

// drop takes h from its reader, with its lock; r.mu is held.
func (h *Connection) drop() {
	r := h.r
	if h.closed {
		return
	}
	h.closed = true

	for i, other := range r.handles {
		if other == h {
			r.handles = append(r.handles[:i], r.handles[i+1:]...)
			break
		}
	}

	if r.sharing < 0 {
		r.sharing = 0
	} else {
		r.sharing--
	}

	r.unlocked.Forget(h)
	if r.owner == h {
		r.free()
	}
	r.publishSharing()
	r.restartIdle()
}

// lookup finds a connection by its number.
func (m *Manager) lookup(id pcsc.Handle) (*Connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.handles[id]; h != nil {
		return h, nil
	}
	return nil, pcsc.ErrInvalidHandle
}

func (m *Manager) client(sc pcsc.SCardContext) (*Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clients[sc]; c != nil {
		return c, nil
	}
	return nil, pcsc.ErrInvalidHandle
}

// String describes the manager for the log.
func (m *Manager) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%d readers, %d contexts, %d handles",
		len(m.readers), len(m.clients), len(m.handles))
}
