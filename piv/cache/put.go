package cache

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of files that are being written. One that is older than staleAfter was left by a process
// that was killed.
const (
	freshPrefix = ".new-"
	staleAfter  = time.Hour
)

// Put keeps an entry, in the place of an earlier one. An error is no reason to end a login: the
// card is then read again the next time.
func (c *Cache) Put(piece []byte, e *Entry) error {
	if c == nil {
		return nil
	}
	defer runtime.KeepAlive(c)
	if err := e.check(piece); err != nil {
		return err
	}
	content, err := e.marshal()
	if err != nil {
		return err
	}
	if err := c.write(nameOf(piece), content); err != nil {
		return err
	}
	return c.tidy()
}

// write puts a file in place as a whole or not at all. It does not sync it to the disk, which would
// take a login some 10 ms: the hash shows what a power failure has damaged.
func (c *Cache) write(name string, content []byte) error {
	dir := int(c.dir.Fd())
	fresh := freshPrefix + rand.Text()

	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, fresh, flags, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: c.dir.Name(), Err: err}
	}

	f := os.NewFile(uintptr(fd), fresh)
	err = f.Chmod(0o600) // the umask may have taken more away
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		c.touch(f)
	}

	// The new name comes last: a reader never sees half of a file.
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(dir, fresh, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, fresh, 0) // the error that counts is the one above
	}
	return err
}

// Drop removes the entry of the certificate whose object begins with piece.
func (c *Cache) Drop(piece []byte) {
	if c == nil {
		return
	}
	defer runtime.KeepAlive(c)
	if err := unix.Unlinkat(int(c.dir.Fd()), nameOf(piece), 0); err != nil && err != unix.ENOENT {
		c.log.Debug("an entry of the card cache is not removed", "file", nameOf(piece), "error", err)
	}
}

// used is a file in the directory, and when it was used last.
type used struct {
	name string
	at   time.Time
}

// tidy removes the oldest entries beyond MaxEntries, and what killed processes have left. Two
// processes that do it at once may remove one entry too many; other files stay.
func (c *Cache) tidy() error {
	entries, stale, err := c.list()
	if err != nil {
		return err
	}

	// Names break ties, so that two processes choose the same entries.
	slices.SortFunc(entries, func(a, b used) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.name, b.name))
	})
	if n := len(entries) - MaxEntries; n > 0 {
		stale = append(stale, entries[:n]...)
	}

	var failed error
	for _, f := range stale {
		// Another process may have removed it already.
		if err := unix.Unlinkat(int(c.dir.Fd()), f.name, 0); err != nil && err != unix.ENOENT {
			failed = errors.Join(failed, &fs.PathError{Op: "remove", Path: f.name, Err: err})
		}
	}
	return failed
}

// list returns the entries, whatever they contain, and the files that were left behind.
func (c *Cache) list() (entries, stale []used, err error) {
	dir, err := reopened(c.dir)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()

	files, err := dir.ReadDir(-1)
	if err != nil {
		return nil, nil, err
	}

	for _, file := range files {
		isEntry := isName(file.Name())
		isFresh := strings.HasPrefix(file.Name(), freshPrefix)
		if !isEntry && !isFresh {
			continue
		}

		info, err := file.Info()
		if err != nil {
			continue // it is gone meanwhile
		}

		// A file that another process is writing now is left alone.
		switch f := (used{file.Name(), info.ModTime()}); {
		case isEntry:
			entries = append(entries, f)
		case c.now().Sub(f.at) > staleAfter:
			stale = append(stale, f)
		}
	}
	return entries, stale, nil
}

// reopened opens a directory once more, with a position of its own: ReadDir moves it.
func reopened(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}
