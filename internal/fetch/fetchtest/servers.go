// Package fetchtest has servers on loopback that do all but answer, for tests and measurements of
// deadlines: they are silent at each step of a connection, give one octet a second, or lead on
// without end. It has name servers too.
package fetchtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Server is a server under way.
type Server struct {
	Addr string // HOST:PORT, of the loopback interface

	mu    sync.Mutex // guards the fields below
	open  []func() error
	ended bool
}

// Close ends the server and its connections.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, c := range s.open {
		_ = c()
	}
	s.open = nil
}

// keep closes c with the server, at once when that is closed already.
func (s *Server) keep(c func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = c()
		return
	}
	s.open = append(s.open, c)
}

// Full is a server whose queue of connections is full: what the client sends to open one more has
// no answer.
func Full() (*Server, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}

	s := &Server{}
	s.keep(func() error { return syscall.Close(fd) })
	// A queue of length 0 still takes a connection or two, which nobody accepts.
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0))
	if err != nil {
		s.Close()
		return nil, err
	}

	name, err := syscall.Getsockname(fd)
	if err != nil {
		s.Close()
		return nil, err
	}

	s.Addr = fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 64 {
		c, err := net.DialTimeout("tcp", s.Addr, 100*time.Millisecond)
		if err != nil {
			return s, nil
		}
		s.keep(c.Close)
	}

	s.Close()
	return nil, errors.New("the queue of a listening socket does not become full")
}

// Mute takes connections and sends nothing.
func Mute() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: l.Addr().String()}
	s.keep(l.Close)

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// Kept open until the server ends: a closed connection would be an answer.
			s.keep(c.Close)
		}
	}()
	return s, nil
}

// serve starts an HTTP server.
func serve(h http.HandlerFunc) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	s := &Server{Addr: l.Addr().String()}
	s.keep(server.Close)
	return s, nil
}

// pause waits, and reports whether the client is still there.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Drip is an HTTP server that gives its body one octet at a time, and zeros behind it.
func Drip(body []byte, every time.Duration) (*Server, error) {
	return serve(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; ; i++ {
			b := byte(0)
			if i < len(body) {
				b = body[i]
			}
			if _, err := w.Write([]byte{b}); err != nil {
				return
			}
			// Flushed, or net/http would collect some kilobytes first.
			w.(http.Flusher).Flush()
			if !pause(r.Context(), every) {
				return
			}
		}
	})
}

// Redirects is an HTTP server that leads to itself, each time after a while.
func Redirects(after time.Duration) (*Server, error) {
	return serve(func(w http.ResponseWriter, r *http.Request) {
		if pause(r.Context(), after) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}
	})
}
