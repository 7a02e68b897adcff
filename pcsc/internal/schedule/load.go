package schedule

import (
	"sync/atomic"
	"time"
)

// clientLoad counts the clients that are busy now. How the next request is waited for depends on
// it: few clients are served fastest by a thread each, which the kernel wakes without a detour;
// with many the threads get in each other's way, and they wait in the run queue.
type clientLoad struct {
	begin       time.Time
	epoch       atomic.Int64 // the slice of time that count is for
	count, last atomic.Int32 // clients with a request in this slice and in the one before
}

// Slices of time are about 4 ms long. From manyBusy clients on they wait in the run queue, and up
// to fewBusy in a thread each.
const (
	loadSlice = 22 // binary digits of nanoseconds
	manyBusy  = 4
	fewBusy   = 2
)

// note counts a client whose last request was in the slice of time seen, and returns
// the slice of this one.
func (w *clientLoad) note(seen int64) int64 {
	now := int64(time.Since(w.begin))>>loadSlice + 1
	if seen == now {
		return now
	}

	// Of the clients that find a new slice, the one that swaps the epoch moves the count.
	if before := w.epoch.Load(); before != now && w.epoch.CompareAndSwap(before, now) {
		w.last.Store(w.count.Swap(1))
		return now
	}

	w.count.Add(1)
	return now
}

// busy is how many clients are busy.
func (w *clientLoad) busy() int { return int(max(w.count.Load(), w.last.Load())) }
