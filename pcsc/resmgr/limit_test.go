package resmgr

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// heldSlot is a slot at which a command can be held.
type heldSlot struct {
	pcsctest.InstantSlot
	hold chan struct{} // nil: nothing is held
}

func (s *heldSlot) Transmit(ctx context.Context, protocol uint32, command, reply []byte) ([]byte, error) {
	if s.hold != nil {
		<-s.hold
	}
	return s.InstantSlot.Transmit(ctx, protocol, command, reply)
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
		l := &limited{t: t, m: New(o), slot: &heldSlot{}}
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
func (l *limited) program(uid uint32) *Client {
	l.t.Helper()
	c, e := l.m.Establish(l.t.Context(), &Peer{PID: 1, UID: uid})
	if e != pcsc.ErrSuccess {
		l.t.Fatal(e)
	}
	return c
}

// connect connects a program of a user.
func (l *limited) connect(uid uint32) *Connection {
	l.t.Helper()
	c := l.program(uid)
	h, _, e := c.connect(c.ctx, limitedReader, pcsc.ShareShared, pcsc.ProtocolAny)
	if e != pcsc.ErrSuccess {
		l.t.Fatal(e)
	}
	return h
}

func (l *limited) expect(what string, got, want pcsc.Error) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %v, want %v", what, got.Name(), want.Name())
	}
}

// later calls a function in a goroutine of its own.
func later(do func() pcsc.Error) chan pcsc.Error {
	result := make(chan pcsc.Error, 1)
	go func() { result <- do() }()
	synctest.Wait()
	return result
}

// TestTransactionLimit: a user's transaction that keeps root waiting ends after ten seconds; one that keeps a user waiting
// does not.
func TestTransactionLimit(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder, user := l.connect(1000), l.connect(1001)
		l.expect("begin", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSuccess)
		waiting := later(func() pcsc.Error { return user.BeginTransaction(user.client.ctx) })
		time.Sleep(time.Hour)
		l.expect("the holder after an hour", holder.locked(holder.mayExchange), pcsc.ErrSuccess)

		began := time.Now()
		root := later(func() pcsc.Error {
			h := l.connect(0)
			return h.BeginTransaction(h.client.ctx)
		})
		l.expect("root", <-root, pcsc.ErrSuccess)
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("root has waited for %v", d)
		}
		l.expect("the holder", holder.BeginTransaction(holder.client.ctx), pcsc.ErrResetCard)
		l.expect("who has waited too", <-waiting, pcsc.ErrResetCard)
	})
}

// TestTransactionLimitAndCommands: a command that is at the reader is not disturbed, however long it takes.
func TestTransactionLimitAndCommands(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder := l.connect(1000)
		l.expect("begin", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSuccess)
		l.slot.hold = make(chan struct{})
		command := later(func() pcsc.Error {
			_, e := holder.Transmit(pcsc.ProtocolT1, []byte{0, 0xA4, 0, 0}, nil)
			return e
		})
		root := later(func() pcsc.Error {
			c := l.program(0)
			_, _, e := c.connect(c.ctx, limitedReader, pcsc.ShareShared, pcsc.ProtocolAny)
			return e
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(command) != 0 || len(root) != 0 {
			t.Fatal("the command was disturbed")
		}
		close(l.slot.hold)
		l.expect("the command", <-command, pcsc.ErrSuccess)
		l.expect("root", <-root, pcsc.ErrSuccess)
		l.expect("the holder", holder.BeginTransaction(holder.client.ctx), pcsc.ErrResetCard)
	})
}

// TestWhoIsEndedLetsOthersBegin: the user whose transaction was ended cannot take the card again before root has it.
func TestWhoIsEndedLetsOthersBegin(t *testing.T) {
	inLimited(t, Options{}, func(l *limited) {
		holder := l.connect(1000)
		l.expect("begin", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSuccess)
		root := l.connect0Waiting()
		time.Sleep(10 * time.Second)
		l.expect("root connects", <-root, pcsc.ErrSuccess)
		reconnect := func() pcsc.Error {
			_, e := holder.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
			return e
		}
		l.expect("the holder reconnects", reconnect(), pcsc.ErrSuccess)
		l.expect("the holder begins at once", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSharingViolation)
		again := l.connect(1000)
		l.expect("so does another of its programs", again.BeginTransaction(again.client.ctx), pcsc.ErrSharingViolation)
		other := l.connect(1001)
		l.expect("another user", other.BeginTransaction(other.client.ctx), pcsc.ErrSuccess)
		l.expect("ends", other.EndTransaction(pcsc.LeaveCard), pcsc.ErrSuccess)
		time.Sleep(barTime)
		l.expect("the holder later", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSuccess)
	})
}

// connect0Waiting is a program of root's that waits for the reader.
func (l *limited) connect0Waiting() chan pcsc.Error {
	return later(func() pcsc.Error {
		c := l.program(0)
		_, _, e := c.connect(c.ctx, limitedReader, pcsc.ShareShared, pcsc.ProtocolAny)
		return e
	})
}

// TestTransactionLimitIsOff: with no limit root waits for ever; where root waits, it is the first.
func TestTransactionLimitIsOff(t *testing.T) {
	inLimited(t, Options{TransactionLimit: -1}, func(l *limited) {
		holder, user, admin := l.connect(1000), l.connect(1001), l.connect(0)
		l.expect("begin", holder.BeginTransaction(holder.client.ctx), pcsc.ErrSuccess)
		second := later(func() pcsc.Error { return user.BeginTransaction(user.client.ctx) })
		first := later(func() pcsc.Error { return admin.BeginTransaction(admin.client.ctx) })
		time.Sleep(time.Hour)
		l.expect("the holder", holder.EndTransaction(pcsc.LeaveCard), pcsc.ErrSuccess)
		l.expect("root", <-first, pcsc.ErrSuccess)
		if synctest.Wait(); len(second) != 0 {
			t.Error("the user has overtaken root")
		}
		l.expect("root ends", admin.EndTransaction(pcsc.LeaveCard), pcsc.ErrSuccess)
		l.expect("the user", <-second, pcsc.ErrSuccess)
	})
}

// TestConnectionsOfAUser: one user's programs do not take a reader from the others.
func TestConnectionsOfAUser(t *testing.T) {
	inLimited(t, Options{HandlesPerReader: 20}, func(l *limited) {
		open := func(uid uint32) (n int) {
			for {
				c := l.program(uid)
				if _, _, e := c.connect(c.ctx, limitedReader, pcsc.ShareShared, pcsc.ProtocolAny); e != pcsc.ErrSuccess {
					l.expect("one too many", e, pcsc.ErrNoMemory)
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
