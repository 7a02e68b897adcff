package resmgr

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// driverLock is a mutex around the calls to a slot. Waiting for it can be given up: a slot may be
// busy for minutes.
//
// Unlock leaves the lock free and wakes the first who waits; whoever comes meanwhile may take it.
// Handing it over each time would make every exchange wait until a goroutine that sleeps has been
// made to run, once the first had to wait: with cards that answer at once, clients then woke each
// other some hundred times as often. Who has been overtaken when it has waited for handOverTime is
// handed it the next time, so that nobody waits for ever. Those who wait get it in the order in
// which they came.
type driverLock struct {
	mu    sync.Mutex // guards the fields below; nobody waits while it is held
	held  bool
	woken bool // the first of queue has been woken, and has not looked yet
	queue []*driverWait
}

// driverWait is somebody who waits for a driverLock.
type driverWait struct {
	since     time.Time
	overtaken bool      // for so long that it is handed the lock; guarded by mu
	wake      chan bool // of capacity 1; true: the lock is handed over, false: it may be free
}

// handOverTime is how long others may overtake somebody who waits. sync.Mutex has the same.
const handOverTime = time.Millisecond

// TryLock takes the lock if it is free, and reports whether it was.
func (l *driverLock) TryLock() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return false
	}
	l.held = true
	return true
}

// Lock waits for the lock.
func (l *driverLock) Lock() {
	w := l.enqueue()
	for w != nil {
		if handed := <-w.wake; handed || l.takeFirst(w) {
			return
		}
	}
}

// Unlock frees the lock, or hands it over.
func (l *driverLock) Unlock() {
	l.mu.Lock()
	if len(l.queue) == 0 || !l.queue[0].overtaken {
		l.held = false
		l.wakeFirst()
		l.mu.Unlock()
		return
	}

	w := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	w.wake <- true
	l.mu.Unlock()
	runtime.Gosched() // all others wait for it now
}

// isHeld reports whether somebody has the lock.
func (l *driverLock) isHeld() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// enqueue takes the lock if it is free, and else waits for it; nil means that it was.
func (l *driverLock) enqueue() *driverWait {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		l.held = true
		return nil
	}
	w := &driverWait{since: time.Now(), wake: make(chan bool, 1)}
	l.queue = append(l.queue, w)
	return w
}

// takeFirst is what w does when it was woken: it takes the lock, if nobody has overtaken it.
func (l *driverLock) takeFirst(w *driverWait) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken = false
	if l.held {
		w.overtaken = time.Since(w.since) >= handOverTime
		return false
	}
	l.held = true
	l.queue = slices.Delete(l.queue, 0, 1) // w: only the first is woken
	return true
}

// giveUp ends a wait. What w was woken for, or handed, goes to the next.
func (l *driverLock) giveUp(w *driverWait) {
	l.mu.Lock()
	at := slices.Index(l.queue, w)
	if at < 0 {
		l.mu.Unlock()
		l.Unlock()
		return
	}
	defer l.mu.Unlock()
	l.queue = slices.Delete(l.queue, at, at+1)
	if at == 0 {
		l.woken = false
		l.wakeFirst()
	}
}

// wakeFirst has the first of those who wait look whether the lock is free; mu is held.
func (l *driverLock) wakeFirst() {
	if l.held || l.woken || len(l.queue) == 0 {
		return
	}
	l.woken = true
	l.queue[0].wake <- false
}

// usualWait is how long an exchange of another usually takes, at most. Who has waited longer is
// worth looking at: its program may have died meanwhile.
const usualWait = 20 * time.Millisecond

// lockFor waits for the lock until ctx ends, and reports whether it has the lock. onWait, unless nil,
// is called around a wait that is longer than usual.
func (l *driverLock) lockFor(ctx context.Context, onWait func() (end func())) bool {
	w := l.enqueue()
	if w == nil {
		return true
	}
	late := time.NewTimer(usualWait)
	defer late.Stop()
	for {
		select {
		case handed := <-w.wake:
			if handed || l.takeFirst(w) {
				return true
			}
		case <-ctx.Done():
			l.giveUp(w)
			return false
		case <-late.C:
			if onWait != nil {
				defer onWait()()
			}
		}
	}
}
