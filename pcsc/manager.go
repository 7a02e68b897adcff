package pcsc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Manager. The zero value is what pcscd does.
type Options struct {
	// ReaderStates is the number of entries that clients of protocol 4.5 and older get: a constant of their build, 16
	// everywhere but in some patched Fedora and RHEL builds (48). 0 is 16.
	ReaderStates int
	// HandlesPerClient and HandlesPerReader limit connections; 0 is 200. HandlesPerUser is how many of those to one
	// reader one user may have who is not root; 0 is 0.6 of them all.
	HandlesPerClient, HandlesPerReader, HandlesPerUser int
	// TransactionLimit is how long a client of root waits for the transaction of another before that is ended. 0 is 10 s,
	// negative is for ever.
	TransactionLimit time.Duration
	// PowerDelay is how long an unused card stays switched on. 0 is 5 s, negative is for ever.
	PowerDelay time.Duration
	// SettleTime bounds how long the first question for readers waits for drivers to find theirs. 0 is 5 s.
	SettleTime time.Duration
	Names      NameOptions
	Logger     *slog.Logger
	Now        func() time.Time
}

// Manager is the resource manager in the process.
type Manager struct {
	options Options
	log     *slog.Logger
	board   *board
	now     func() time.Time

	settled   chan struct{} // closed when the first readers are there
	pending   atomic.Int64  // what settled still waits for
	settle    sync.Once
	ready     sync.Once
	rescanMu  sync.Mutex
	rescanner []Rescanner

	mu      sync.Mutex
	closed  bool
	shown   chan struct{}            // closed when the last reader attached is on the board
	readers map[string]*reader       // by name
	places  map[placeKey][]*reader   // by driver and id
	numbers map[any]map[int]placeKey // reader numbers in use, by driver
	clients map[SCardContext]*client
	handles map[Handle]*handle
	work    sync.WaitGroup // goroutines of readers and cleanups

	told repeats // what the log has been told of who keeps whom waiting
}

// placeKey identifies a reader of a driver.
type placeKey struct {
	driver any
	id     string
}

// NewManager makes a manager without readers; Plug gives it some.
func NewManager(o Options) *Manager {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.ReaderStates, 16)
	def(&o.HandlesPerClient, 200)
	def(&o.HandlesPerReader, 200)
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
		options: o, log: o.Logger, now: o.Now, settled: make(chan struct{}),
		board:   newBoard(max(o.ReaderStates, 16)),
		readers: map[string]*reader{}, places: map[placeKey][]*reader{}, numbers: map[any]map[int]placeKey{},
		clients: map[SCardContext]*client{}, handles: map[Handle]*handle{},
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

// Plug starts a driver, which runs until ctx ends or it gives up; what its Run returned is then in the channel, and its
// readers are gone.
func Plug[S Slot](ctx context.Context, m *Manager, d Driver[S]) <-chan error {
	key := new(int)
	m.pending.Add(1)
	settled := sync.OnceFunc(m.unpend)
	if r, ok := any(d).(Rescanner); ok {
		m.rescanMu.Lock()
		m.rescanner = append(m.rescanner, r)
		m.rescanMu.Unlock()
	}
	ended := make(chan error, 1)
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		err := d.Run(ctx, func(id, product, iface, serial string, slots []S) {
			general := make([]Slot, len(slots))
			for i, s := range slots {
				general[i] = s
			}
			m.attach(placeKey{key, id}, product, iface, serial, general)
		}, func(id string) { m.detach(placeKey{key, id}) }, settled)
		m.detachAll(key)
		settled()
		ended <- err
	}()
	return ended
}

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

// Ready says that all drivers have been plugged in: from then on the manager is settled as soon as they are.
func (m *Manager) Ready() { m.ready.Do(m.unpend) }

func (m *Manager) unpend() {
	if m.pending.Add(-1) == 0 {
		m.settle.Do(func() { close(m.settled) })
	}
}

// awaitReaders waits, within bounds, until the readers that were there at the start are known.
func (m *Manager) awaitReaders(ctx context.Context) {
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
	m.rescanMu.Lock()
	drivers := slices.Clone(m.rescanner)
	m.rescanMu.Unlock()
	for _, d := range drivers {
		d.Rescan()
	}
}

// rescan is Rescan for callers that must not wait.
func (m *Manager) rescan() { go m.Rescan() }

func (m *Manager) attach(key placeKey, product, iface, serial string, slots []Slot) {
	m.detach(key)
	if text := m.options.Names.text(product, iface, serial); m.options.Names.ignored(text) {
		m.log.Info("reader ignored", "reader", text)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
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
	if number > 0xFF || len(slots) == 0 {
		m.log.Error("reader refused", "reader", product, "slots", len(slots), "number", number)
		return
	}
	used[number] = key
	for i, slot := range slots {
		name := m.options.Names.readerName(product, iface, serial, number, i)
		for n := number; m.readers[name] != nil && n < 0xFF; n++ { // readers of two drivers may have the same text
			name = m.options.Names.readerName(product, iface, serial, n+1, i)
		}
		r := &reader{
			m:     m,
			name:  name,
			slot:  slot,
			place: -1,
			state: Absent,
			done:  make(chan struct{}),
		}
		r.ctx, r.stop = context.WithCancel(context.Background())
		m.readers[name] = r
		m.places[key] = append(m.places[key], r)
		m.start(r)
	}
}

// firstLook is how long a reader is kept back until it has said whether a card is there, so that a client which the
// daemon was started for finds its card.
const firstLook = 2 * time.Second

// start watches r and puts it on the board; m.mu is held.
func (m *Manager) start(r *reader) {
	m.pending.Add(1)
	before, shown := m.shown, make(chan struct{})
	m.shown = shown
	show := sync.OnceFunc(func() {
		defer close(shown)
		if before != nil {
			<-before // in the order in which they were attached
		}
		r.mu.Lock()
		if !r.gone {
			r.place = m.board.add(r.published())
			r.log().Info("reader added")
		}
		r.mu.Unlock()
		m.unpend()
	})
	late := time.AfterFunc(firstLook, show)
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		r.watchSlot(func() { late.Stop(); show() })
	}()
}

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
	for _, r := range gone {
		r.giveUp()
	}
}

// giveUp ends everything that waits for the reader. Calls into the slot end by themselves.
func (r *reader) giveUp() {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.stopIdle()
	r.owner, r.depth = nil, 0
	r.wakeAll(func(*lockWait) (Error, bool) { return ErrReaderUnavailable, true })
	if r.place >= 0 {
		r.m.board.remove(r.place)
		r.log().Info("reader removed")
	}
}

// Close gives all readers up and ends all waits. The ctx of every Plug must have ended before: Close waits for the
// drivers, but no longer than 5 s: a reader that does not answer must not keep the process from ending.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	keys := make([]placeKey, 0, len(m.places))
	for k := range m.places {
		keys = append(keys, k)
	}
	clients := make([]*client, 0, len(m.clients))
	for _, c := range m.clients {
		clients = append(clients, c)
	}
	m.mu.Unlock()
	for _, c := range clients {
		m.release(c)
	}
	for _, k := range keys {
		m.detach(k)
	}
	if !waitFor(&m.work, closeTime) {
		return errors.New("a reader does not answer")
	}
	return nil
}

// closeTime bounds the wait for readers that are busy when the service ends.
const closeTime = 5 * time.Second

// waitFor waits until group is done, at most for d, and tells whether it is.
func waitFor(group *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		group.Wait()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// client is an established context and its handles.
type client struct {
	m      *Manager
	id     SCardContext
	peer   *Peer // nil: this process
	ctx    context.Context
	cancel context.CancelFunc  // ends all waits of the client
	onWait func() (end func()) // called around a wait for a lock: ends ctx when the program dies; may be nil

	mu       sync.Mutex
	released bool
	handles  map[Handle]*handle
	waiting  *waiting // the GetStatusChange that runs, of an in-process client
}

// LogValue says who the client is.
func (c *client) LogValue() slog.Value {
	if c.peer == nil {
		return slog.StringValue("this process")
	}
	return c.peer.LogValue()
}

// establish makes a context; ctx ends its waits.
func (m *Manager) establish(ctx context.Context, peer *Peer) (*client, Error) {
	c := &client{m: m, peer: peer, handles: map[Handle]*handle{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		c.cancel()
		return nil, ErrShutdown
	}
	for c.id == 0 || m.clients[c.id] != nil {
		n, err := randomNumber()
		if err != nil {
			c.cancel()
			return nil, ErrInternalError
		}
		c.id = SCardContext(n)
	}
	m.clients[c.id] = c
	return c, ErrSuccess
}

// randomNumber is a positive number of 31 bits.
func randomNumber() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(b[:])&0x7FFFFFFF | 0x100, nil
}

// release ends a context: its waits, its handles. Cards that the client had locked are reset.
func (m *Manager) release(c *client) {
	c.mu.Lock()
	c.released = true
	handles := make([]*handle, 0, len(c.handles))
	for _, h := range c.handles {
		handles = append(handles, h)
	}
	clear(c.handles)
	c.mu.Unlock()
	c.cancel()
	m.mu.Lock()
	delete(m.clients, c.id)
	for _, h := range handles {
		delete(m.handles, h.id)
	}
	m.mu.Unlock()
	if len(handles) == 0 {
		return
	}
	var resets sync.WaitGroup
	for _, h := range handles {
		h.abandon(&resets)
	}
	waitFor(&resets, resetTime)
}

// resetTime is how long a release waits for the reset of cards that were locked, so that the next program finds them
// free; a reader that does not answer is no reason to wait longer.
const resetTime = 2 * time.Second

// abandon is Disconnect for a client that has gone without one.
func (h *handle) abandon(resets *sync.WaitGroup) {
	r := h.r
	r.mu.Lock()
	reset := r.owner == h && h.event == ErrSuccess && !r.gone && r.state&Present != 0
	if !reset {
		h.drop()
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	r.log().Info("the client is gone with the card locked: resetting it", "client", h.client)
	resets.Go(func() {
		r.driver.Lock()
		defer r.driver.Unlock()
		if h.locked(func() Error {
			if r.owner != h || h.event != ErrSuccess || r.gone {
				return ErrInvalidHandle
			}
			return ErrSuccess
		}) == ErrSuccess {
			r.power(ResetCard)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		h.drop()
	})
}

// drop takes h from its reader, with its lock; r.mu is held.
func (h *handle) drop() {
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
	if r.owner == h {
		r.free()
	}
	r.publishSharing()
	r.restartIdle()
}

// lookup finds the handle of a context, or of any when c is nil.
func (m *Manager) lookup(id Handle) (*handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.handles[id]; h != nil {
		return h, nil
	}
	return nil, ErrInvalidHandle
}

func (m *Manager) client(sc SCardContext) (*client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clients[sc]; c != nil {
		return c, nil
	}
	return nil, ErrInvalidHandle
}

// String tells about the manager for the log.
func (m *Manager) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%d readers, %d contexts, %d handles", len(m.readers), len(m.clients), len(m.handles))
}
