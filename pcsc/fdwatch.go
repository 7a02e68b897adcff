package pcsc

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// fdWatch is one epoll for what a blocking read cannot see: new clients, and clients that go away while they wait for
// somebody's lock. It costs one thread, which sleeps.
type fdWatch struct {
	epoll, event int

	mu    sync.Mutex
	gone  map[int32]func() // by descriptor
	ended bool
}

func newFDWatch() (*fdWatch, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &fdWatch{epoll: epoll, event: event, gone: map[int32]func(){}}, nil
}

func (w *fdWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	unix.Close(w.epoll)
	unix.Close(w.event)
}

// wake ends run's sleep.
func (w *fdWatch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		unix.Write(w.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// run serves listener and the watched descriptors until ctx ends.
func (w *fdWatch) run(ctx context.Context, listener int, accept func()) error {
	for _, fd := range []int{listener, w.event} {
		if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	events := make([]unix.EpollEvent, 32)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			switch int(e.Fd) {
			case listener:
				accept()
			case w.event:
			default:
				w.mu.Lock()
				gone := w.gone[e.Fd]
				delete(w.gone, e.Fd)
				w.mu.Unlock()
				if gone != nil {
					gone()
				}
			}
		}
	}
	return nil
}

// onHangup calls gone once when the other end of fd goes away, until the function returned is called.
func (w *fdWatch) onHangup(fd int, gone func()) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return func() {}
	}
	w.gone[int32(fd)] = gone
	flags := uint32(unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLONESHOT)
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: flags, Fd: int32(fd)}); err != nil {
		delete(w.gone, int32(fd))
		return func() {}
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gone, int32(fd))
		if !w.ended {
			unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
}
