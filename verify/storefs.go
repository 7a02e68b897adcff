package verify

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

// storeFS is what the CRL store does to the disk. A test cuts here, to let the power fail or the disk be full.
type storeFS interface {
	create(path string) (storeFile, error) // truncated, readable for everybody
	rename(from, to string) error
	remove(path string) error
	mkdir(path string) error // with the parents, 0755
	syncDir(path string) error
}

type storeFile interface {
	io.WriteCloser
	Sync() error
}

// disk is the real one.
type disk struct{}

func (disk) create(path string) (storeFile, error) {
	f, err := safefile.Create(path, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (disk) rename(from, to string) error { return os.Rename(from, to) }
func (disk) remove(path string) error     { return os.Remove(path) }

func (d disk) mkdir(path string) error {
	err := os.Mkdir(path, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path:
		if err := d.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		return d.mkdir(path)
	case err != nil:
		return err
	}
	return os.Chmod(path, 0o755)
}

func (disk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".new-"

// tempNumber tells the temporary files of one store apart; several stores of one process, and processes of one number in
// several containers, are told apart by chance.
type tempNumber struct{ n atomic.Int64 }

func (t *tempNumber) name(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d-%d-%s", tempPrefix, os.Getpid(), t.n.Add(1), rand.Text()))
}

// lockFile takes an advisory lock without waiting; nil when another process has it.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return func() { _ = f.Close() }, nil
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		return nil, f.Close()
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
}
