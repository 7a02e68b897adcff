package main

import (
	"sync"
	"time"
)

// longestLife is the time of its own that a worker may take. The host's deadline is shorter: this
// ends a worker whose host is stopped.
const longestLife = time.Hour

// lifetime ends a process after a time in which the time at open prompts does not count: a screen
// locker asks in the evening and is answered in the morning. The end of the host ends the worker at
// any time (watch).
type lifetime struct {
	mu    sync.Mutex // guards the fields below
	left  time.Duration
	since time.Time // when the timer was started
	timer *time.Timer
	end   func()
}

func newLifetime(d time.Duration, end func()) *lifetime {
	return &lifetime{
		left:  d,
		since: time.Now(),
		timer: time.AfterFunc(d, end),
		end:   end,
	}
}

// pause stops the time until the returned function is called. A nil lifetime has no end.
func (l *lifetime) pause() (resume func()) {
	if l == nil {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()

	l.timer.Stop()
	l.left -= time.Since(l.since)

	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.since = time.Now()
		// A time that is over by now ends the process at once.
		l.timer = time.AfterFunc(max(l.left, 0), l.end)
	}
}
