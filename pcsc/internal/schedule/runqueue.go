package schedule

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runQueue limits how many connections may poll their socket at once: those that have a slot. There
// is one slot more than there are processors. The others wait in an epoll set, first come, first
// served, and dispatch gives them the slots that become free. Without the limit one client waited
// for up to 830 ms among 100 (test/pcsc/bench).
//
// Whoever has nothing to read gives its slot to the next, and so does who has had it for slotTime.
// A slot is taken from a connection that works on a request for longer than workTime.
type runQueue struct {
	watch *fdWatch // for its epoll set, in which those wait who have no slot
	begin time.Time
	done  chan struct{} // closed at dispatch's end

	mu      sync.Mutex // guards the fields below
	places  map[watched]*place
	holders map[*place]struct{} // who have a slot
	last    int32               // number of the last place
	free    int                 // slots that nobody has
	freed   chan struct{}       // gets an element when there may be a free slot
	ended   bool
}

const (
	slotTime  = 10 * time.Millisecond // how long a connection with more to read keeps its slot
	slotTries = 4                     // how often a request is looked for before the slot goes on
	workTime  = time.Millisecond      // a request that takes longer loses its slot meanwhile
	slowWork  = time.Millisecond      // with slower requests a connection keeps no slot during one
)

// place is a connection in the queue.
type place struct {
	q       *runQueue
	key     watched
	granted chan struct{} // gets an element with a slot
	holds   atomic.Bool   // has a slot
	working atomic.Int64  // begin of the present request, by runQueue.now; 0: none
	queued  bool          // waits for a slot; guarded by runQueue.mu

	// Owned by the connection's goroutine; not guarded.
	since int64 // when it got its slot
	slow  bool  // its last request took longer than slowWork
}

var errEnded = errors.New("the server has ended")

// newRunQueue makes a queue with count slots. After close a connection that is still there reads an
// error, or what its client last sent.
func newRunQueue(count int) (*runQueue, error) {
	w, err := newFDWatch()
	if err != nil {
		return nil, err
	}
	q := &runQueue{
		watch:   w,
		begin:   time.Now(),
		done:    make(chan struct{}),
		places:  map[watched]*place{},
		holders: map[*place]struct{}{},
		free:    count,
		freed:   make(chan struct{}, 1),
	}

	wake := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(w.event)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.event, &wake); err != nil {
		w.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go q.dispatch()
	return q, nil
}

// close ends the queue, and waits for the end of dispatch.
func (q *runQueue) close() {
	q.mu.Lock()
	// Those who wait are woken without a slot: they read what is there, or find the queue ended.
	q.ended = true
	for _, p := range q.places {
		if p.queued {
			p.queued = false
			p.granted <- struct{}{}
		}
	}
	q.mu.Unlock()

	// dispatch sleeps in awaitFree or in EpollWait.
	q.tellFreed()
	q.watch.wake()
	<-q.done
	q.watch.close()
}

func (q *runQueue) now() int64 { return int64(time.Since(q.begin)) + 1 }

func (q *runQueue) tellFreed() {
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// dispatch gives the free slots to those who have something to read, and takes away the slots of
// those who work for too long. It runs until the queue is closed.
func (q *runQueue) dispatch() {
	defer close(q.done)

	events := make([]unix.EpollEvent, 16)
	for {
		q.mu.Lock()
		free, ended := q.free, q.ended
		q.mu.Unlock()
		if ended {
			return
		}

		if free <= 0 {
			q.awaitFree()
			continue
		}

		// No more events than free slots: what is not fetched keeps its place
		// in the kernel's order.
		n, err := unix.EpollWait(q.watch.epoll, events[:min(free, len(events))], -1)
		if err != nil && err != unix.EINTR {
			time.Sleep(workTime) // not to be expected; the queue must not stand still for ever
		}

		q.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			if q.grant(e) {
				q.free--
			}
		}
		q.mu.Unlock()
	}
}

// awaitFree waits for a free slot. Who works on a request for more than workTime, as with nearly
// all real cards, has lost its slot.
func (q *runQueue) awaitFree() {
	tick := time.NewTimer(workTime)
	defer tick.Stop()

	select {
	case <-q.freed:
	case <-tick.C:
		q.mu.Lock()
		now := q.now()
		// A slot of somebody who waits for a card is idle: no processor needs it.
		for p := range q.holders {
			if w := p.working.Load(); w != 0 && now-w > int64(workTime) && p.takeSlot() {
				q.free++
			}
		}
		q.mu.Unlock()
	}
}

// grant gives a slot to the connection of an event, and reports whether it is
// still there; q.mu is held.
func (q *runQueue) grant(e unix.EpollEvent) bool {
	p := q.places[watched{e.Fd, e.Pad}]
	if p == nil || !p.queued {
		return false
	}

	p.queued = false
	// If it stayed in the set, every write of its client would cost a look into that.
	unix.EpollCtl(q.watch.epoll, unix.EPOLL_CTL_DEL, int(p.key.fd), nil)

	p.holds.Store(true)
	q.holders[p] = struct{}{}
	p.granted <- struct{}{}
	return true
}

// enter takes a connection in, without a slot.
func (q *runQueue) enter(fd int) (*place, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return nil, errEnded
	}

	q.last++
	p := &place{q: q, key: watched{int32(fd), q.last}, granted: make(chan struct{}, 1)}
	q.places[p.key] = p
	return p, nil
}

// leave removes the connection, and passes its slot on.
func (p *place) leave() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	delete(p.q.places, p.key)
	// A closed set's descriptor may be another file's by now.
	if !p.q.ended {
		unix.EpollCtl(p.q.watch.epoll, unix.EPOLL_CTL_DEL, int(p.key.fd), nil)
	}

	if p.takeSlot() {
		p.q.next()
	}
}

// yield gives the slot, if it has one, to the next who has something to read.
func (p *place) yield() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	if p.takeSlot() {
		p.q.next()
	}
}

// takeSlot takes the slot away, and reports whether there was one: it is the caller's then.
// runQueue.mu is held.
func (p *place) takeSlot() bool {
	delete(p.q.holders, p)
	return p.holds.Swap(false)
}

// next gives a slot that the caller has to somebody who has something to read, or
// frees it; q.mu is held.
func (q *runQueue) next() {
	var e unix.EpollEvent
	for !q.ended {
		// A timeout of 0: it looks, and does not wait.
		n, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT,
			uintptr(q.watch.epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
		if n != 1 {
			break
		}
		if q.grant(e) {
			return
		}
	}

	q.free++
	q.tellFreed()
}

// awaitSlot waits in the queue for a slot, which comes when there is something to read.
func (p *place) awaitSlot() error {
	if err := p.queue(); err != nil {
		return err
	}
	<-p.granted
	p.since = p.q.now()
	return nil
}

// queue passes the slot on, and goes to the end of the queue.
func (p *place) queue() error {
	q := p.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return errEnded
	}

	had := p.takeSlot()
	e := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd:     p.key.fd,
		Pad:    p.key.number,
	}

	err := unix.EpollCtl(q.watch.epoll, unix.EPOLL_CTL_ADD, int(p.key.fd), &e)
	p.queued = err == nil
	// Only now: where nobody else has anything to read, the slot may come back to this connection.
	if had {
		q.next()
	}
	return err
}

// read waits until something is there; more reports that a request has begun to come.
func (p *place) read(b []byte, more bool) (int, error) {
	if !more {
		if err := p.endRequest(); err != nil {
			return p.blockingRead(err, b)
		}
	}

	for tried := 0; ; {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM,
			uintptr(p.key.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_DONTWAIT, 0, 0)

		switch {
		case errno == 0:
			p.working.Store(p.q.now())
			// Its requests take long: another connection can use the slot meanwhile.
			if p.slow {
				p.yield()
			}
			return int(n), nil
		case errno == unix.EINTR:
		case errno != unix.EAGAIN:
			return 0, errno
		case tried < slotTries && p.holds.Load():
			tried++
			// The client may share the processor, and cannot send before it runs.
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		default:
			tried = 0
			if err := p.awaitSlot(); err != nil {
				return p.blockingRead(err, b)
			}
		}
	}
}

// endRequest notes that the last request has been answered. A connection that has had its slot for
// slotTime goes to the end of the queue.
func (p *place) endRequest() error {
	now := p.q.now()
	if began := p.working.Swap(0); began != 0 {
		p.slow = now-began > int64(slowWork)
	}

	if p.holds.Load() && now-p.since > int64(slotTime) {
		return p.awaitSlot()
	}
	return nil
}

// blockingRead waits without the queue: the kernel may refuse a place in the epoll set (epoll(7),
// max_user_watches), which must not cost a client its connection.
func (p *place) blockingRead(err error, b []byte) (int, error) {
	if errors.Is(err, errEnded) {
		return 0, err
	}

	n, err := readSocket(int(p.key.fd), b, false)
	// Back in the queue, endRequest measures this request as any other.
	p.working.Store(p.q.now())
	return n, err
}
