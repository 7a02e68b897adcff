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

// Add counts a login in a file, an absolute path that ends with .prom. It waits for others that do so at most until ctx
// ends. The file is replaced as a whole; one that is damaged is begun anew, which a collector takes for a restart. An
// error leaves it as it was.
func Add(ctx context.Context, file string, l Login) error {
	if !filepath.IsAbs(file) || !strings.HasSuffix(file, ".prom") {
		return fmt.Errorf("%s: a file of metrics has an absolute path that ends with .prom", file)
	}
	dir, err := openDirectory(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := lock(ctx, dir); err != nil {
		return fmt.Errorf("%s: %w", dir.Name(), err)
	}

	c, err := read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c.add(l)
	return replace(file, c.encode())
}

// openDirectory opens a directory that nobody but its owner, who is root or this process's user, may write.
func openDirectory(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat()
	if err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
			err = fmt.Errorf("%s: others than its owner may write it, or it is not root's", path)
		}
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// lock takes the lock of a directory, which ends when it is closed.
func lock(ctx context.Context, dir *os.File) error {
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("others count at the same time: %w", ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// read reads the file; one that is not there counts nothing, nor does one that is damaged.
func read(file string) (*counts, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if os.IsNotExist(err) {
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
	c, err := parse(text)
	switch {
	case errors.Is(err, errForeign):
		return nil, err
	case err != nil || len(text) > maxFile:
		return newCounts(), nil
	}
	return c, nil
}

// replace puts a new file in the place of the old one. Everybody may read it: the collector is not root.
func replace(file string, text []byte) error {
	fresh, err := os.CreateTemp(filepath.Dir(file), ".pam_pkcs11-") // no .prom: the collector passes it over
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(text)
	err = errors.Join(err, fresh.Chmod(0o644), fresh.Close())
	if err != nil {
		return err
	}
	return os.Rename(fresh.Name(), file)
}
