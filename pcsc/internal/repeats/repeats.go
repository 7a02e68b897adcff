// Package repeats keeps what happens again and again from filling the log.
package repeats

import (
	"sync"
	"time"
)

// Lines keeps lines from being repeated: of what has the same key the first is said at once, and then, once a minute, how
// often it has happened since.
type Lines struct {
	mu    sync.Mutex     // guards again
	again map[string]int // how often since it was last said, by key
}

const (
	repeatTime = time.Minute
	mostKeys   = 1000 // beyond, all others have one key
)

// Say calls line at once, or counts. line is told how often the same has happened since it was last called.
func (r *Lines) Say(key string, line func(repeated int)) {
	if key, first := r.count(key); first {
		line(0)
		r.later(key, line)
	}
}

// SayLocked is Say for callers that hold a lock: line has a goroutine of its own, as the log may be slow.
func (r *Lines) SayLocked(key string, line func(repeated int)) {
	if key, first := r.count(key); first {
		go line(0)
		r.later(key, line)
	}
}

// count counts, and reports whether it was the first, under which key.
func (r *Lines) count(key string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.again) >= mostKeys {
		key = ""
	}
	if _, said := r.again[key]; said {
		r.again[key]++
		return key, false
	}
	if r.again == nil {
		r.again = map[string]int{}
	}
	r.again[key] = 0
	return key, true
}

func (r *Lines) later(key string, line func(repeated int)) {
	time.AfterFunc(repeatTime, func() { r.minute(key, line) })
}

// minute says what has happened in the last one, or forgets the key.
func (r *Lines) minute(key string, line func(repeated int)) {
	r.mu.Lock()
	n := r.again[key]
	if n == 0 {
		delete(r.again, key)
		r.mu.Unlock()
		return
	}
	r.again[key] = 0
	r.mu.Unlock()

	line(n)
	r.later(key, line)
}
