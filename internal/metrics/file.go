package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockPause is how often the lock is tried.
const lockPause = 10 * time.Millisecond

// Add counts a login in a file, an absolute path that ends with .prom. It waits for others that do
// so at most until ctx ends. The file is replaced as a whole; one that is damaged is begun anew,
// which a collector takes for a restart. An error leaves it as it was.
func Add(ctx context.Context, file string, l Login) error {
	if !filepath.IsAbs(file) || !strings.HasSuffix(file, ".prom") {
		return fmt.Errorf("%s: a file of metrics has an absolute path that ends with .prom", file)
	}
	dir, err := openDirectory(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()

	name := filepath.Base(file)
	held, err := lock(ctx, dir, name)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer held.Close()

	c, err := read(dir, name)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	c.add(l)
	if err := replace(dir, name, c.encode()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// openDirectory opens a directory that nobody but its owner, who is root or this process's user,
// may write.
func openDirectory(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat()
	// Others who may write the directory could put a file or link of theirs in our place.
	if err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		isOurs := ok && (owner.Uid == 0 || int(owner.Uid) == os.Geteuid())
		if !isOurs || info.Mode().Perm()&0o022 != 0 {
			err = fmt.Errorf("%s: others than its owner may write it, or it is not root's", path)
		}
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// openAt opens a file of a directory, whatever becomes of the directory's name, and follows no
// link.
func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name,
		flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// hidden is the name of a file that stands beside that of the metrics, which a collector passes
// over.
func hidden(name, what string) string { return "." + strings.TrimSuffix(name, ".prom") + what }

// lock takes the lock of a file of metrics, which ends when what it returns is closed. The lock has
// a file of its own that only its owner may open: on one that others may read, anybody could hold
// the lock, and keep logins from being counted.
func lock(ctx context.Context, dir *os.File, name string) (*os.File, error) {
	f, err := openAt(dir, hidden(name, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}

		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("others count at the same time: %w", ctx.Err()),
				f.Close())
		case <-time.After(lockPause):
		}
	}
}

// read reads the file; one that is not there counts nothing, nor does one that is damaged.
func read(dir *os.File, name string) (*counts, error) {
	f, err := openAt(dir, name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return newCounts(), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no regular file"), err)
	}

	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}

	// Damaged: begun anew, which a collector takes for a restart of the counter.
	c, err := parse(text)
	switch {
	case errors.Is(err, errForeign):
		return nil, err
	case err != nil || len(text) > maxFile:
		return newCounts(), nil
	}
	return c, nil
}

// replace puts a new file in the place of the old one. Everybody may read it: the collector is not
// root. Whoever holds the lock is alone with the new file; what one has left that ended in the
// middle goes first.
func replace(dir *os.File, name string, text []byte) error {
	fresh := hidden(name, ".new")
	at := int(dir.Fd())
	if err := unix.Unlinkat(at, fresh, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}

	f, err := openAt(dir, fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	// Readable only when it is complete; the name changes last.
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = unix.Renameat(at, fresh, at, name)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(at, fresh, 0))
	}
	return nil
}
