package main

import (
	"errors"
	"os"
	"syscall"

	"pam_pkcs11/internal/safefile"
)

// writeAside writes what a file shall hold beside it and brings it to the disk, with a mode and, unless it is nil, an
// owner. The answer is its name; nothing is left behind with an error.
func writeAside(file string, data []byte, mode os.FileMode, owner *syscall.Stat_t) (fresh string, err error) {
	fresh = file + ".pam-pkcs11-new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	f, err := safefile.Create(fresh, mode.Perm())
	if err != nil {
		return "", err
	}

	_, err = f.Write(data)
	if owner != nil && err == nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(fresh)
		return "", err
	}
	return fresh, nil
}

// fileOwner is whose a file is; nil where that is not known.
func fileOwner(info os.FileInfo) *syscall.Stat_t {
	owner, _ := info.Sys().(*syscall.Stat_t)
	return owner
}

// replaceFile puts a new text into the place of a file in one step; was is the file, whose mode and owner stay.
func replaceFile(file string, data []byte, was os.FileInfo) error {
	fresh, err := writeAside(file, data, was.Mode(), fileOwner(was))
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, file); err != nil {
		_ = os.Remove(fresh)
		return err
	}
	return nil
}

// createFile makes a file that is not there in one step, with the mode of another and, where root does it, its owner. The
// error is os.ErrExist where something of that name is there, a link that leads nowhere too.
func createFile(file string, data []byte, like os.FileInfo) error {
	var owner *syscall.Stat_t
	if os.Geteuid() == 0 {
		owner = fileOwner(like)
	}
	fresh, err := writeAside(file, data, like.Mode(), owner)
	if err != nil {
		return err
	}
	err = os.Link(fresh, file) // unlike a rename it replaces nothing
	return errors.Join(err, os.Remove(fresh))
}
