package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/safefile"
)

// Limits of starting the daemon.
const (
	startTime = 30 * time.Second // the daemon waits 10 s for one that ends, and for USB readers
	lockTime  = 60 * time.Second // for another login that is starting it
	lockPause = 5 * time.Millisecond
	maxOutput = 2 << 10 // bytes kept of what a daemon writes that does not start
)

// startSuffix is appended to the socket's name for the file that a login locks
// while it starts the daemon.
const startSuffix = ".start"

// findBundled finds the bundled daemon, and starts it where it does not run. One login does so for
// all that come meanwhile.
func (s *search) findBundled(ctx context.Context) (Found, error) {
	found, err := s.tryBundled(ctx)
	// A socket of systemd's starts the daemon by itself. If that fails, so would this.
	if !absent(err) || errors.Is(err, errSystemd) {
		return found, err
	}

	unlock, err := s.lock(ctx)
	if err != nil {
		return Found{}, err
	}
	defer unlock()

	// Another login may have started it while this one waited for the lock.
	if found, err := s.tryBundled(ctx); !absent(err) {
		return found, err
	}

	if err := s.start(ctx); err != nil {
		return Found{}, &Error{Socket: s.BundledSocket, Reason: NotStarted, Err: err}
	}

	found, err = s.tryBundled(ctx)
	found.Started = err == nil
	return found, err
}

// tryBundled connects to the bundled daemon and waits for its readers.
func (s *search) tryBundled(ctx context.Context) (Found, error) {
	found, err := s.probe(ctx, s.BundledSocket, true)
	found.Bundled = true
	return found, err
}

// lock waits for the right to start the daemon. The right ends with the process that has it.
func (s *search) lock(ctx context.Context) (unlock func(), err error) {
	fail := func(err error) (func(), error) {
		return nil, &Error{Socket: s.BundledSocket, Reason: NotStarted, Err: err}
	}

	err = os.Mkdir(filepath.Dir(s.BundledSocket), 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fail(err)
	}
	f, err := os.OpenFile(s.BundledSocket+startSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}

	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// The kernel gives the lock back with the descriptor.
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return fail(err)
		}

		select {
		case <-ctx.Done():
			f.Close()
			return fail(errors.New("another login has been starting it for too long"))
		case <-time.After(lockPause):
		}
	}
}

// start starts the daemon and waits until it listens. The daemon then is no child of this
// process, has a session of its own, and inherits nothing but the identity, and limits
// that cannot be raised.
func (s *search) start(ctx context.Context) error {
	if s.Host > 0 && hasAncestor(os.Getpid(), s.Host) {
		return fmt.Errorf("the program that logs in (pid %d) takes in orphans "+
			"and would become the daemon's parent: "+
			"pam-pkcs11-pcscd.socket, or a daemon of the system, has to run", s.Host)
	}

	program, _, err := safefile.Open(s.Program, safefile.Configuration())
	if err != nil {
		return err
	}
	defer program.Close()

	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()

	output := &limitedBuffer{}
	cmd := exec.CommandContext(ctx, s.Program,
		"--bundled", "--auto-exit", "--socket", s.BundledSocket)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stderr = output
	// A daemon that kept its stderr open would otherwise keep Run from returning.
	cmd.WaitDelay = time.Second
	err = cmd.Run()

	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("not ready in time: %w", ctx.Err())
	}

	if text := output.String(); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ text bytes.Buffer }

// Write takes everything and keeps what there is room for.
func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.text.Write(p[:min(len(p), maxOutput-l.text.Len())])
	return len(p), nil
}

// String is the text on one line.
func (l *limitedBuffer) String() string {
	return strings.Join(strings.Fields(l.text.String()), " ")
}

// mostAncestors bounds how far the parents of a process are followed.
const mostAncestors = 64

// hasAncestor reports whether a process is a descendant of another. A login's worker is a
// descendant of its host only where the host takes in orphans: otherwise the process between them
// has ended, and init is its parent.
func hasAncestor(pid, ancestor int) bool {
	for range mostAncestors {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}

		parent, err := parentIn(string(text))
		if err != nil || parent <= 0 {
			return false
		}
		if parent == ancestor {
			return true
		}

		pid = parent
	}
	return false
}

// parentIn is the parent of a process by /proc/PID/stat (proc(5)): the second field behind the
// name, which is in parentheses and may hold any character.
func parentIn(stat string) (int, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, errors.New("not a line of /proc/PID/stat")
	}
	return strconv.Atoi(fields[1])
}
