package schedule

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fast is what New makes.
type fast struct {
	watch *fdWatch
	queue *runQueue
	load  clientLoad
	close sync.Once
}

// New is the Scheduler for a daemon with many clients.
func New() (Scheduler, error) {
	watch, err := newFDWatch()
	if err != nil {
		return nil, err
	}

	queue, err := newRunQueue(runtime.NumCPU() + 1)
	// On an error nothing was started that uses the watch.
	if err != nil {
		watch.close()
		return nil, err
	}
	return &fast{watch: watch, queue: queue, load: clientLoad{begin: time.Now()}}, nil
}

// Accept serves listener and the watch for hang-ups.
func (s *fast) Accept(ctx context.Context, listener int, accept func() (again bool)) error {
	stop := context.AfterFunc(ctx, s.watch.wake)
	defer stop()
	return s.watch.run(ctx, listener, accept)
}

// Open takes in a connection.
func (s *fast) Open(fd int) (Conn, error) { return &fastConn{s: s, fd: fd}, nil }

// Close ends the run queue and the watch.
func (s *fast) Close() {
	s.close.Do(func() {
		s.queue.close()
		s.watch.close()
	})
}

// fastConn waits in a thread of its own or, while many clients are busy, in the run queue.
type fastConn struct {
	s       *fast
	fd      int
	limited bool  // reads have a time limit, which only blocking ones know
	seen    int64 // the slice of time of the last request, see clientLoad
	place   *place
}

// Read waits for bytes of a request.
func (c *fastConn) Read(b []byte, more bool) (int, error) {
	if !more {
		c.seen = c.s.load.note(c.seen)
		c.settle()
	}
	if c.place != nil {
		return c.place.read(b, more)
	}
	return readSocket(c.fd, b, more)
}

// settle chooses how to wait for the next request.
func (c *fastConn) settle() {
	busy := c.s.load.busy()
	switch {
	case c.place == nil && busy >= manyBusy && !c.limited:
		// An error is the end of the server, which a blocking read finds too.
		if p, err := c.s.queue.enter(c.fd); err == nil {
			c.place = p
		}
	// The socket's own time limit works for blocking reads alone.
	case c.place != nil && (busy <= fewBusy || c.limited):
		c.leave()
	}
}

func (c *fastConn) leave() {
	if c.place != nil {
		c.place.leave()
		c.place = nil
	}
}

// Write writes all of b.
func (c *fastConn) Write(b []byte) error { return writeSocket(c.fd, b) }

// LimitReads sets the socket's own limit.
func (c *fastConn) LimitReads(d time.Duration) error {
	c.limited = d > 0
	t := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t)
}

// Yield gives the slot on, if the connection has one.
func (c *fastConn) Yield() {
	if c.place != nil {
		c.place.yield()
	}
}

// OnHangup watches the client.
func (c *fastConn) OnHangup(gone func()) (end func()) { return c.s.watch.onHangup(c.fd, gone) }

// Close leaves the run queue, and closes the socket.
func (c *fastConn) Close() error {
	c.leave()
	return unix.Close(c.fd)
}
