package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Paths that libpcsclite and systemd units use.
const (
	runDirectory  = "/run/pcscd"
	DefaultSocket = runDirectory + "/pcscd.comm"
	pidFile       = runDirectory + "/pcscd.pid"
	DefaultConfig = "/etc/pcscd/pcscd.conf"
)

// listener is the socket that is served.
type listener struct {
	fd      int
	path    string      // to be removed at the end; "" when it is systemd's
	file    os.FileInfo // what was made at path
	systemd bool
}

// listen takes the socket that systemd passes, or makes one.
func listen(o *options) (*listener, error) {
	if o.socket == "" || o.bundled {
		files := activation.Files(true)
		switch {
		case len(files) == 1:
			// The file would close its descriptor when it is collected as
			// garbage: the duplicate stays.
			fd, err := unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 3)
			files[0].Close()
			if err != nil {
				return nil, fmt.Errorf("socket of systemd: %w", err)
			}
			return &listener{fd: fd, systemd: true}, nil
		case len(files) > 1:
			return nil, fmt.Errorf("systemd passed %d sockets, one is wanted", len(files))
		}
	}

	path := o.socket
	if path == "" {
		path = DefaultSocket
		if err := os.MkdirAll(runDirectory, 0o755); err != nil {
			return nil, err
		}
	}

	mode := os.FileMode(0o666)
	if o.bundled {
		mode = 0o600
	}
	return bind(path, mode)
}

// backlog is how many clients may wait to be accepted.
const backlog = 256

// bind makes a socket at path with a mode, in place of one that nobody serves any more.
func bind(path string, mode os.FileMode) (*listener, error) {
	// sockaddr_un has 108 bytes, with the NUL (unix(7)).
	if len(path) > 107 {
		return nil, fmt.Errorf("%s: a socket path has at most 107 bytes", path)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}

	fail := func(err error) (*listener, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	// The mode is that of the socket from the beginning: there is no moment at which others could
	// connect. Chmod then sets what the umask has taken away.
	if err := unix.Fchmod(fd, uint32(mode)); err != nil {
		return fail(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fail(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fail(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fail(err)
	}

	file, err := os.Lstat(path)
	if err != nil {
		return fail(err)
	}
	return &listener{fd: fd, path: path, file: file}, nil
}

// removeStale removes a socket at path that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there and is not a socket", path)
	}

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Anything but a refusal means that somebody listens, were it with a full queue (EAGAIN).
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != unix.ECONNREFUSED {
		if pid, err := readPID(); err == nil && path == DefaultSocket && alive(pid) {
			return fmt.Errorf("%s: the daemon is running already, with pid %d", path, pid)
		}
		return fmt.Errorf("%s: another daemon listens there", path)
	}

	return os.Remove(path)
}

// stop disconnects those who wait to be accepted while the daemon ends, so that none of them waits
// for a daemon that is going. A socket of systemd's stays as it is, for the next daemon.
func (l *listener) stop() {
	if l.path == "" {
		return
	}
	l.unlink()
	unix.Shutdown(l.fd, unix.SHUT_RDWR)
}

func (l *listener) close() {
	l.unlink()
	unix.Close(l.fd)
}

// unlink removes the socket, unless another daemon has put its own in the place meanwhile.
func (l *listener) unlink() {
	if l.path == "" {
		return
	}
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
		os.Remove(l.path)
	}
}

// writePID writes the number of this process. It comes after the socket: the daemon is who has
// that, whatever the file says. Where the socket is systemd's, another daemon that was started by
// hand may have made its own in its place, and runs.
func writePID(l *listener) (remove func(), err error) {
	if l.systemd {
		pid, err := readPID()
		if err == nil && pid != os.Getpid() && alive(pid) {
			return nil, fmt.Errorf("%s: the daemon is running already, with pid %d", pidFile, pid)
		}
	}

	if err := os.MkdirAll(runDirectory, 0o755); err != nil {
		return nil, err
	}

	// Renamed, so that nobody reads half of it.
	temporary := pidFile + ".new"
	if err := os.WriteFile(temporary, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, pidFile); err != nil {
		return nil, err
	}
	return removePID, nil
}

// removePID removes the file, if it is still ours.
func removePID() {
	if pid, err := readPID(); err == nil && pid == os.Getpid() {
		os.Remove(pidFile)
	}
}

func readPID() (int, error) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, err
	}
	return parsePID(data)
}

// parsePID reads the contents of a pid file. pcscd writes its own with a NUL at the end.
func parsePID(data []byte) (int, error) {
	text, _, _ := strings.Cut(string(data), "\x00")
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid < 2 {
		return 0, fmt.Errorf("%s: %.20q is not a pid", pidFile, data)
	}
	return pid, nil
}

// alive reports whether pid is a process with the name of this program.
func alive(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		// The process may be there without its name to be seen (hidepid, proc(5)).
		return unix.Kill(pid, 0) != unix.ESRCH && !errors.Is(err, os.ErrNotExist)
	}

	name := filepath.Base(os.Args[0])
	running := strings.TrimSpace(string(comm))
	// The kernel cuts names to 15 bytes (proc(5)).
	return running == name[:min(len(name), 15)] || running == "pcscd"
}

// signalRescan is `pcscd -H`.
func signalRescan() error {
	pid, err := readPID()
	if err != nil {
		return err
	}
	// The number may be another program's by now, which the signal would end.
	if !alive(pid) {
		return fmt.Errorf("%s: no daemon runs with pid %d", pidFile, pid)
	}

	return unix.Kill(pid, unix.SIGUSR1)
}

// autoExitTime is how long the daemon stays without clients under --auto-exit.
const autoExitTime = 60 * time.Second
