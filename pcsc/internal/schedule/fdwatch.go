package schedule

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// fdWatch is one epoll set for what a blocking read cannot see: new clients, and clients that go
// away while they wait for another's lock. It costs one thread, which sleeps.
type fdWatch struct {
	epoll int
	event int // an eventfd, which ends a wait

	mu    sync.Mutex // guards the fields below, and the descriptors above against close
	gone  map[watched]func()
	last  int32 // number of the last watch
	ended bool
}

// watched is a descriptor under watch. Its number distinguishes it from another of the same value:
// an event may come out of the kernel, its client end, and a new one get its descriptor before the
// event is looked at.
type watched struct {
	fd     int32
	number int32
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

	return &fdWatch{epoll: epoll, event: event, gone: map[watched]func(){}}, nil
}

func (w *fdWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	// Under mu: who watches or wakes later finds ended, and not a descriptor that was given away.
	unix.Close(w.epoll)
	unix.Close(w.event)
}

// wake ends run's wait.
func (w *fdWatch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		unix.Write(w.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// run serves listener and the watched descriptors until ctx ends.
func (w *fdWatch) run(ctx context.Context, listener int, accept func() (again bool)) error {
	for _, fd := range []int{listener, w.event} {
		in := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &in); err != nil {
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
				// wake: the loop looks at ctx again.
			default:
				w.hungUp(watched{e.Fd, e.Pad})
			}
		}
	}
	return nil
}

// hungUp calls the function of a watched descriptor, once.
func (w *fdWatch) hungUp(key watched) {
	w.mu.Lock()
	gone := w.gone[key]
	delete(w.gone, key)
	w.mu.Unlock()

	// Without mu, which the end of a watch takes.
	if gone != nil {
		gone()
	}
}

// onHangup calls gone once when the other end of fd goes away, until the
// function returned is called.
func (w *fdWatch) onHangup(fd int, gone func()) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return func() {}
	}

	w.last++
	key := watched{int32(fd), w.last}
	w.gone[key] = gone

	hangup := unix.EpollEvent{
		Events: unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLONESHOT,
		Fd:     key.fd,
		Pad:    key.number,
	}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &hangup); err != nil {
		// Such a client's hang-up is seen when it is read from again.
		delete(w.gone, key)
		return func() {}
	}

	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gone, key)
		if !w.ended {
			unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
}
