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
	greetTime   = 5 * time.Second  // to be accepted; and pcsc.Client's own limit for the first answer
	listTime    = 10 * time.Second // for the readers that are there: a daemon waits 5 s for slow ones
	statusTime  = 2 * time.Second
	crowdedTime = 5 * time.Millisecond // before a queue that is full is tried again
)

// dialer makes the connections to one daemon. Before a byte is sent the kernel has said whose it is.
type dialer struct {
	path string
	user func() (uint32, bool) // the user of system daemons
}

// dial connects to a daemon that may get a PIN.
func (d *dialer) dial(ctx context.Context) (*watched, error) {
	fail := func(reason Reason, err error) (*watched, error) {
		return nil, &Error{Socket: d.path, Reason: reason, Err: err}
	}
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
		err = belongs(int(peer.Pid), int(peer.Uid))
	}
	if err != nil {
		conn.Close()
		return fail(Foreign, err)
	}
	w := &watched{UnixConn: conn, peer: peer, path: d.path, ctx: ctx}
	w.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return w, nil
}

// trusts reports whether a daemon of this user may get a PIN: root's, pcscd's, and one's own where one is not root.
func (d *dialer) trusts(uid uint32) bool {
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return true
	}
	pcscd, known := d.user()
	return known && uid == pcscd
}

// checkDirectory sees to it that nobody but root, or the user of the daemon, can put another socket in the place.
func (d *dialer) checkDirectory() error {
	dir, err := safefile.OpenDir(filepath.Dir(d.path), safefile.Policy{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		pcscd, known := d.user()
		if !known {
			return err
		}
		if dir, err = safefile.OpenDir(filepath.Dir(d.path), safefile.Policy{Owners: []uint32{pcscd}}); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return dir.Close()
}

// connect waits for a place in the daemon's queue, until ctx ends or greetTime is over.
func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("its queue of connections is full and does not move")
		case <-time.After(crowdedTime):
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
	if err := raw.Control(func(fd uintptr) {
		cred, problem = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, problem
}

// watched is a connection that knows how it ended.
type watched struct {
	*net.UnixConn
	peer *unix.Ucred
	path string
	ctx  context.Context // of dial
	end  error           // of the last Read or Write that failed
	stop func() bool     // of what closes the connection when the ctx of dial ends
}

// Read notes why nothing comes.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.UnixConn.Read(p)
	if err != nil {
		w.end = err
	}
	return n, err
}

// Write notes why nothing can be said.
func (w *watched) Write(p []byte) (int, error) {
	n, err := w.UnixConn.Write(p)
	if err != nil {
		w.end = err
	}
	return n, err
}

// Close ends the connection.
func (w *watched) Close() error {
	w.stop()
	return w.UnixConn.Close()
}

// limit bounds what follows by d and by ctx's deadline.
func (w *watched) limit(ctx context.Context, d time.Duration) {
	until := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	w.SetDeadline(until) // of a connection that is open it does not fail
}

// explain says why a greeting ended with err. directory is where the daemon's pid file would be.
func (w *watched) explain(err error, directory string) error {
	e := &Error{Socket: w.path, Reason: Refused, Err: err}
	switch {
	case w.end == nil: // it has answered
	case errors.Is(w.end, os.ErrDeadlineExceeded), errors.Is(w.end, net.ErrClosed):
		e.Reason, e.Err = Silent, context.Cause(w.ctx)
	case daemonLives(filepath.Join(directory, "pcscd.pid")):
		e.Reason, e.Err = Closed, nil
	case w.peer.Pid == 1:
		e.Reason, e.Err = Ended, errSystemd
	default:
		e.Reason, e.Err = Ended, nil
	}
	return e
}

// errSystemd is the cause of Ended where nobody else may take the socket.
var errSystemd = errors.New("systemd listens for it")

// daemonLives reports whether the process of a pid file lives. A file that cannot be read says nothing against it.
func daemonLives(file string) bool {
	text, err := readPIDFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}

	number, _, _ := strings.Cut(string(text), "\x00") // pcscd writes its own with a NUL at the end
	pid, parseErr := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || parseErr != nil || pid < 2 {
		return true
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return unix.Kill(pid, 0) != unix.ESRCH && !errors.Is(err, fs.ErrNotExist)
	}
	return strings.HasPrefix(string(name), "pcscd")
}

// longestPIDFile bounds how much of a pid file is read.
const longestPIDFile = 64

// readPIDFile reads a pid file, which has to be a file: of anything else that the daemon's user has put there the end might
// never come.
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

// daemonUser is the user pcscd of this machine, under which distributions run the daemon. It is a user of the system: no
// directory service is asked.
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

// longestStatus bounds what the daemon may say of itself, and mostUnusable what is passed on.
const (
	longestStatus = 1 << 20
	mostUnusable  = 8
)

// unusable asks the bundled daemon which readers are there and cannot be used. What it does not say changes nothing.
func unusable(ctx context.Context, d *dialer) []string {
	beside := &dialer{path: d.path + pcsc.StatusSuffix, user: d.user}
	conn, err := beside.dial(ctx)
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

// unusableIn finds the readers that cannot be used in what the daemon says.
func unusableIn(status string) []string {
	var all []string
	for line := range strings.Lines(status) {
		if reader, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), pcsc.UnusableReader); found && len(all) < mostUnusable {
			all = append(all, reader)
		}
	}
	return all
}
