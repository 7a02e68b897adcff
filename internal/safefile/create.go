package safefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// New is a file that is being written. It has no name before it is on the disk, so that nothing is
// left of it when the process ends sooner.
type New struct {
	*os.File
	path string // "" where it had its name from the beginning
}

// Create makes a file with these permissions, whatever the umask. Sync brings it to the disk and
// gives it its name, which must be that of no file then. Where the file system or a missing /proc
// does not allow that (open(2), O_TMPFILE), it has its name from the beginning, and replaces what
// was there.
func Create(path string, mode os.FileMode) (*New, error) {
	// Without /proc the file could not be given its name later.
	f, err := os.OpenFile(filepath.Dir(path), unix.O_TMPFILE|os.O_WRONLY, mode)
	if err == nil {
		if _, gone := os.Stat(nameless(f)); gone == nil {
			return chmod(&New{File: f, path: path}, mode)
		}
		_ = f.Close()
	}

	f, err = os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	return chmod(&New{File: f}, mode)
}

func chmod(f *New, mode os.FileMode) (*New, error) {
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// nameless is the way to an open file without a name.
func nameless(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// Sync brings what was written to the disk, and gives the file its name.
func (f *New) Sync() error {
	if err := f.File.Sync(); err != nil || f.path == "" {
		return err
	}

	err := unix.Linkat(unix.AT_FDCWD, nameless(f.File), unix.AT_FDCWD, f.path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: f.path, Err: err}
	}
	// The name is given once; a second Sync only brings more to the disk.
	f.path = ""
	return nil
}
