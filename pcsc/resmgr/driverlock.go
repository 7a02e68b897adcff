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
	mu    sync.Mutex // guards the fields below; never held while anything waits
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
	// All others wait for it now: it should run at once.
	runtime.Gosched()
}

// isHeld reports whether somebody has the lock.
func (l *driverLock) isHeld() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// enqueue takes the lock if it is free, and returns nil; else it returns a new place in the queue.
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

// takeFirst takes the lock for w, which was woken, unless somebody has overtaken it.
func (l *driverLock) takeFirst(w *driverWait) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.woken = false
	if l.held {
		w.overtaken = time.Since(w.since) >= handOverTime
		return false
	}

	l.held = true
	// The first is w: no other is woken.
	l.queue = slices.Delete(l.queue, 0, 1)
	return true
}

// giveUp ends a wait. What w was woken for, or handed, goes to the next.
func (l *driverLock) giveUp(w *driverWait) {
	l.mu.Lock()
	at := slices.Index(l.queue, w)
	// It was handed the lock at the same moment.
	if at < 0 {
		l.mu.Unlock()
		l.Unlock()
		return
	}

	defer l.mu.Unlock()
	l.queue = slices.Delete(l.queue, at, at+1)
	// It may have been woken for a free lock that nobody would look at now.
	if at == 0 {
		l.woken = false
		l.wakeFirst()
	}
}

// wakeFirst wakes the first in the queue to see whether the lock is free; mu is held.
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

// lockFor waits for the lock until ctx ends, and reports whether it has the lock. onWait, unless
// nil, is called around a wait that is longer than usual.
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
		// Once at most: the timer is not set again.
		case <-late.C:
			if onWait != nil {
				defer onWait()()
			}
		}
	}
}
