package channel

import (
	"sync"
	"time"
)

// Busy tells what a channel waits for, and since when, to whoever looks at several at once.
type Busy struct {
	mu      sync.Mutex
	since   time.Time // zero: nothing
	talking bool      // the card has answered something
}

func (b *Busy) begin() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The wait for other programs is one, however often they are asked.
	if b.talking || b.since.IsZero() {
		b.since = time.Now()
	}
}

func (b *Busy) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.talking {
		b.since = time.Time{}
	}
}

// talk notes that the card is this program's alone from now on.
func (b *Busy) talk() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.talking, b.since = true, time.Time{}
}

// Bounds of a look at a card: for other programs to let go of it, and for one answer of the card or
// its reader. They are shorter once another card was read: that one may be the user's.
const (
	accessTime      = 2 * time.Second
	accessTimeShort = 500 * time.Millisecond
	answerTime      = 5 * time.Second
	answerTimeShort = 2 * time.Second
)

// Over reports whether the wait has been long enough, and what it was for.
func (b *Busy) Over(now time.Time, otherRead bool) (over, talking bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := accessTime
	switch {
	case b.talking && otherRead:
		limit = answerTimeShort
	case b.talking:
		limit = answerTime
	case otherRead:
		limit = accessTimeShort
	}
	return !b.since.IsZero() && now.Sub(b.since) > limit, b.talking
}
