package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"pam_pkcs11/internal/safefile"
)

// FS is what the CRL store does to the disk. A test implements it to let the power fail or the disk
// be full.
type FS interface {
	Create(path string) (File, error) // truncated, readable for everybody
	Rename(from, to string) error
	Remove(path string) error
	Mkdir(path string) error // with the parents, 0755
	SyncDir(path string) error
}

// File is one that is being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// Disk is the real one.
type Disk struct{}

// Create makes a file that has its name once it was synced.
func (Disk) Create(path string) (File, error) {
	f, err := safefile.Create(path, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename puts a file in the place of another.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove removes a file.
func (Disk) Remove(path string) error { return os.Remove(path) }

// Mkdir makes a directory that everybody may read, with its parents; one that is there is left as
// it is.
func (d Disk) Mkdir(path string) error {
	err := os.Mkdir(path, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path:
		if err := d.Mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		return d.Mkdir(path)
	case err != nil:
		return err
	}
	// The umask of an administrator must not hide the store from logins of users.
	return os.Chmod(path, 0o755)
}

// SyncDir brings the names in a directory to the disk.
func (Disk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".new-"

// tempNumber gives the temporary files of one store different names; those of several stores of one
// process, and of processes with the same number in several containers, differ by chance.
type tempNumber struct{ n atomic.Int64 }

// name returns a new name for a file in a directory.
func (t *tempNumber) name(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d-%d-%s", tempPrefix, os.Getpid(), t.n.Add(1), rand.Text()))
}

// lockFile takes an advisory lock without waiting; nil when another process has it.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}

	// The lock belongs to the open file: it ends with the process, also when that is killed.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return func() { _ = f.Close() }, nil
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		return nil, f.Close()
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
}
