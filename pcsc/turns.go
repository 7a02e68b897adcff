package pcsc

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// turns is how a crowd of clients is served (see crowd). One more of them than there are processors has a turn: their next
// requests are waited for without a detour. With two more, they would take the processors from each other in the middle of
// a request, for milliseconds; without the one, a processor would stand idle while a turn goes on to the next. The others
// wait in an epoll, which is their queue, first come, first served. Who has nothing to ask passes its turn on, and so does
// who has had it for turnTime. A client and its goroutine that alternate on one processor are far faster than any that are
// woken from another, and nobody waits longer than for the turns of those before it.
type turns struct {
	watch *fdWatch
	begin time.Time
	done  chan struct{} // closed at usher's end

	mu      sync.Mutex
	guests  map[watched]*turn
	holders map[*turn]struct{}
	last    int32         // number of the last guest
	free    int           // turns that nobody has
	freed   chan struct{} // a word when there may be one
	ended   bool
}

const (
	turnTime  = 10 * time.Millisecond
	turnTries = 4                // how often it is looked for the next request before a turn is passed on
	workTime  = time.Millisecond // a request that takes longer loses its turn meanwhile
	slowWork  = time.Millisecond // a connection whose requests take longer keeps no turn while it works on one
)

// turn is a connection's place among them.
type turn struct {
	t       *turns
	key     watched
	granted chan struct{}
	holds   atomic.Bool
	working atomic.Int64 // since when, by turns.now; 0 while it waits
	queued  bool         // it waits for a turn; turns.mu

	// Of its goroutine.
	since int64 // when it got its turn
	slow  bool
}

var errTurnsEnded = errors.New("the server has ended")

// newTurns has so many turns. After close a guest that is still there reads an error, or what its client last sent.
func newTurns(count int) (*turns, error) {
	w, err := newFDWatch()
	if err != nil {
		return nil, err
	}
	t := &turns{watch: w, begin: time.Now(), done: make(chan struct{}), guests: map[watched]*turn{}, holders: map[*turn]struct{}{},
		free: count, freed: make(chan struct{}, 1)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(w.event)}); err != nil {
		w.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go t.usher()
	return t, nil
}

func (t *turns) close() {
	t.mu.Lock()
	t.ended = true
	for _, g := range t.guests {
		if g.queued {
			g.queued = false
			g.granted <- struct{}{}
		}
	}
	t.mu.Unlock()
	t.tellFreed()
	t.watch.wake()
	<-t.done
	t.watch.close()
}

func (t *turns) now() int64 { return int64(time.Since(t.begin)) + 1 }

func (t *turns) tellFreed() {
	select {
	case t.freed <- struct{}{}:
	default:
	}
}

// usher gives the free turns to those who have something to ask, and takes away the turns of those who work for too long.
func (t *turns) usher() {
	defer close(t.done)
	events := make([]unix.EpollEvent, 16)
	for {
		t.mu.Lock()
		free, ended := t.free, t.ended
		t.mu.Unlock()
		if ended {
			return
		}
		if free <= 0 {
			t.awaitFree()
			continue
		}
		n, err := unix.EpollWait(t.watch.epoll, events[:min(free, len(events))], -1)
		if err != nil && err != unix.EINTR {
			time.Sleep(workTime) // not to be expected; the queue must not stand still for ever
		}
		t.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			if t.grant(e) {
				t.free--
			}
		}
		t.mu.Unlock()
	}
}

// awaitFree waits for a free turn. Who works on a request for more than workTime, as nearly all real cards do, has lost
// its turn.
func (t *turns) awaitFree() {
	tick := time.NewTimer(workTime)
	defer tick.Stop()
	select {
	case <-t.freed:
	case <-tick.C:
		t.mu.Lock()
		now := t.now()
		for g := range t.holders {
			if w := g.working.Load(); w != 0 && now-w > int64(workTime) && g.giveUp() {
				t.free++
			}
		}
		t.mu.Unlock()
	}
}

// grant gives a turn to the connection of an event, if it is still there; t.mu is held.
func (t *turns) grant(e unix.EpollEvent) bool {
	g := t.guests[watched{e.Fd, e.Pad}]
	if g == nil || !g.queued {
		return false
	}
	g.queued = false
	unix.EpollCtl(t.watch.epoll, unix.EPOLL_CTL_DEL, int(g.key.fd), nil) // every write of its client would cost a look into the epoll
	g.holds.Store(true)
	t.holders[g] = struct{}{}
	g.granted <- struct{}{}
	return true
}

// enter takes a connection in, without a turn.
func (t *turns) enter(fd int) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, errTurnsEnded
	}
	t.last++
	g := &turn{t: t, key: watched{int32(fd), t.last}, granted: make(chan struct{}, 1)}
	t.guests[g.key] = g
	return g, nil
}

// leave takes it out.
func (g *turn) leave() {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	delete(g.t.guests, g.key)
	if !g.t.ended {
		unix.EpollCtl(g.t.watch.epoll, unix.EPOLL_CTL_DEL, int(g.key.fd), nil)
	}
	if g.giveUp() {
		g.t.next()
	}
}

// pass gives the turn, if it has one, to the next who has something to ask.
func (g *turn) pass() {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	if g.giveUp() {
		g.t.next()
	}
}

// giveUp tells whether it had a turn; t.mu is held, and the turn is the caller's then.
func (g *turn) giveUp() bool {
	delete(g.t.holders, g)
	return g.holds.Swap(false)
}

// next finds somebody for a turn; t.mu is held.
func (t *turns) next() {
	var e unix.EpollEvent
	for !t.ended {
		n, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(t.watch.epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
		if n != 1 {
			break
		}
		if t.grant(e) {
			return
		}
	}
	t.free++
	t.tellFreed()
}

// await waits in the queue for a turn, which comes when there is something to read.
func (g *turn) await() error {
	if err := g.queue(); err != nil {
		return err
	}
	<-g.granted
	g.since = g.t.now()
	return nil
}

// queue goes to the end of the queue, without a turn.
func (g *turn) queue() error {
	t := g.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errTurnsEnded
	}
	had := g.giveUp()
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: g.key.fd, Pad: g.key.number}
	err := unix.EpollCtl(t.watch.epoll, unix.EPOLL_CTL_ADD, int(g.key.fd), &e)
	g.queued = err == nil
	if had {
		t.next()
	}
	return err
}

// read waits until something is there; more says that a request has begun to come.
func (g *turn) read(b []byte, more bool) (int, error) {
	if !more {
		now := g.t.now()
		if w := g.working.Load(); w != 0 {
			g.slow = now-w > int64(slowWork)
		}
		g.working.Store(0)
		if g.holds.Load() && now-g.since > int64(turnTime) {
			if err := g.await(); err != nil {
				return g.alone(err, b)
			}
		}
	}
	for tried := 0; ; {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(g.key.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			g.working.Store(g.t.now())
			if g.slow {
				g.pass()
			}
			return int(n), nil
		case errno == unix.EINTR:
		case errno != unix.EAGAIN:
			return 0, errno
		case tried < turnTries && g.holds.Load():
			tried++
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // the client may share the processor
		default:
			tried = 0
			if err := g.await(); err != nil {
				return g.alone(err, b)
			}
		}
	}
}

// alone waits without the queue: the kernel may refuse a place in the epoll (epoll(7), max_user_watches), which must not
// cost a client its connection.
func (g *turn) alone(err error, b []byte) (int, error) {
	if errors.Is(err, errTurnsEnded) {
		return 0, err
	}
	n, err := readSocket(int(g.key.fd), b, false)
	g.working.Store(g.t.now())
	return n, err
}
