package channel

import (
	"sync"
	"time"
)

// Busy tells what a channel waits for, and since when, to whoever looks at several at once.
type Busy struct {
	mu    sync.Mutex
	since time.Time // zero: nothing
	phase phase
}

// phase is how far a look at a card has come.
type phase int

const (
	queueing phase = iota // for the transactions of others
	refused               // the reader is another program's alone
	talking               // with the card
)

func (b *Busy) begin() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The wait for other programs is one, however often they are asked.
	if b.phase == talking || b.since.IsZero() {
		b.since = time.Now()
	}
}

func (b *Busy) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase == talking {
		b.since = time.Time{}
	}
}

// reach notes how far the look has come.
func (b *Busy) reach(p phase) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p != b.phase {
		b.phase, b.since = p, time.Time{}
	}
}

// Bounds of a look at a card: for another program to let go of the reader; for those that wait for
// the same card, each of which our daemon gives 10 s; for one answer of the card or its reader.
const (
	refusedTime = 2 * time.Second
	queueTime   = 12 * time.Second
	answerTime  = 5 * time.Second
)

// Bounds once another card was read: that one may be the user's.
const (
	accessTimeShort = 500 * time.Millisecond
	answerTimeShort = 2 * time.Second
)

// Over reports whether the wait has been long enough, and whether it is one for the card, and not
// for other programs.
func (b *Busy) Over(now time.Time, otherRead bool) (over, forCard bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := map[phase]time.Duration{
		queueing: queueTime,
		refused:  refusedTime,
		talking:  answerTime,
	}[b.phase]
	switch {
	case otherRead && b.phase == talking:
		limit = answerTimeShort
	case otherRead:
		limit = accessTimeShort
	}
	return !b.since.IsZero() && now.Sub(b.since) > limit, b.phase == talking
}
