package server

import (
	"fmt"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc/internal/shares"
	"pam_pkcs11/pcsc/resmgr"
)

// headroom is how many connections beyond MaxClients may be there without a
// context: cancelling needs one.
const headroom = 16

// Connections that are not authorized yet must not use up the room of others: this many of a
// user, and of all, may wait for the decision or for their refusal. Root has no limit.
const (
	maxAsking        = 512
	maxAskingPerUser = 128
)

// roomToAsk reports whether a connection of p can be looked at now; s.mu is held.
func (s *Server) roomToAsk(p resmgr.Peer) bool {
	room := func() bool {
		if p.UID == 0 || len(s.asking) < maxAskingPerUser {
			return true
		}

		_, own := shares.Count(maps.Keys(s.asking), userOfConn, p.UID)
		if own < maxAskingPerUser && len(s.asking) < maxAsking {
			return true
		}
		return own < maxAskingPerUser+shares.LoginExtra && p.AtLogin()
	}

	if room() {
		return true
	}

	// Those whose programs have died need not be counted.
	s.sweep(s.asking)
	return room()
}

func userOfConn(c *conn) uint32 { return c.peer.UID }

// fits reports whether one more connection fits in for a client, beside taken for which counts is
// true; s.mu is held.
func (s *Server) fits(p shares.Places, c *conn, taken int, counts func(*conn) bool) bool {
	if p.Plenty(taken) {
		return true
	}

	counted := func(yield func(*conn) bool) {
		for other := range s.conns {
			if counts(other) && !yield(other) {
				return
			}
		}
	}

	users, own := shares.Count(counted, userOfConn, c.peer.UID)
	return p.Room(c.peer.UID, taken, users, own) || p.RoomAtLogin(taken, own) && c.peer.AtLogin()
}

// welcome adds c to those who may use the service, if there is room.
func (s *Server) welcome(c *conn) bool {
	// A program may have connections without a context for a while, as one for CANCEL.
	connections := shares.Of(s.MaxClients+headroom, 0)
	if s.ClientsPerUser > 0 {
		connections.PerUser = s.ClientsPerUser + headroom
	}

	entered := s.awaitRoom(func() bool {
		if s.ending || !s.fits(connections, c, len(s.conns), func(*conn) bool { return true }) {
			return false
		}
		delete(s.asking, c)
		s.conns[c] = struct{}{}
		return true
	})
	if !entered {
		s.tooMany(c, "clients")
	}
	return entered
}

// tooMany logs that a client is refused for want of room, once a minute for a user.
func (s *Server) tooMany(c *conn, what string) {
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	// At the end of the service there is no room for anybody: that is no reason to warn.
	if ending {
		return
	}

	p := shares.Of(s.MaxClients, s.ClientsPerUser)
	s.refusals.Say(fmt.Sprint("too many ", c.peer.UID), func(repeated int) {
		s.Logger.Warn("too many "+what,
			"client", c.peer, "limit", p.All, "for a user", p.PerUser, "repeated", repeated)
	})
}

// roomTime is how long a client waits for the place of another whose end has not been noticed yet:
// a program that comes and goes quickly is there twice for a moment.
const roomTime = time.Second

// awaitRoom tries to take a place under s.mu, until it can or roomTime has passed. Where there is
// no room, those whose programs have died give up theirs.
func (s *Server) awaitRoom(take func() bool) bool {
	swept := false
	for until := time.Now().Add(roomTime); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		taken := take()
		// Once for each client that waits: sweep polls all connections, and s.mu is held meanwhile.
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

// sweep frees the places of programs that have died while a reader works on their last command,
// which cannot be broken off: the connection itself ends with the command. s.mu is held.
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

// takeContext counts a context against MaxClients.
func (s *Server) takeContext(c *conn) bool {
	contexts := shares.Of(s.MaxClients, s.ClientsPerUser)
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
