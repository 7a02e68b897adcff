package server

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"pam_pkcs11/pcsc/resmgr"
)

// The system bus: logind's sessions and polkit. A connection is made for each
// question; they are rare.

// session is an element of ListSessions: id, uid, user name, seat, object path.
type session struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

// activeLocally asks logind whether uid has a session that is active, on a seat and not remote. A
// session without a seat (cron, a service, su) is always "active" to logind, and nobody sits there.
func activeLocally(ctx context.Context, uid uint32) (bool, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, err
	}
	defer bus.Close()

	const service, manager = "org.freedesktop.login1", "org.freedesktop.login1.Manager"
	var sessions []session
	logind := bus.Object(service, "/org/freedesktop/login1")
	call := logind.CallWithContext(ctx, manager+".ListSessions", 0)
	if err := call.Store(&sessions); err != nil {
		return false, err
	}

	for _, s := range sessions {
		if s.UID != uid || s.Seat == "" {
			continue
		}

		var properties map[string]dbus.Variant
		call := bus.Object(service, s.Path).CallWithContext(ctx,
			"org.freedesktop.DBus.Properties.GetAll", 0, "org.freedesktop.login1.Session")
		if err := call.Store(&properties); err != nil {
			continue // ended meanwhile
		}

		// A session without the property Remote counts as remote.
		active, _ := properties["Active"].Value().(bool)
		remote, ok := properties["Remote"].Value().(bool)
		if active && ok && !remote {
			return true, nil
		}
	}
	return false, nil
}

// askPolkit asks polkit's authority whether a process may do action. The process is named by its
// pid, start time and uid together, so that another one that got the pid later is not meant.
func askPolkit(
	ctx context.Context, p resmgr.Peer, action string, details map[string]string,
) (bool, error) {
	start, err := startTime(p.PID)
	if err != nil {
		return false, err
	}

	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, err
	}
	defer bus.Close()

	type subject struct {
		Kind    string
		Details map[string]dbus.Variant
	}
	who := subject{"unix-process", map[string]dbus.Variant{
		"pid":        dbus.MakeVariant(uint32(p.PID)),
		"start-time": dbus.MakeVariant(start),
		"uid":        dbus.MakeVariant(int32(p.UID)),
	}}
	if details == nil {
		details = map[string]string{}
	}

	var result struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	// Without flags polkit asks no user (AllowUserInteraction would be 1).
	authority := bus.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")
	call := authority.CallWithContext(ctx,
		"org.freedesktop.PolicyKit1.Authority.CheckAuthorization", 0,
		who, action, details, uint32(0), "")
	if err := call.Store(&result); err != nil {
		return false, err
	}
	return result.Authorized, nil
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(string(data))
}

// parseStartTime finds the field by the command's name before it, which is in parentheses and may
// contain anything.
func parseStartTime(stat string) (uint64, error) {
	i := strings.LastIndexByte(stat, ')')
	// The first of the fields behind the name is number 3 (proc(5)).
	fields := strings.Fields(stat[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("process status %.40q is not understood", stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
