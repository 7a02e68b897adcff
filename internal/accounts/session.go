package accounts

import (
	"context"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// sessionDeadline bounds all that is asked of logind.
const sessionDeadline = time.Second

// busSocket is where the system bus listens. Without it there is no logind.
const busSocket = "/run/dbus/system_bus_socket"

// SessionIsRemote asks logind whether the process belongs to a session that came over the network.
// A system without logind, and a process without session, are local. It takes at most a second.
func SessionIsRemote(ctx context.Context, pid int) (bool, error) {
	if _, err := os.Stat(busSocket); err != nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sessionDeadline)
	defer cancel()

	type answer struct {
		remote bool
		err    error
	}

	answers := make(chan answer, 1)
	go func() {
		remote, err := askLogind(ctx, pid)
		answers <- answer{remote, err}
	}()

	select {
	case a := <-answers:
		return a.remote, a.err
	case <-ctx.Done():
		// Connecting to a bus that accepts and stays mute does not end by itself: the goroutine is
		// left behind.
		return false, ctx.Err()
	}
}

// askLogind asks for the session of a process, and whether it is remote.
func askLogind(ctx context.Context, pid int) (bool, error) {
	bus, err := dbus.Connect("unix:path="+busSocket, dbus.WithContext(ctx))
	if err != nil {
		return false, err
	}
	defer bus.Close()

	var path dbus.ObjectPath
	login := bus.Object("org.freedesktop.login1", "/org/freedesktop/login1")
	// Asking must not start logind on a system that does without it.
	err = login.CallWithContext(ctx, "org.freedesktop.login1.Manager.GetSessionByPID",
		dbus.FlagNoAutoStart, uint32(pid)).Store(&path)
	if err != nil && ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		return false, nil // no session, or no logind
	}

	var remote bool
	session := bus.Object("org.freedesktop.login1", path)
	err = session.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get",
		dbus.FlagNoAutoStart, "org.freedesktop.login1.Session", "Remote").Store(&remote)
	return remote, err
}
