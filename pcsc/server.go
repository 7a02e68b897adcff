package pcsc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is a process at the other end of the socket (SO_PEERCRED and SO_PEERGROUPS, taken when it connected).
type Peer struct {
	PID    int
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// String is the peer as the log names it.
func (p Peer) String() string { return fmt.Sprintf("pid %d uid %d", p.PID, p.UID) }

// LogValue is the peer with the name of its program, which is looked up when it is logged.
func (p Peer) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("pid %d (%s) uid %d", p.PID, p.program(), p.UID))
}

// program is the name of the peer's program, which it can choose itself; "?" when it has ended, or cannot be seen.
func (p Peer) program() string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
	if err != nil {
		return "?"
	}
	return plain(strings.TrimSuffix(string(comm), "\n"))
}

// Authorizer decides who may use the service and who a reader. An error refuses; its text goes to the log and says what
// would have to be changed to allow it.
type Authorizer interface {
	Service(ctx context.Context, p Peer) error
	Card(ctx context.Context, p Peer, reader string) error
}

// ErrIdle is why Serve ended when nobody has been connected for Server.AutoExit.
var ErrIdle = errors.New("no client for the time set")

// Server makes a Manager available on a socket.
type Server struct {
	Manager *Manager
	// Authorizer is asked for every connection; nil lets everybody in.
	Authorizer Authorizer
	// MaxClients is the number of contexts at one time; 0 is 200. A tenth is left to root.
	MaxClients int
	// ClientsPerUser is how many of them one user may have who is not root; 0 is 0.6 of them all.
	ClientsPerUser int
	// AutoExit ends Serve with ErrIdle when no client has been there for so long; 0 is never.
	AutoExit time.Duration
	// TraceAPDUs logs the header of every command and the status of every answer, never the data between.
	TraceAPDUs bool
	Logger     *slog.Logger

	mu       sync.Mutex
	conns    map[*conn]struct{} // those who may use the service
	asking   map[*conn]struct{} // those of whom that is not known yet, and who are being refused
	contexts int
	idle     *time.Timer
	ending   bool
	work     sync.WaitGroup
	watch    *fdWatch
	crowd    crowd
	turns    *turns
	told     repeats // refusals that the log has been told of
}

// headroom is how many connections beyond MaxClients may be there without a context: cancelling needs one.
const headroom = 16

// Strangers do not use up the room of those who may use the service: this many connections of a user, and of all, may
// wait for the decision or for their refusal. Root has no limit.
const (
	maxAsking        = 512
	maxAskingPerUser = 128
)

// Serve accepts clients on the listening socket fd until ctx ends (nil) or nobody needs it any more (ErrIdle). All
// clients are gone when it returns; fd is left open.
func (s *Server) Serve(ctx context.Context, fd int) error {
	if s.MaxClients == 0 {
		s.MaxClients = 200
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	watch, err := newFDWatch()
	if err != nil {
		return err
	}
	defer watch.close()
	if s.turns, err = newTurns(runtime.NumCPU() + 1); err != nil {
		return err
	}
	defer s.turns.close()
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("listening socket: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.crowd.begin = time.Now()
	s.watch, s.conns, s.asking = watch, map[*conn]struct{}{}, map[*conn]struct{}{}
	s.mu.Lock()
	s.ending = false
	if s.AutoExit > 0 {
		s.idle = time.AfterFunc(s.AutoExit, func() { s.idleExpired(cancel) })
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, watch.wake)
	defer stop()
	err = watch.run(ctx, fd, func() { s.accept(ctx, fd) })
	s.end()
	if err == nil && errors.Is(context.Cause(ctx), ErrIdle) {
		return ErrIdle
	}
	return err
}

func (s *Server) idleExpired(cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns)+len(s.asking) == 0 && !s.ending {
		s.ending = true
		cancel(ErrIdle)
	}
}

// end closes all connections and waits until they are cleaned up. A connection whose card does not answer holds this up
// for as long as the driver's own deadline, at most closeTime.
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
	if !waitFor(&s.work, closeTime) {
		s.Logger.Warn("a reader is still busy with a client's command")
	}
}

// accept takes all connections that are waiting.
func (s *Server) accept(ctx context.Context, listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINTR || err == unix.ECONNABORTED:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil: // no descriptors, no memory: the connection stays in the queue
			s.Logger.Error("accepting a client", "err", err)
			time.Sleep(50 * time.Millisecond)
			return
		}
		s.admit(ctx, fd)
	}
}

func (s *Server) admit(ctx context.Context, fd int) {
	peer, err := peerOf(fd)
	if err != nil {
		s.Logger.Error("credentials of a client", "err", err)
		unix.Close(fd)
		return
	}
	c := newConn(ctx, s, fd, peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || !s.roomToAsk(peer) {
		s.told.sayLocked(fmt.Sprint("asking ", peer.UID), func(repeated int) {
			s.Logger.Warn("too many connections of programs that are not allowed yet", "client", peer, "repeated", repeated)
		})
		c.cancel()
		unix.Close(fd)
		return
	}
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

// roomToAsk reports whether a connection of p can be looked at now; s.mu is held.
func (s *Server) roomToAsk(p Peer) bool {
	room := func() bool {
		if p.UID == 0 || len(s.asking) < maxAskingPerUser {
			return true
		}
		_, own := count(maps.Keys(s.asking), userOfConn, p.UID)
		return own < maxAskingPerUser && len(s.asking) < maxAsking || own < maxAskingPerUser+loginExtra && p.atLogin()
	}
	if room() {
		return true
	}
	s.sweep(s.asking)
	return room()
}

func userOfConn(c *conn) uint32 { return c.peer.UID }

// fits reports whether one more of the connections that counts fits in for a client, beside taken; s.mu is held.
func (s *Server) fits(p places, c *conn, taken int, counts func(*conn) bool) bool {
	if p.plenty(taken) {
		return true
	}
	counted := func(yield func(*conn) bool) {
		for other := range s.conns {
			if counts(other) && !yield(other) {
				return
			}
		}
	}
	users, own := count(counted, userOfConn, c.peer.UID)
	return p.room(c.peer.UID, taken, users, own) || p.roomAtLogin(taken, own) && c.peer.atLogin()
}

// welcome takes c among those who may use the service, if there is room.
func (s *Server) welcome(c *conn) bool {
	connections := share(s.MaxClients+headroom, 0)
	if s.ClientsPerUser > 0 {
		connections.perUser = s.ClientsPerUser + headroom
	}
	if s.awaitRoom(func() bool {
		if s.ending || !s.fits(connections, c, len(s.conns), func(*conn) bool { return true }) {
			return false
		}
		delete(s.asking, c)
		s.conns[c] = struct{}{}
		return true
	}) {
		return true
	}
	s.tooMany(c, "clients")
	return false
}

// tooMany says that a client is refused for want of room: once a minute for a user.
func (s *Server) tooMany(c *conn, what string) {
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	if ending {
		return
	}
	p := share(s.MaxClients, s.ClientsPerUser)
	s.told.say(fmt.Sprint("too many ", c.peer.UID), func(repeated int) {
		s.Logger.Warn("too many "+what, "client", c.peer, "limit", p.all, "for a user", p.perUser, "repeated", repeated)
	})
}

// roomTime is how long a client waits for the place of another whose end has not been noticed yet: a program that
// comes and goes quickly is there twice for a moment.
const roomTime = time.Second

// awaitRoom tries to take a place under s.mu, until it can or roomTime has passed. Where there is no room, those whose
// programs have died give up theirs.
func (s *Server) awaitRoom(take func() bool) bool {
	swept := false
	for until := time.Now().Add(roomTime); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		taken := take()
		if !taken && !swept {
			swept = true
			s.sweep(s.conns)
			taken = take()
		}
		ending := s.ending
		s.mu.Unlock()
		if taken || ending || time.Now().After(until) {
			return taken
		}
	}
}

// sweep takes the places of programs that have died while a reader works on their last command, which cannot be broken
// off: the connection itself ends with the command. s.mu is held.
func (s *Server) sweep(conns map[*conn]struct{}) {
	all := make([]*conn, 0, len(conns))
	fds := make([]unix.PollFd, 0, len(conns))
	for c := range conns {
		all = append(all, c)
		fds = append(fds, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLRDHUP})
	}
	if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
		return
	}
	for i, c := range all {
		if fds[i].Revents != 0 {
			c.cancel()
			s.giveUpPlace(c)
		}
	}
}

// giveUpPlace frees what counts against the limits; s.mu is held.
func (s *Server) giveUpPlace(c *conn) {
	delete(s.asking, c)
	delete(s.conns, c)
	if c.counted {
		c.counted = false
		s.contexts--
	}
}

// gone forgets a connection whose goroutine has ended.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUpPlace(c)
	unix.Close(c.fd)
	if s.idle != nil && len(s.conns)+len(s.asking) == 0 && !s.ending {
		s.idle.Reset(s.AutoExit)
	}
}

// takeContext counts a context against MaxClients.
func (s *Server) takeContext(c *conn) bool {
	contexts := share(s.MaxClients, s.ClientsPerUser)
	return s.awaitRoom(func() bool {
		if !s.fits(contexts, c, s.contexts, func(other *conn) bool { return other.counted }) {
			return false
		}
		s.contexts++
		c.counted = true
		return true
	})
}

func (s *Server) giveContext(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.counted {
		c.counted = false
		s.contexts--
	}
}

// connOf finds the connection of a context for CANCEL. Only root may cancel for another user.
func (s *Server) connOf(sc SCardContext, by Peer) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if SCardContext(c.context.Load()) == sc && sc != 0 && (by.UID == c.peer.UID || by.UID == 0) {
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

// peerOf asks the kernel who is at the other end.
func peerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid, Groups: peerGroups(fd)}, nil
}

// peerGroups are the supplementary groups of the process at the other end when it connected; none when the kernel does
// not tell.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for range 2 {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:min(int(size/4), len(groups))]
		case errno != unix.ERANGE || size > 4*65536:
			return nil
		}
		groups = make([]uint32, size/4)
	}
	return nil
}
