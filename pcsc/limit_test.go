package pcsc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// heldSlot is a slot at which a command can be held.
type heldSlot struct {
	instant
	hold chan struct{} // nil: nothing is held
}

func (s *heldSlot) Transmit(ctx context.Context, protocol uint32, command, reply []byte) ([]byte, error) {
	if s.hold != nil {
		<-s.hold
	}
	return s.instant.Transmit(ctx, protocol, command, reply)
}

type heldDriver struct{ slot *heldSlot }

func (d heldDriver) Run(ctx context.Context, attach func(id, product, iface, serial string, slots []*heldSlot), _ func(string), settled func()) error {
	attach("1", "R", "", "", []*heldSlot{d.slot})
	settled()
	<-ctx.Done()
	return nil
}

// limited is a manager with one reader, and programs of several users at it.
type limited struct {
	t    *testing.T
	m    *Manager
	slot *heldSlot
}

const limitedReader = "R 00 00"

// inLimited runs a test with a clock of its own.
func inLimited(t *testing.T, o Options, test func(l *limited)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &limited{t: t, m: NewManager(o), slot: &heldSlot{}}
		ctx, stop := context.WithCancel(t.Context())
		ended := Plug(ctx, l.m, heldDriver{l.slot})
		l.m.Ready()
		synctest.Wait()
		test(l)
		stop()
		<-ended
		l.m.Close()
	})
}

// program is a program of a user.
func (l *limited) program(uid uint32) *client {
	l.t.Helper()
	c, e := l.m.establish(l.t.Context(), &Peer{PID: 1, UID: uid})
	if e != ErrSuccess {
		l.t.Fatal(e)
	}
	return c
}

// connect connects a program of a user.
func (l *limited) connect(uid uint32) *handle {
	l.t.Helper()
	c := l.program(uid)
	h, _, e := c.connect(c.ctx, limitedReader, ShareShared, ProtocolAny)
	if e != ErrSuccess {
		l.t.Fatal(e)
	}
	return h
}

func (l *limited) expect(what string, got, want Error) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %v, want %v", what, got.Name(), want.Name())
	}
}

// later calls a function in a goroutine of its own.
func later(do func() Error) chan Error {
	result := make(chan Error, 1)
	go func() { result <- do() }()
	synctest.Wait()
	return result
}

// TestTransactionLimit: a user's transaction that keeps root waiting ends after ten seconds; one that keeps a user waiting
// does not.
func TestTransactionLimit(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder, user := l.connect(1000), l.connect(1001)
		l.expect("begin", holder.begin(holder.client.ctx), ErrSuccess)
		waiting := later(func() Error { return user.begin(user.client.ctx) })
		time.Sleep(time.Hour)
		l.expect("the holder after an hour", holder.locked(holder.mayExchange), ErrSuccess)

		began := time.Now()
		root := later(func() Error {
			h := l.connect(0)
			return h.begin(h.client.ctx)
		})
		l.expect("root", <-root, ErrSuccess)
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("root has waited for %v", d)
		}
		l.expect("the holder", holder.begin(holder.client.ctx), ErrResetCard)
		l.expect("who has waited too", <-waiting, ErrResetCard)
	})
}

// TestTransactionLimitAndCommands: a command that is at the reader is not disturbed, however long it takes.
func TestTransactionLimitAndCommands(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder := l.connect(1000)
		l.expect("begin", holder.begin(holder.client.ctx), ErrSuccess)
		l.slot.hold = make(chan struct{})
		command := later(func() Error {
			_, e := holder.transmit(ProtocolT1, []byte{0, 0xA4, 0, 0}, nil)
			return e
		})
		root := later(func() Error {
			c := l.program(0)
			_, _, e := c.connect(c.ctx, limitedReader, ShareShared, ProtocolAny)
			return e
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(command) != 0 || len(root) != 0 {
			t.Fatal("the command was disturbed")
		}
		close(l.slot.hold)
		l.expect("the command", <-command, ErrSuccess)
		l.expect("root", <-root, ErrSuccess)
		l.expect("the holder", holder.begin(holder.client.ctx), ErrResetCard)
	})
}

// TestWhoIsEndedLetsOthersBegin: the user whose transaction was ended cannot take the card again before root has it.
func TestWhoIsEndedLetsOthersBegin(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder := l.connect(1000)
		l.expect("begin", holder.begin(holder.client.ctx), ErrSuccess)
		root := l.connect0Waiting()
		time.Sleep(10 * time.Second)
		l.expect("root connects", <-root, ErrSuccess)
		reconnect := func() Error {
			_, e := holder.reconnect(ShareShared, ProtocolAny, LeaveCard)
			return e
		}
		l.expect("the holder reconnects", reconnect(), ErrSuccess)
		l.expect("the holder begins at once", holder.begin(holder.client.ctx), ErrSharingViolation)
		again := l.connect(1000)
		l.expect("so does another of its programs", again.begin(again.client.ctx), ErrSharingViolation)
		other := l.connect(1001)
		l.expect("another user", other.begin(other.client.ctx), ErrSuccess)
		l.expect("ends", other.end(LeaveCard), ErrSuccess)
		time.Sleep(barTime)
		l.expect("the holder later", holder.begin(holder.client.ctx), ErrSuccess)
	})
}

// connect0Waiting is a program of root's that waits for the reader.
func (l *limited) connect0Waiting() chan Error {
	return later(func() Error {
		c := l.program(0)
		_, _, e := c.connect(c.ctx, limitedReader, ShareShared, ProtocolAny)
		return e
	})
}

// TestTransactionLimitIsOff: with no limit root waits for ever; where root waits, it is the first.
func TestTransactionLimitIsOff(t *testing.T) {
	inLimited(t, Options{TransactionLimit: -1}, func(l *limited) {
		holder, user, admin := l.connect(1000), l.connect(1001), l.connect(0)
		l.expect("begin", holder.begin(holder.client.ctx), ErrSuccess)
		second := later(func() Error { return user.begin(user.client.ctx) })
		first := later(func() Error { return admin.begin(admin.client.ctx) })
		time.Sleep(time.Hour)
		l.expect("the holder", holder.end(LeaveCard), ErrSuccess)
		l.expect("root", <-first, ErrSuccess)
		if synctest.Wait(); len(second) != 0 {
			t.Error("the user has overtaken root")
		}
		l.expect("root ends", admin.end(LeaveCard), ErrSuccess)
		l.expect("the user", <-second, ErrSuccess)
	})
}

// TestConnectionsOfAUser: one user's programs do not take a reader from the others.
func TestConnectionsOfAUser(t *testing.T) {
	inLimited(t, Options{HandlesPerReader: 20}, func(l *limited) {
		open := func(uid uint32) (n int) {
			for {
				c := l.program(uid)
				if _, _, e := c.connect(c.ctx, limitedReader, ShareShared, ProtocolAny); e != ErrSuccess {
					l.expect("one too many", e, ErrNoMemory)
					return n
				}
				n++
			}
		}
		if got := []int{open(1000), open(1001), open(0)}; got[0] != 12 || got[1] != 6 || got[2] != 2 {
			t.Errorf("the users and root have %v connections", got)
		}
	})
}
