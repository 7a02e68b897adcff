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

// Names of files that are being written begin so. One that is older than staleAfter was left behind
// by a process that was killed.
const (
	freshPrefix = ".new-"
	staleAfter  = time.Hour
)

// Put keeps an entry, in the place of an earlier one. The error says why it is not kept, which is
// no reason to end a login: then it is read from the card again the next time.
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

// write puts a file in place as a whole or not at all. It is not brought to the disk, which would
// take a login some 10 ms: what a loss of power leaves of it is recognised by its hash.
func (c *Cache) write(name string, content []byte) error {
	dir := int(c.dir.Fd())
	fresh := freshPrefix + rand.Text()
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, fresh, flags, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: c.dir.Name(), Err: err}
	}

	f := os.NewFile(uintptr(fd), fresh)
	err = f.Chmod(0o600) // whatever the umask
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		c.touch(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(dir, fresh, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, fresh, 0) // what counts is the error above
	}
	return err
}

// Drop forgets the entry of the certificate whose object begins with piece.
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
// processes that do it at once may remove one more; other files are left alone.
func (c *Cache) tidy() error {
	entries, stale, err := c.list()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b used) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.name, b.name))
	})
	if n := len(entries) - MaxEntries; n > 0 {
		stale = append(stale, entries[:n]...)
	}

	var failed error
	for _, f := range stale {
		if err := unix.Unlinkat(int(c.dir.Fd()), f.name, 0); err != nil && err != unix.ENOENT {
			failed = errors.Join(failed, &fs.PathError{Op: "remove", Path: f.name, Err: err})
		}
	}
	return failed
}

// list returns the entries, whatever they are, and the files that were left behind.
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
		isEntry, isFresh := isName(file.Name()), strings.HasPrefix(file.Name(), freshPrefix)
		if !isEntry && !isFresh {
			continue
		}
		info, err := file.Info()
		if err != nil {
			continue // it is gone meanwhile
		}
		switch f := (used{file.Name(), info.ModTime()}); {
		case isEntry:
			entries = append(entries, f)
		case c.now().Sub(f.at) > staleAfter:
			stale = append(stale, f)
		}
	}
	return entries, stale, nil
}

// reopened opens a directory once more, with a position of its own.
func reopened(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}
