package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc/resmgr"
)

// The system bus of these tests is a dbus-daemon of their own, on which the test plays logind and polkit.
func startBus(t *testing.T) *dbus.Conn {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Fatal("dbus-daemon is missing: install the Debian package dbus-daemon")
	}
	directory := t.TempDir()
	config := filepath.Join(directory, "bus.conf")
	address := "unix:path=" + filepath.Join(directory, "bus")
	text := fmt.Sprintf(`<busconfig><type>system</type><listen>%s</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bus := exec.Command(program, "--config-file="+config, "--nofork")
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Process.Kill(); bus.Wait() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	var c *dbus.Conn
	slowtest.Until(t, "the bus", func() (done bool) {
		var err error
		c, err = dbus.Connect(address, dbus.WithContext(t.Context()))
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// logind has sessions.
type logind struct{ sessions []session }

func (l logind) ListSessions() ([]session, *dbus.Error) { return l.sessions, nil }

// properties of one session.
type properties map[string]dbus.Variant

func (p properties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) { return p, nil }

func serve(t *testing.T, c *dbus.Conn, name string, v any, path dbus.ObjectPath, iface string) {
	t.Helper()
	if err := c.Export(v, path, iface); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestName(name, 0); err != nil {
		t.Fatal(err)
	}
}

func TestActiveLocally(t *testing.T) {
	c := startBus(t)
	if _, err := activeLocally(t.Context(), 1); err == nil {
		t.Error("an answer without logind")
	}
	rows := []struct {
		name           string
		seat           string
		active, remote any
		want           bool
	}{
		{
			name: "a person or a greeter at the machine", seat: "seat0", active: true,
			remote: false, want: true,
		},
		{name: "another has the screen", seat: "seat0", active: false, remote: false},
		{name: "from afar", active: true, remote: true},
		{name: "from afar with a seat", seat: "seat0", active: true, remote: true},
		{name: "cron, a service or su: no seat", active: true, remote: false},
		{name: "a logind that says nothing", seat: "seat0"},
		{name: "a logind that says nonsense", seat: "seat0", active: "yes", remote: "no"},
	}
	var all []session
	for i, row := range rows {
		path := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/login1/session/_%d", i))
		all = append(all, session{
			ID: fmt.Sprint(i), UID: uint32(1000 + i), Seat: row.seat, Path: path,
		})
		p := properties{}
		if row.active != nil {
			p["Active"], p["Remote"] = dbus.MakeVariant(row.active), dbus.MakeVariant(row.remote)
		}
		serve(t, c, "org.freedesktop.login1", p, path, "org.freedesktop.DBus.Properties")
	}
	all = append(all, session{
		ID: "gone", UID: 2000, Seat: "seat0", Path: "/org/freedesktop/login1/session/gone",
	})
	serve(t, c, "org.freedesktop.login1", logind{all}, "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
	for i, row := range rows {
		got, err := activeLocally(t.Context(), uint32(1000+i))
		if got != row.want || err != nil {
			t.Errorf("%s: %v %v", row.name, got, err)
		}
	}
	for _, uid := range []uint32{2000, 3000} { // a session that has ended meanwhile, and no session
		if got, err := activeLocally(t.Context(), uid); got || err != nil {
			t.Errorf("uid %d: %v %v", uid, got, err)
		}
	}
}

// authority is polkit.
type authority struct {
	yes, mute atomic.Bool
	asked     chan map[string]dbus.Variant
	wait      chan struct{} // what it waits for when it is mute
}

// verdict is polkit's answer.
type verdict struct {
	Authorized, Challenge bool
	Details               map[string]string
}

func (a *authority) CheckAuthorization(subject struct {
	Kind    string
	Details map[string]dbus.Variant
}, action string, details map[string]string, flags uint32, cancellation string) (verdict, *dbus.Error) {
	if a.mute.Load() {
		<-a.wait
	}
	subject.Details["kind"] = dbus.MakeVariant(subject.Kind)
	subject.Details["action"] = dbus.MakeVariant(action + " " + details["reader"])
	a.asked <- subject.Details
	return verdict{Authorized: a.yes.Load(), Challenge: true}, nil
}

func TestAskPolkit(t *testing.T) {
	c := startBus(t)
	me := resmgr.Peer{PID: os.Getpid(), UID: uint32(os.Getuid())}
	if _, err := askPolkit(t.Context(), me, actionService, nil); err == nil {
		t.Error("an answer without polkit")
	}
	a := &authority{asked: make(chan map[string]dbus.Variant, 8), wait: make(chan struct{})}
	defer close(a.wait)
	serve(t, c, "org.freedesktop.PolicyKit1", a, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority")
	start, err := startTime(me.PID)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		a.yes.Store(want)
		got, err := askPolkit(t.Context(), me, actionCard, map[string]string{"reader": "R 00 00"})
		if got != want || err != nil {
			t.Errorf("%v %v", got, err)
		}
		asked := <-a.asked
		for key, value := range map[string]any{"kind": "unix-process", "pid": uint32(me.PID), "uid": int32(me.UID),
			"start-time": start, "action": "org.debian.pcsc-lite.access_card R 00 00"} {
			if asked[key].Value() != value {
				t.Errorf("%s is %v, want %v", key, asked[key], value)
			}
		}
	}
	if _, err := askPolkit(t.Context(), resmgr.Peer{PID: 1 << 30}, actionService, nil); err == nil {
		t.Error("an answer about a process that is not there")
	}
	a.mute.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := askPolkit(ctx, me, actionService, nil); err == nil {
		t.Error("an answer of a polkit that does not answer")
	}
}

func TestStartTime(t *testing.T) {
	for _, row := range []struct {
		stat string
		want uint64
	}{
		{"1 (a) S 0 1 1 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 77 1 1", 77},
		{"1 (a) b) S 0 (1) S 0 1 1 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 78 1", 78},
		{"1 (a", 0},
		{"", 0},
		{"1 (a) S 0", 0},
		{"1 (a) S 0 1 1 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 x 1 1", 0},
	} {
		got, err := parseStartTime(row.stat)
		if got != row.want || (err == nil) != (row.want != 0) {
			t.Errorf("%q: %d %v", row.stat, got, err)
		}
	}
}
