package slowtest

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Patience is longer than anything takes that comes at all, on a machine that has much else to do.
const Patience = time.Minute

// Until returns when done reports true, and fails the test when it has not within Patience. what
// says in the failure what was waited for.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !Poll(Patience, time.Millisecond, done) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// Poll calls done until it reports true, which is the result, with a pause between two calls. It
// gives up at the limit, after a last call.
func Poll(limit, pause time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(pause) {
		late := time.Now().After(end)
		if done() {
			return true
		}
		if late {
			return false
		}
	}
}

// Buffer collects what a program or another goroutine writes while a test reads it. The zero value
// is empty and ready.
type Buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write appends p; it never fails.
func (w *Buffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// String is what has been written so far.
func (w *Buffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
