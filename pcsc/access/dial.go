package access

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/pcsc"
)

// Limits of waiting for a daemon.
const (
	acceptTime = 5 * time.Second  // to be accepted; pcsc.Client has the same limit for an answer
	listTime   = 10 * time.Second // for the readers: a daemon waits 5 s for slow ones
	statusTime = 2 * time.Second
	queuePause = 5 * time.Millisecond // before a queue that is full is tried again
)

// dialer makes the connections to one daemon. Before a byte is sent the
// kernel is asked whose it is.
type dialer struct {
	path string
	user func() (uint32, bool) // the user of system daemons
}

// dial connects to a daemon that may get a PIN.
func (d *dialer) dial(ctx context.Context) (*trackedConn, error) {
	fail := func(reason Reason, err error) (*trackedConn, error) {
		return nil, &Error{Socket: d.path, Reason: reason, Err: err}
	}

	// For root's logins only: a user's program may use a daemon of its own, wherever that is.
	if os.Geteuid() == 0 {
		switch err := d.checkDirectory(); {
		case errors.Is(err, fs.ErrNotExist):
			return fail(NoSocket, nil)
		case err != nil:
			return fail(Foreign, err)
		}
	}

	conn, err := connect(ctx, d.path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fail(NoSocket, nil)
	case errors.Is(err, unix.ECONNREFUSED):
		return fail(Dead, nil)
	case errors.Is(err, fs.ErrPermission):
		return fail(Denied, err)
	default:
		return fail(Silent, err)
	}

	peer, err := peerOf(conn)
	if err == nil && !d.trusts(peer.Uid) {
		err = errOwner(int(peer.Pid), int(peer.Uid))
	}
	if err != nil {
		conn.Close()
		return fail(Foreign, err)
	}

	w := &trackedConn{
		UnixConn: conn,
		peer:     peer,
		path:     d.path,
		ctx:      ctx,
	}
	w.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return w, nil
}

// trusts reports whether a daemon of this user may get a PIN: root, pcscd, or
// the user of this process.
func (d *dialer) trusts(uid uint32) bool {
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return true
	}
	pcscd, known := d.user()
	return known && uid == pcscd
}

// checkDirectory makes sure that nobody but root, or the user of the daemon,
// can replace the socket.
func (d *dialer) checkDirectory() error {
	dir, err := safefile.OpenDir(filepath.Dir(d.path), safefile.Policy{})
	// Distributions that run the daemon as a user of its own give that user the directory.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		pcscd, known := d.user()
		if !known {
			return err
		}
		dir, err = safefile.OpenDir(filepath.Dir(d.path), safefile.Policy{Owners: []uint32{pcscd}})
		if err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return dir.Close()
}

// connect waits for a place in the daemon's queue, until ctx ends or acceptTime is over.
func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()

	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}

		// With a full queue connect(2) says EAGAIN on a socket that does not block, as Go's are.
		select {
		case <-ctx.Done():
			return nil, errors.New("its queue of connections is full and does not move")
		case <-time.After(queuePause):
		}
	}
}

// peerOf is the process that listens, as it was when it began to.
func peerOf(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}

	var cred *unix.Ucred
	var problem error
	err = raw.Control(func(fd uintptr) {
		cred, problem = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return nil, err
	}
	return cred, problem
}

// trackedConn is a connection that keeps the error by which it ended.
type trackedConn struct {
	*net.UnixConn
	peer *unix.Ucred
	path string
	ctx  context.Context // of dial
	end  error           // of the last Read or Write that failed
	stop func() bool     // takes back that the end of dial's ctx closes the connection
}

// Read keeps an error for explain.
func (w *trackedConn) Read(p []byte) (int, error) {
	n, err := w.UnixConn.Read(p)
	if err != nil {
		w.end = err
	}
	return n, err
}

// Write keeps an error for explain.
func (w *trackedConn) Write(p []byte) (int, error) {
	n, err := w.UnixConn.Write(p)
	if err != nil {
		w.end = err
	}
	return n, err
}

// Close ends the connection.
func (w *trackedConn) Close() error {
	w.stop()
	return w.UnixConn.Close()
}

// limit bounds what follows by d and by ctx's deadline.
func (w *trackedConn) limit(ctx context.Context, d time.Duration) {
	until := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	// It fails for a closed connection only, on which reads and writes fail too.
	w.SetDeadline(until)
}

// explain returns why a probe ended with err. directory is where the daemon's pid file would be.
func (w *trackedConn) explain(err error, directory string) error {
	e := &Error{Socket: w.path, Reason: Refused, Err: err}
	switch {
	case w.end == nil:
		// The daemon has answered, with a refusal.
	case errors.Is(w.end, os.ErrDeadlineExceeded), errors.Is(w.end, net.ErrClosed):
		e.Reason = Silent
		e.Err = context.Cause(w.ctx)
	case daemonLives(filepath.Join(directory, "pcscd.pid")):
		e.Reason = Closed
		e.Err = nil
	case w.peer.Pid == 1:
		// systemd listens, and its service ends before it has taken the connection.
		e.Reason = Ended
		e.Err = errSystemd
	default:
		e.Reason = Ended
		e.Err = nil
	}
	return e
}

// errSystemd is the cause of Ended where nobody else may take the socket.
var errSystemd = errors.New("systemd listens for it")

// daemonLives reports whether the process of a pid file lives. A file that cannot be read counts as
// one of a daemon that lives.
func daemonLives(file string) bool {
	text, err := readPIDFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}

	// pcscd ends its own with a NUL.
	number, _, _ := strings.Cut(string(text), "\x00")
	pid, parseErr := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || parseErr != nil || pid < 2 {
		return true
	}

	// The number may be another program's by now, if the daemon has left its file behind.
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		// The process is there, though its name is not shown (hidepid, proc(5)).
		return unix.Kill(pid, 0) != unix.ESRCH && !errors.Is(err, fs.ErrNotExist)
	}
	return strings.HasPrefix(string(name), "pcscd")
}

// longestPIDFile bounds how much of a pid file is read.
const longestPIDFile = 64

// readPIDFile reads a pid file, which has to be a regular file: anything else that the daemon's
// user has put there might never end.
func readPIDFile(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: %w", file, errors.ErrUnsupported)
	}
	return io.ReadAll(io.LimitReader(f, longestPIDFile))
}

// longestPasswd bounds how much of the user database is read.
const longestPasswd = 4 << 20

// daemonUser is the user pcscd of this machine, under which distributions run the daemon. It is a
// user of the system: no directory service is asked.
func daemonUser() (uid uint32, known bool) {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	return userIn(f)
}

// userIn finds the user pcscd in a user database, passwd(5).
func userIn(passwd io.Reader) (uid uint32, known bool) {
	for lines := bufio.NewScanner(io.LimitReader(passwd, longestPasswd)); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 4 || fields[0] != "pcscd" {
			continue
		}

		id, err := strconv.ParseUint(fields[2], 10, 32)
		return uint32(id), err == nil && id != 0
	}
	return 0, false
}

// longestStatus bounds the daemon's status in bytes, and mostUnusable how many of
// its readers are named.
const (
	longestStatus = 1 << 20
	mostUnusable  = 8
)

// unusable asks the bundled daemon which readers are there and cannot be used. It returns none if
// the daemon does not answer.
func unusable(ctx context.Context, d *dialer) []string {
	status := &dialer{path: d.path + pcsc.StatusSuffix, user: d.user}
	conn, err := status.dial(ctx)
	if err != nil {
		return nil
	}
	defer conn.Close()

	conn.limit(ctx, statusTime)
	text, err := io.ReadAll(io.LimitReader(conn, longestStatus))
	if err != nil {
		return nil
	}

	return unusableIn(string(text))
}

// unusableIn finds the readers that cannot be used in the daemon's status.
func unusableIn(status string) []string {
	var all []string
	for line := range strings.Lines(status) {
		reader, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), pcsc.UnusableReader)
		if found && len(all) < mostUnusable {
			all = append(all, reader)
		}
	}
	return all
}
