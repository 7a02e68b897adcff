package usb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/usb/device"
)

// stuck is a reader that can be made to keep its answers, so that a transfer is under way for as long as one likes.
type stuck struct {
	device.Function
	holds atomic.Bool
	held  chan struct{} // gets an element when an answer is kept
}

func (s *stuck) In(ctx context.Context, endpoint byte) ([]byte, error) {
	b, err := s.Function.In(ctx, endpoint)
	if err == nil && s.holds.Load() {
		select {
		case s.held <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b, err
}

// user is an application that never gives up: it sends commands to the first reader there is, over and over.
type user struct {
	answers atomic.Int64 // right ones
	wrong   atomic.Value // the first wrong one, as an error
	last    atomic.Value // what the last session ended with, as text
	stop    context.CancelFunc
	done    chan struct{}
}

// startUser starts one on a context of its own.
func startUser(t *testing.T, c *pcsc.Context, m model) *user {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	u := &user{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		r := rand.New(rand.NewPCG(2, 3))
		for ctx.Err() == nil {
			u.session(ctx, c, r, m)
			time.Sleep(time.Millisecond) // no reader, no card: look again
		}
	}()
	t.Cleanup(u.end)
	return u
}

func (u *user) end() {
	u.stop()
	<-u.done
}

// session uses a reader until something goes wrong.
func (u *user) session(ctx context.Context, c *pcsc.Context, r *rand.Rand, m model) {
	names := simulated(c)
	if len(names) == 0 {
		return
	}
	card, err := c.Connect(names[0], pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		u.last.Store(fmt.Sprintf("connecting to %s: %v", names[0], err))
		return
	}
	defer card.Disconnect(pcsc.LeaveCard)
	for ctx.Err() == nil {
		err := transmit(card, randomCommand(r, m))
		var failed pcsc.Error
		switch {
		case err == nil:
			u.answers.Add(1)
			continue
		case !errors.As(err, &failed):
			u.wrong.CompareAndSwap(nil, err)
		}
		u.last.Store(fmt.Sprintf("using %s: %v", names[0], err))
		return
	}
}

// awaitAnswers waits until the user has got some more.
func (u *user) awaitAnswers(t *testing.T) {
	t.Helper()
	before := u.answers.Load()
	eventually(t, "an answer of the card", func() error {
		if n := u.answers.Load() - before; n < 5 {
			return fmt.Errorf("there were %d; %v", n, u.last.Load())
		}
		return nil
	})
}

// resources are what a process that does the same thing over and over must not use more and more of.
type resources struct{ goroutines, files int }

func used(t *testing.T) resources {
	t.Helper()
	return resources{runtime.NumGoroutine(), openFiles(t)}
}

// sameAs waits until as much is used as before.
func (r resources) sameAs(t *testing.T, what string) {
	t.Helper()
	var now resources
	if slowtest.Poll(patience(), 20*time.Millisecond, func() bool {
		now = used(t)
		return now.goroutines <= r.goroutines && now.files <= r.files
	}) {
		return
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%s: %+v, and before %+v\n%s", what, now, r, stacks[:runtime.Stack(stacks, true)])
}

// removable are the models that a card can be put into.
func removable() []model {
	var all []model
	for _, m := range models() {
		if !m.isItsOwnReader() {
			all = append(all, m)
		}
	}
	return all
}

// TestPlugAndUnplug plugs readers in and out while a command is under way, two hundred times, and each time the reader
// must work and go.
func TestPlugAndUnplug(t *testing.T) {
	const times = 200
	before := used(t)
	t.Run("", func(t *testing.T) {
		c := startOurs(t)
		for _, m := range models() {
			u := startUser(t, c, m)
			for i := range times / len(models()) {
				plugAndUnplug(t, m, u, i%2 == 0)
				readers(t, c, 0)
			}
			if err := u.wrong.Load(); err != nil {
				t.Error(m.name, err)
			}
			u.end()
		}
	})
	before.sameAs(t, "after plugging in and out")
}

// plugAndUnplug lets the user work with a reader, and pulls it out: while it keeps an answer, or at any moment.
func plugAndUnplug(t *testing.T, m model, u *user, hold bool) {
	t.Helper()
	b := bareBench(t, m)
	defer b.unplug()
	for _, p := range m.slots {
		b.card(p)
	}
	s := &stuck{held: make(chan struct{}, 1)}
	b.plug(func(f device.Function) device.Function { s.Function = f; return s })
	u.awaitAnswers(t)
	if hold && !m.isItsOwnReader() {
		s.holds.Store(true)
		<-s.held
	}
}

// TestBusReset resets the port behind the driver's back while commands are under way: the reader must come back.
func TestBusReset(t *testing.T) {
	all := removable()
	if !inMachine() {
		all = all[:4] // each takes two seconds, which the driver gives the device
	}
	before := used(t)
	t.Run("", func(t *testing.T) {
		for _, m := range all {
			t.Run(m.name, func(t *testing.T) {
				b := newBench(t, m)
				c := startOurs(t)
				for _, p := range m.slots {
					b.insert(c, p)
				}
				u := startUser(t, c, m)
				for range 2 {
					u.awaitAnswers(t)
					if err := b.port.Reset(); err != nil {
						t.Fatal(err)
					}
				}
				u.awaitAnswers(t)
				if err := u.wrong.Load(); err != nil {
					t.Error(err)
				}
				u.end()
			})
		}
	})
	before.sameAs(t, "after resets")
}
