// Package repeats keeps events that happen again and again from filling the log.
package repeats

import (
	"sync"
	"time"
)

// Lines limits how often the same line is logged: of the lines with one key the first is logged at
// once, and then, once a minute, how often it has come since.
type Lines struct {
	mu    sync.Mutex     // guards the field below
	again map[string]int // by key: how often it has come since it was last logged
}

const (
	repeatTime = time.Minute
	mostKeys   = 1000 // beyond them all others share one key
)

// Say calls line at once, or counts. repeated is how often the same has come
// since line was last called.
func (r *Lines) Say(key string, line func(repeated int)) {
	if key, first := r.count(key); first {
		line(0)
		r.later(key, line)
	}
}

// SayLocked is Say for callers that hold a lock: line runs in a goroutine of its own,
// as the log may be slow.
func (r *Lines) SayLocked(key string, line func(repeated int)) {
	if key, first := r.count(key); first {
		go line(0)
		r.later(key, line)
	}
}

// count counts an event. It returns the key that counts, and whether it was the first with it.
func (r *Lines) count(key string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Keys may hold what clients choose. The map must not grow with them.
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

// minute logs what has come in the last minute, or forgets the key.
func (r *Lines) minute(key string, line func(repeated int)) {
	r.mu.Lock()
	n := r.again[key]
	// The next event with the key is logged at once again.
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
