//go:build hosts && linux && cgo

package hosts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// syslog is the machine's log: what was sent to /dev/log.
type syslog struct {
	mu    sync.Mutex
	lines []string
}

// openSyslog lays a /dev with the usual devices and a log socket over the machine's, whose own it must not touch.
func (m *machine) openSyslog() error {
	dev := filepath.Join(m.Dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o644); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, filepath.Join(dev, name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
	}
	pts := filepath.Join(dev, "pts")
	if err := errors.Join(os.Mkdir(pts, 0o755), os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx"))); err != nil {
		return err
	}
	if err := unix.Mount("devpts", pts, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return err
	}
	if err := unix.Mount(dev, "/dev", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	// The scene's directory must be empty of mounts when it is removed.
	if err := unix.Unmount(dev, unix.MNT_DETACH); err != nil {
		return err
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return err
	}
	m.syslog = &syslog{}
	go m.syslog.listen(socket)
	return os.Chmod("/dev/log", 0o666)
}

func (l *syslog) listen(socket *net.UnixConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := socket.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		l.lines = append(l.lines, string(buffer[:n]))
		l.mu.Unlock()
	}
}

// during returns what a test has logged so far, and shows it if the test fails.
func (l *syslog) during(t *testing.T) func() string {
	t.Helper()
	l.mu.Lock()
	began := len(l.lines)
	l.mu.Unlock()
	since := func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Join(l.lines[began:], "\n")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("system log:\n" + since())
		}
	})
	return since
}
