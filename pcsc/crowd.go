package pcsc

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// crowd counts the clients that are busy now. How the server waits for the next request depends on it: few clients are
// served fastest by a thread each, which the kernel wakes without a detour; with many the threads get in each other's
// way, and goroutines that one thread runs in turn, as the poller of the runtime finds their requests, do twice as much.
type crowd struct {
	begin       time.Time
	epoch       atomic.Int64 // the slice of time that count is for
	count, last atomic.Int32 // clients with a request in this slice and in the one before
}

// Slices of about 4 ms; from crowded clients on the poller waits, up to lonely ones a thread does.
const (
	crowdSlice = 22 // binary digits of nanoseconds
	crowded    = 4
	lonely     = 2
)

// note counts a client whose last request was in the slice given, and gives the slice of this one.
func (w *crowd) note(seen int64) int64 {
	now := int64(time.Since(w.begin))>>crowdSlice + 1
	if seen == now {
		return now
	}
	if before := w.epoch.Load(); before != now && w.epoch.CompareAndSwap(before, now) {
		w.last.Store(w.count.Swap(1))
		return now
	}
	w.count.Add(1)
	return now
}

func (w *crowd) busy() int { return int(max(w.count.Load(), w.last.Load())) }

// polled is a connection whose reads wait in the poller of the runtime, on a descriptor of its own.
type polled struct {
	conn net.Conn
	raw  syscall.RawConn
}

// newPolled takes a descriptor into the poller. Its reads and writes do not block any more.
func newPolled(fd int) (*polled, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(twin), "client")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &polled{conn, raw}, nil
}

// close takes the descriptor out again; fd, its twin, blocks as before.
func (p *polled) close(fd int) {
	p.conn.Close()
	unix.SetNonblock(fd, false)
}

// read waits until something is there. Once it gives the processor away first: a client that shares it may be about to
// ask, and parking the goroutine costs more.
func (p *polled) read(b []byte) (n int, err error) {
	tried := false
	outer := p.raw.Read(func(fd uintptr) bool {
		for {
			got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))),
				uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == 0:
				n = int(got)
				return true
			case errno == unix.EINTR:
			case errno != unix.EAGAIN:
				err = errno
				return true
			case tried:
				return false
			default:
				tried = true
				unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			}
		}
	})
	if err == nil {
		err = outer
	}
	return n, err
}

// read waits for bytes of a request; more says that some of it have come. A client without a context is always waited
// for by a thread, whose reads have a time limit.
func (c *conn) read(b []byte, more bool) (int, error) {
	if !more {
		c.epoch = c.s.crowd.note(c.epoch)
		c.settle()
	}
	if c.polled != nil {
		return c.polled.read(b)
	}
	return readSocket(c.fd, b, more)
}

// settle chooses how to wait for the next request.
func (c *conn) settle() {
	busy := c.s.crowd.busy()
	switch {
	case c.polled == nil && busy >= crowded && c.client != nil:
		p, err := newPolled(c.fd)
		if err != nil {
			c.log().Debug("waiting with a thread", "err", err)
			return
		}
		c.polled = p
	case c.polled != nil && (busy <= lonely || c.client == nil):
		c.unpoll()
	}
}

func (c *conn) unpoll() {
	if c.polled != nil {
		c.polled.close(c.fd)
		c.polled = nil
	}
}
