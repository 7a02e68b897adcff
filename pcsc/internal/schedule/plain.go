package schedule

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// plain is what NewPlain makes.
type plain struct {
	mu    sync.Mutex // guards the fields below
	conns map[*plainConn]struct{}
	ended bool
}

// NewPlain is a Scheduler over the poller of the runtime.
func NewPlain() (Scheduler, error) { return &plain{conns: map[*plainConn]struct{}{}}, nil }

// Accept waits for clients in the poller. listener stays the caller's: this reads a duplicate.
func (s *plain) Accept(ctx context.Context, listener int, accept func() (again bool)) error {
	fd, err := unix.FcntlInt(uintptr(listener), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}

	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}

	// A deadline in the past ends the poller's wait; f is closed after that.
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	err = raw.Read(func(uintptr) (done bool) {
		// The poller reports a change once: what is left in the queue would not be reported again.
		for accept() && ctx.Err() == nil {
		}
		return ctx.Err() != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Open gives a socket to the poller.
func (s *plain) Open(fd int) (Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	c := &plainConn{s: s, file: os.NewFile(uintptr(fd), "client")}

	s.mu.Lock()
	defer s.mu.Unlock()
	// Its goroutine is to see the end at its first read.
	if s.ended {
		c.file.SetReadDeadline(time.Unix(1, 0))
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// Close ends the waits of those who are still there.
func (s *plain) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		c.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// plainConn waits in the poller.
type plainConn struct {
	s     *plain
	file  *os.File
	limit time.Duration
}

// Read waits for bytes of a request.
func (c *plainConn) Read(b []byte, more bool) (int, error) {
	if c.limit > 0 {
		c.setDeadline(time.Now().Add(c.limit))
	}

	n, err := c.file.Read(b)
	// A Conn ends as read(2) does: with no bytes and no error.
	if n == 0 && errors.Is(err, io.EOF) {
		return 0, nil
	}
	return n, err
}

// setDeadline sets the end of reads, unless the server has ended.
func (c *plainConn) setDeadline(t time.Time) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.s.ended {
		c.file.SetReadDeadline(t)
	}
}

// Write writes all of b.
func (c *plainConn) Write(b []byte) error {
	_, err := c.file.Write(b)
	return err
}

// LimitReads sets the limit, which Read counts from its own begin.
func (c *plainConn) LimitReads(d time.Duration) error {
	c.limit = d
	// Takes away what is left of an earlier limit.
	c.setDeadline(time.Time{})
	return nil
}

// Yield does nothing: whoever waits in Go has given up its processor.
func (c *plainConn) Yield() {}

// OnHangup waits until the client goes or end is called.
func (c *plainConn) OnHangup(gone func()) (end func()) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return func() {}
	}

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		hungUp := false
		raw.Read(func(fd uintptr) (done bool) {
			hungUp = isGone(int(fd))
			return hungUp
		})
		// The wait also ends by the deadline that end sets.
		if hungUp {
			gone()
		}
	}()

	return func() {
		// The reader is back before this returns: the next Read has the descriptor for itself.
		c.setDeadline(time.Unix(1, 0))
		<-ended
		c.setDeadline(time.Time{})
	}
}

// isGone reports whether the other end of a socket has gone.
func isGone(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// Close closes the socket.
func (c *plainConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.file.Close()
}
