package repeats

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepeats: the first is said at once, the others once a minute with their number, and then it is quiet.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Lines
		var mu sync.Mutex
		var said []string
		say := func(key string) {
			r.Say(key, func(n int) {
				mu.Lock()
				defer mu.Unlock()
				said = append(said, fmt.Sprint(key, n))
			})
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if slices.Sort(said); !slices.Equal(said, want) {
				t.Errorf("said %q, want %q", said, want)
			}
			said = nil
		}
		for range 100 {
			say("a")
		}
		say("b")
		expect("a0", "b0")
		time.Sleep(repeatTime + time.Second)
		expect("a99")
		say("a")
		say("b")
		expect("b0")
		time.Sleep(5 * repeatTime)
		expect("a1")
		say("a")
		expect("a0")
		time.Sleep(5 * repeatTime)

		for n := range 2 * mostKeys {
			say(fmt.Sprint(n))
		}
		synctest.Wait()
		mu.Lock()
		if len(said) != mostKeys+1 {
			t.Errorf("%d lines", len(said))
		}
		mu.Unlock()
		time.Sleep(3 * repeatTime)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.again) != 0 {
			t.Errorf("%d keys are kept", len(r.again))
		}
	})
}
