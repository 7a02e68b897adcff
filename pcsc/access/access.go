// Package access finds the PC/SC daemon for a login, checks whose it is, and starts the one that
// pam_pkcs11 brings along where the machine has none.
//
// A system daemon (pcscd of whatever origin) that answers is always used. One that refuses, or that
// does not answer although it runs, is an error: it may hold the readers. The bundled daemon
// (`pcscd --bundled`) is for root's logins only.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"pam_pkcs11/pcsc"
)

// Mode is which daemon may be used (card_access).
type Mode uint8

// Values of Mode.
const (
	Auto    Mode = iota // a system daemon if one answers, else the bundled one
	System              // a system daemon only
	Bundled             // the bundled one only
)

// Program is the bundled daemon where Options name no other. It is compiled in by
// pam/build.sh and the Makefile.
var Program = "/usr/libexec/pam_pkcs11/pcscd"

// Options say where to look. The zero value is card_access = auto on a machine as it is installed.
type Options struct {
	Mode Mode
	// Sockets are those of system daemons, tried in this order; none is pcsc.DefaultSocket.
	Sockets []string
	// Host is the process in which PAM runs, 0 when it is not known. No daemon is started
	// that would become its child, because it takes in orphans (PR_SET_CHILD_SUBREAPER, or
	// process 1 of a container).
	Host int
	// BundledSocket is that of the bundled daemon, "" for pcsc.BundledSocket; and Program is the
	// daemon, "" for the variable Program. Both are for tests.
	BundledSocket string
	Program       string
	// Logger may be nil.
	Logger *slog.Logger
}

// Found describes the daemon that was found.
type Found struct {
	Socket  string
	Bundled bool // the one that is for logins only
	Started bool // by this call
	PID     int  // of the process that listens: 1 where systemd does so for the daemon
	UID     int  // its user
}

// String describes the daemon for the log.
func (f Found) String() string {
	switch {
	case f.Started:
		return fmt.Sprintf("the bundled pcscd, started now, at %s (pid %d)", f.Socket, f.PID)
	case f.Bundled:
		return fmt.Sprintf("the bundled pcscd at %s (pid %d)", f.Socket, f.PID)
	}
	return fmt.Sprintf("the system's daemon at %s (pid %d, uid %d)", f.Socket, f.PID, f.UID)
}

// Find finds the daemon and returns the service at it, which checks for each connection anew
// whose the daemon is. Every wait has a limit, and ends with ctx: 5 s each for a place at the
// socket, the version and a context, 10 s for the readers, 60 s for another login that starts
// the daemon, and 30 s for the start. An error is an *Error, or several joined where more
// than one socket was tried.
func Find(ctx context.Context, o Options) (pcsc.Service, Found, error) {
	s := newSearch(o)
	found, err := s.find(ctx)
	if err != nil {
		return nil, found, err
	}

	// Later connections are not part of this call: its ctx must not end them.
	d := &dialer{path: found.Socket, user: s.user}
	return pcsc.NewClient(found.Socket).WithDial(func() (net.Conn, error) {
		conn, err := d.dial(context.Background())
		if err != nil {
			return nil, err
		}
		return conn, nil
	}), found, nil
}

// Ensure is Find for a PKCS#11 library, which connects by itself: socket is the value for
// PCSCLITE_CSOCK_NAME. libpcsclite takes the variable only in a process whose AT_SECURE is 0, as
// that of the PAM module's worker is.
func Ensure(ctx context.Context, o Options) (socket string, found Found, err error) {
	found, err = newSearch(o).find(ctx)
	return found.Socket, found, err
}

// search is one Find.
type search struct {
	Options

	user func() (uint32, bool) // the user of system daemons
}

// newSearch fills in what o leaves to the defaults.
func newSearch(o Options) *search {
	if len(o.Sockets) == 0 {
		o.Sockets = []string{pcsc.DefaultSocket}
	}
	if o.BundledSocket == "" {
		o.BundledSocket = pcsc.BundledSocket
	}
	if o.Program == "" {
		o.Program = Program
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &search{Options: o, user: daemonUser}
}

// find tries the sockets of system daemons in their order, and then the bundled daemon, as Mode
// allows.
func (s *search) find(ctx context.Context) (Found, error) {
	var none []error
	if s.Mode != Bundled {
		for _, socket := range s.Sockets {
			found, err := s.try(ctx, socket)
			if err == nil || !absent(err) {
				return found, err
			}
			none = append(none, err)
		}
	}

	if s.Mode == System {
		return Found{}, errors.Join(none...)
	}
	if os.Geteuid() != 0 {
		none = append(none, &Error{Socket: s.BundledSocket, Reason: NotRoot})
		return Found{}, errors.Join(none...)
	}
	// The bundled daemon takes their place: they are logged, and no errors any more.
	for _, err := range none {
		s.Logger.Debug("no system daemon", "err", err)
	}
	return s.findBundled(ctx)
}

// try probes the daemon at a socket, without waiting for its readers.
func (s *search) try(ctx context.Context, socket string) (Found, error) {
	found, err := s.probe(ctx, socket, false)
	var e *Error
	// It may have been ending just then: a second try starts the next one, or
	// finds the socket gone.
	if errors.As(err, &e) && (e.Reason == Closed || e.Reason == Ended) {
		found, err = s.probe(ctx, socket, false)
	}
	return found, err
}

// probe makes a context at a socket and gives it up again. With list it waits for the daemon's
// readers in between.
func (s *search) probe(ctx context.Context, socket string, list bool) (Found, error) {
	d := &dialer{path: socket, user: s.user}
	var conn *trackedConn
	client := pcsc.NewClient(socket).WithDial(func() (net.Conn, error) {
		var err error
		if conn, err = d.dial(ctx); err != nil {
			return nil, err
		}
		return conn, nil
	})

	sc, err := client.EstablishContext(pcsc.ScopeSystem)
	if conn == nil {
		return Found{}, err
	}

	defer conn.Close()
	if err != nil {
		return Found{}, conn.explain(err, filepath.Dir(socket))
	}

	found := Found{Socket: socket, PID: int(conn.peer.Pid), UID: int(conn.peer.Uid)}

	conn.limit(ctx, listTime)
	var names []string
	if list {
		names, err = client.ListReaders(sc)
	}
	if err != nil && err != pcsc.ErrNoReadersAvailable {
		return found, conn.explain(err, filepath.Dir(socket))
	}

	// A system's daemon is used without readers too; the bundled one is asked who holds them.
	if list && len(names) == 0 {
		if held := unusable(ctx, d); len(held) > 0 {
			return found, &Error{Socket: socket, Reason: Held, Readers: held}
		}
	}

	// The answer does not matter: the connection is closed in any case.
	client.ReleaseContext(sc)
	return found, nil
}
