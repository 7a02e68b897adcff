package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The daemon of pam_pkcs11 (--bundled) serves logins where the machine has no other: on a
// socket in a directory that is root's alone, one for the machine, started by systemd or by the
// first login that wants it.

// lockSuffix is appended to the socket's name for the file that the one daemon keeps
// locked as long as it lives.
const lockSuffix = ".lock"

// lockTime is how long a daemon waits for the end of one before it, which may be ending just now.
const lockTime = 10 * time.Second

// lockSocket takes the lock of the socket at path, and waits for it up to timeout. The daemon keeps
// it until it ends. The file has its process number, for the error of another that comes meanwhile.
func lockSocket(path string, timeout time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}

	for until := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}

		again := err == unix.EINTR || err == unix.EWOULDBLOCK
		if !again || time.Now().After(until) {
			pid, _ := io.ReadAll(io.LimitReader(f, 20))
			f.Close()
			return nil, fmt.Errorf("%s: another daemon runs, with pid %s: %w",
				path, printable(strings.TrimSpace(string(pid))), err)
		}
	}

	// The file may have the number of an earlier daemon.
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ownDirectory makes the directory of the socket, which is root's alone (or that of the user who
// started the daemon, if that is another), or checks the one that is there.
func ownDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}

	// Lstat: a link could be made to lead elsewhere after this.
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}

	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case owner != 0 && int(owner) != os.Geteuid():
		return fmt.Errorf("%s belongs to the user %d", dir, owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others than its owner (mode %04o)",
			dir, info.Mode().Perm())
	}
	return nil
}

// readersUser is the user whose group may open the device files of readers, by our rule
// of udev, ruleOfReaders.
const (
	readersUser   = "pcscd"
	ruleOfReaders = "udev/rules.d/60-pcscd.rules"
)

// ruleDirectories are where udevd looks for rules; udevControl is there while it runs.
var ruleDirectories = []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"}

const udevControl = "/run/udev/control"

// becomeReadersUser gives up root's rights where readers can be used without them: the user exists,
// and udevd has our rule.
func becomeReadersUser(log *slog.Logger) error {
	if os.Geteuid() != 0 {
		return nil
	}

	uid, gid, why := lookForReadersUser("/")
	if why != "" {
		log.Info("the daemon runs as root", "because", why)
		return nil
	}

	// The user last: without root's rights the groups cannot be changed.
	err := errors.Join(
		syscall.Setgroups([]int{gid}),
		syscall.Setresgid(gid, gid, gid),
		syscall.Setresuid(uid, uid, uid),
	)
	if err != nil {
		return fmt.Errorf("becoming the user %s: %w", readersUser, err)
	}
	return nil
}

// lookForReadersUser returns the numbers of the user, or why it cannot be used. root is "/".
func lookForReadersUser(root string) (uid, gid int, why string) {
	// udevd gives the device files to the group. Without it they are root's, and new ones stay so.
	if _, err := os.Stat(filepath.Join(root, udevControl)); err != nil {
		return 0, 0, "no udevd runs"
	}
	if !hasRule(root) {
		return 0, 0, "no rule of udev gives readers to " + readersUser
	}

	u, err := user.Lookup(readersUser)
	if err != nil {
		return 0, 0, err.Error()
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	if err := errors.Join(errUID, errGID); err != nil || uid == 0 {
		return 0, 0, "the user " + readersUser + " is no user of its own"
	}
	return uid, gid, ""
}

// hasRule reports whether our rule of udev is in force: of files with one
// name udev reads the first.
func hasRule(root string) bool {
	for _, dir := range ruleDirectories {
		text, err := os.ReadFile(filepath.Join(root, dir, ruleOfReaders))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return err == nil && strings.Contains(string(text), `GROUP="`+readersUser+`"`)
	}
	return false
}

// prepareBundled prepares the process for the daemon of logins: nothing that it makes is for
// others, and it is the only one at its socket.
func prepareBundled(o *options) (release func(), err error) {
	unix.Umask(0o077)
	if err := ownDirectory(filepath.Dir(o.socket)); err != nil {
		return nil, err
	}

	lock, err := lockSocket(o.socket, lockTime)
	if err != nil {
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// closeInherited keeps from the daemon what the program that started us has left open: all
// descriptors but 0, 1 and 2 are closed when it is executed.
func closeInherited() {
	// A kernel before 5.11 does not know the flag.
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}

	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// fixLimits gives this process, and the daemon that it starts, the limits of its unit
// (pam-pkcs11-pcscd.service). su and sudo pass on those of their caller, who must not decide for
// all logins, nor have PINs in a core file. What cannot be raised stays as high as it may be.
func fixLimits() error {
	for _, l := range []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_AS, unix.RLIM_INFINITY},
		{unix.RLIMIT_DATA, unix.RLIM_INFINITY},
		{unix.RLIMIT_CPU, unix.RLIM_INFINITY},
		{unix.RLIMIT_FSIZE, unix.RLIM_INFINITY},
		{unix.RLIMIT_NPROC, unix.RLIM_INFINITY},
		{unix.RLIMIT_NOFILE, 4096},
	} {
		if unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}) == nil {
			continue
		}

		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return err
		}
		// Up to its hard limit a process may always raise a limit.
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: now.Max, Max: now.Max}); err != nil {
			return err
		}
	}

	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

// bundledEnvironment is the environment of the daemon in the background, which gets
// nothing of the caller's.
var bundledEnvironment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
