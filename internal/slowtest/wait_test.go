package slowtest

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, calls := time.Now(), 0
		if !Poll(time.Second, time.Millisecond, func() bool { calls++; return calls == 3 }) || calls != 3 {
			t.Errorf("%d calls", calls)
		}
		if took := time.Since(start); took != 2*time.Millisecond {
			t.Errorf("it took %v", took)
		}

		start = time.Now()
		if Poll(time.Second, 300*time.Millisecond, func() bool { return false }) {
			t.Error("what never comes has come")
		}
		if took := time.Since(start); took != 1200*time.Millisecond {
			t.Errorf("it gave up after %v", took)
		}

		// What comes during the last pause counts.
		start = time.Now()
		if !Poll(time.Second, 2*time.Second, func() bool { return time.Since(start) > time.Second }) {
			t.Error("no last look")
		}
	})
}

func TestBuffer(t *testing.T) {
	var b Buffer
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() { fmt.Fprintf(&b, "%d", i) })
	}
	Until(t, "four letters", func() bool { return len(b.String()) == 4 })
	writers.Wait()
}
