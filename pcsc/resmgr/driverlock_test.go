package resmgr

import (
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDriverLockIsNotHandedOver: who frees the lock can have it again, though somebody sleeps who
// waits for it. With a lock that is handed over, each exchange would wait until that one has been
// made to run.
func TestDriverLockIsNotHandedOver(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // nobody runs between two lines, nearly always
	synctest.Test(t, func(t *testing.T) {
		var l driverLock
		again := false
		for range 100 {
			l.Lock()
			var waiter sync.WaitGroup
			waiter.Go(func() {
				l.Lock()
				defer l.Unlock()
			})
			synctest.Wait()
			l.Unlock()
			if l.TryLock() {
				again = true
				l.Unlock()
			}
			waiter.Wait()
		}
		if !again {
			t.Error("who has freed the lock never got it before the one who was asleep")
		}
	})
}

// TestDriverLockInTurn: others who take the lock again and again overtake nobody for longer than
// handOverTime, and those who wait get it in the order in which they came.
func TestDriverLockInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := handOverTime / 4
		var l driverLock
		ctx := t.Context()
		end := make(chan struct{})
		var others, waiters sync.WaitGroup
		for range 2 {
			others.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
					}
					l.Lock()
					time.Sleep(held)
					l.Unlock()
				}
			})
		}
		time.Sleep(held / 2)

		const count = 5
		most := 2*handOverTime + count*2*held
		var order []int // guarded by l
		for i := range count {
			waiters.Go(func() {
				begin := time.Now()
				if !l.lockFor(ctx, nil) {
					t.Error("given up")
					return
				}
				defer l.Unlock()
				order = append(order, i)
				if waited := time.Since(begin); waited > most {
					t.Errorf("%d has waited for %v, want at most %v", i, waited, most)
				}
				time.Sleep(held)
			})
			time.Sleep(time.Microsecond)
		}
		waiters.Wait()
		close(end)
		others.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("the order is %v", order)
			}
		}
	})
}

// TestDriverLockGivenUp: a wait that is given up neither keeps the lock nor swallows what another
// was woken by.
func TestDriverLockGivenUp(t *testing.T) {
	var l driverLock
	var all sync.WaitGroup
	inside, got, given := 0, 0, 0 // guarded by l, and by counts
	var counts sync.Mutex
	for range 8 {
		all.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
				has := l.lockFor(ctx, nil)
				if has {
					if inside++; inside != 1 {
						t.Error("two have the lock")
					}
					if rand.IntN(50) == 0 {
						time.Sleep(handOverTime) // the real clock's, so that some give up meanwhile
					}
					inside--
					l.Unlock()
				}
				cancel()
				counts.Lock()
				if has {
					got++
				} else {
					given++
				}
				counts.Unlock()
			}
		})
	}
	all.Wait()
	if l.held || len(l.queue) != 0 {
		t.Errorf("held %v, %d wait at the end", l.held, len(l.queue))
	}
	if got == 0 || given == 0 {
		t.Errorf("%d got it, %d gave up: nothing was tried", got, given)
	}
}

// wakeups is how many times a goroutine has been made to run, as far as the runtime counts: every
// eighth.
func wakeups() (n uint64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	for _, c := range sample[0].Value.Float64Histogram().Counts {
		n += c
	}
	return 8 * n
}

// BenchmarkDriverLock is several clients at one slot whose card answers at once. What counts on a
// busy machine is how often somebody has to be woken for an exchange: 0.0004 times, and 0.1 times
// when the lock is handed over.
func BenchmarkDriverLock(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // as in the daemon
	b.ReportAllocs()
	var l driverLock
	before := wakeups()
	var all sync.WaitGroup
	const clients = 3
	for range clients {
		all.Go(func() {
			ctx := b.Context()
			spin := func(n int) {
				for range n {
					runtime.KeepAlive(ctx)
				}
			}
			for range b.N / clients {
				if !l.TryLock() {
					l.lockFor(ctx, nil)
				}
				spin(300) // the exchange
				l.Unlock()
				spin(3000) // what goes on at the socket
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(wakeups()-before)/float64(b.N), "wakeups/op")
}
