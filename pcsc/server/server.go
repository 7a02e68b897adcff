// Package server makes a PC/SC resource manager available on a socket, in the protocol of pcsc-lite
// (versions 4.3 to 4.6), so that every program that has libpcsclite can use it.
//
// Each client has a goroutine (conn.go, requests.go, connwait.go). How it waits for its client is
// decided in internal/schedule. An Authorizer decides who may use the service (the daemon's is a
// Policy), and places.go how many.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/repeats"
	"pam_pkcs11/pcsc/internal/schedule"
	"pam_pkcs11/pcsc/internal/waitfor"
	"pam_pkcs11/pcsc/resmgr"
)

// Authorizer decides who may use the service and who a reader. An error refuses; its text is
// logged, and names what would have to be changed to allow it.
type Authorizer interface {
	Service(ctx context.Context, p resmgr.Peer) error
	Card(ctx context.Context, p resmgr.Peer, reader string) error
}

// ErrIdle is why Serve ended when nobody has been connected for Server.AutoExit.
var ErrIdle = errors.New("no client for the time set")

// Server makes a Manager available on a socket.
type Server struct {
	Manager *resmgr.Manager
	// Authorizer is asked for every connection; nil lets everybody in.
	Authorizer Authorizer
	// MaxClients is the number of contexts at one time; 0 is 200. A tenth is left to root.
	MaxClients int
	// ClientsPerUser is how many of them one user may have who is not root; 0 is 0.6 of them all.
	ClientsPerUser int
	// AutoExit ends Serve with ErrIdle when no client has been there for so long; 0 is never.
	AutoExit time.Duration
	// TraceAPDUs logs the header of every command and the status of every answer,
	// never the data between.
	TraceAPDUs bool
	// Netpoll has connections wait in the poller of Go's runtime, without what makes many clients
	// fast. It is there for comparison.
	Netpoll bool
	Logger  *slog.Logger

	mu       sync.Mutex         // guards the fields below, but for work and refusals
	conns    map[*conn]struct{} // those who may use the service
	asking   map[*conn]struct{} // those not authorized yet, or being refused
	contexts int
	idle     *time.Timer
	ending   bool
	work     sync.WaitGroup
	refusals repeats.Lines // limits the log lines about refused clients

	scheduler schedule.Scheduler
}

// Serve accepts clients on the listening socket fd until ctx ends (nil) or nobody needs it any more
// (ErrIdle). All clients are gone when it returns; fd is left open.
func (s *Server) Serve(ctx context.Context, fd int) error {
	if s.MaxClients == 0 {
		s.MaxClients = 200
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}

	newScheduler := schedule.New
	if s.Netpoll {
		newScheduler = schedule.NewPlain
	}
	var err error
	s.scheduler, err = newScheduler()
	if err != nil {
		return err
	}

	defer s.scheduler.Close()

	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("listening socket: %w", err)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	s.mu.Lock()
	s.conns = map[*conn]struct{}{}
	s.asking = map[*conn]struct{}{}
	s.ending = false
	if s.AutoExit > 0 {
		s.idle = time.AfterFunc(s.AutoExit, func() { s.idleExpired(fd, cancel) })
	}
	s.mu.Unlock()

	err = s.scheduler.Accept(ctx, fd, func() (again bool) { return s.accept(ctx, fd) })
	s.end()

	// Accept returns nil however ctx ends: the cause says whether that was idleExpired.
	if err == nil && errors.Is(context.Cause(ctx), ErrIdle) {
		return ErrIdle
	}
	return err
}

// idleExpired ends the service, unless somebody is there, or is about to come in.
func (s *Server) idleExpired(listener int, cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns)+len(s.asking) > 0 || s.ending {
		return
	}

	// A client that has connected, but was not accepted yet, must find the service.
	queue := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	if n, err := unix.Poll(queue, 0); err != nil || n > 0 {
		s.idle.Reset(s.AutoExit)
		return
	}

	s.ending = true
	cancel(ErrIdle)
}

// closeTime bounds the wait for readers that are busy when the service ends.
const closeTime = 5 * time.Second

// end closes all connections and waits until they are cleaned up. A connection whose card does not
// answer holds this up for as long as the driver's own deadline, at most closeTime.
func (s *Server) end() {
	s.mu.Lock()
	s.ending = true
	if s.idle != nil {
		s.idle.Stop()
	}
	for c := range s.conns {
		c.hangUp()
	}
	for c := range s.asking {
		c.hangUp()
	}
	s.mu.Unlock()

	if !waitfor.Group(&s.work, closeTime) {
		s.Logger.Warn("a reader is still busy with a client's command")
	}
}

// accept takes all connections that are waiting, and reports whether some may be left.
func (s *Server) accept(ctx context.Context, listener int) (again bool) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINTR || err == unix.ECONNABORTED:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			// No descriptors or no memory: the connection stays in the queue for another try.
			s.Logger.Error("accepting a client", "err", err)
			time.Sleep(50 * time.Millisecond)
			return true
		}
		s.admit(ctx, fd)
	}
}

// admit starts the goroutine of a new connection, if there is room for one more.
func (s *Server) admit(ctx context.Context, fd int) {
	peer, err := peerOf(fd)
	if err != nil {
		s.Logger.Error("credentials of a client", "err", err)
		unix.Close(fd)
		return
	}

	stream, err := s.scheduler.Open(fd)
	if err != nil {
		s.Logger.Error("waiting for a client", "err", err)
		unix.Close(fd)
		return
	}

	c := newConn(ctx, s, stream, fd, peer)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || !s.roomToAsk(peer) {
		s.refusals.SayLocked(fmt.Sprint("asking ", peer.UID), func(repeated int) {
			s.Logger.Warn("too many connections of programs that are not allowed yet",
				"client", peer, "repeated", repeated)
		})
		c.cancel()
		c.stream.Close()
		return
	}

	// Its goroutine asks for the authorization, which may take long, and then calls welcome.
	s.asking[c] = struct{}{}
	if s.idle != nil {
		s.idle.Stop()
	}

	s.work.Add(1)
	go func() {
		defer s.work.Done()
		c.serve()
		s.gone(c)
	}()
}

// gone forgets a connection whose goroutine has ended.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	// In one step under mu: hangUp and sweep use the descriptors of those that are in the maps.
	defer s.mu.Unlock()
	s.giveUpPlace(c)
	c.stream.Close()
	if s.idle != nil && len(s.conns)+len(s.asking) == 0 && !s.ending {
		s.idle.Reset(s.AutoExit)
	}
}

// connOf finds the connection of a context for CANCEL. Only root may cancel for another user.
func (s *Server) connOf(sc pcsc.SCardContext, by resmgr.Peer) *conn {
	// 0 is what a connection without a context has.
	if sc == 0 {
		return nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		allowed := by.UID == c.peer.UID || by.UID == 0
		if allowed && pcsc.SCardContext(c.context.Load()) == sc {
			return c
		}
	}
	return nil
}

// Clients is the number of connections of those who may use the service.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
