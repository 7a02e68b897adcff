package channel

import (
	"sync"
	"time"
)

// Busy is what a channel waits for, and since when, for whoever looks at several channels at once.
type Busy struct {
	// mu guards the fields below.
	mu    sync.Mutex
	since time.Time // zero: nothing
	phase phase
}

// phase is how far the reading of a card has come.
type phase int

// The phases.
const (
	queueing phase = iota // for the transactions of others
	refused               // the reader is another program's alone
	talking               // with the card
)

// begin notes that a call to the service begins.
func (b *Busy) begin() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()

	// Waiting for other programs counts as a whole, however many calls it takes.
	if b.phase == talking || b.since.IsZero() {
		b.since = time.Now()
	}
}

// end notes that the call has returned. Waiting for other programs goes on.
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

// reach notes how far the reading has come.
func (b *Busy) reach(p phase) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p != b.phase {
		b.phase = p
		b.since = time.Time{}
	}
}

// Bounds of the reading of a card: the time for another program to release the reader; for those
// that wait for the same card, each of which our daemon gives 10 s; and for one answer of the card
// or its reader.
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

// Over reports whether the wait has been long enough, and whether it is for the card and not for
// other programs.
func (b *Busy) Over(now time.Time, otherRead bool) (over, forCard bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	limit := map[phase]time.Duration{
		queueing: queueTime,
		refused:  refusedTime,
		talking:  answerTime,
	}[b.phase]

	// A short wait for this one is enough: the other card may be the user's.
	switch {
	case otherRead && b.phase == talking:
		limit = answerTimeShort
	case otherRead:
		limit = accessTimeShort
	}
	return !b.since.IsZero() && now.Sub(b.since) > limit, b.phase == talking
}
