package undo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile bounds each file that is kept, in bytes: debconf's templates are the longest.
const maxFile = 64 << 20

// Tree is a machine's files, of which no name leads out. Paths are those of the machine, absolute.
type Tree struct {
	Dir  string // "/", or where a rescue system has mounted the machine
	root *os.Root
}

// OpenTree opens the files of a machine. The caller closes it.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{Dir: dir, root: root}, nil
}

// Close ends the use of the tree.
func (t *Tree) Close() error { return t.root.Close() }

// name is a path for os.Root.
func name(p string) string {
	if p = strings.TrimPrefix(path.Clean(p), "/"); p == "" {
		return "."
	}
	return p
}

// ReadFile reads a regular file of at most 64 MiB, which is no symbolic link.
func (t *Tree) ReadFile(p string) ([]byte, error) {
	data, _, err := t.read(p)
	return data, err
}

// read returns the content of a regular file and what else is known of it.
func (t *Tree) read(p string) ([]byte, State, error) {
	info, err := t.root.Lstat(name(p))
	if err != nil {
		return nil, State{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, State{}, &fs.PathError{
			Op:   "read",
			Path: p,
			Err:  errors.New("is no regular file"),
		}
	}

	// O_NONBLOCK, for a FIFO in its place would wait for a writer.
	f, err := t.root.OpenFile(name(p), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, State{}, err
	}
	defer f.Close()

	opened, err := f.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = &fs.PathError{Op: "read", Path: p, Err: errors.New("was exchanged meanwhile")}
	}
	if err != nil {
		return nil, State{}, err
	}

	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &fs.PathError{
			Op:   "read",
			Path: p,
			Err:  fmt.Errorf("is longer than %d bytes", maxFile),
		}
	}
	if err != nil {
		return nil, State{}, err
	}

	s := ofInfo(opened)
	s.SHA256 = digest(data)
	s.Xattrs, err = xattrsOf(f)
	return data, s, err
}

// State is what a path is now. One that leads nowhere is Absent, and no error.
func (t *Tree) State(p string) (State, error) {
	info, err := t.root.Lstat(name(p))
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return State{Type: Absent}, nil
	case err != nil:
		return State{}, err
	}

	s := ofInfo(info)
	switch s.Type {
	case File:
		// The state from the open file, with the content: one moment for both.
		_, s, err = t.read(p)
	case Link:
		s.Target, err = t.root.Readlink(name(p))
	}
	return s, err
}

// Write makes a file with this content and the metadata of a state, in one step: who reads the path
// meanwhile finds the old file or the new one, and after a crash one of them is there.
func (t *Tree) Write(p string, data []byte, s State) (err error) {
	temporary := temporaryName(p)
	_ = t.root.Remove(name(temporary)) // of a run that was cut short
	f, err := t.root.OpenFile(name(temporary), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC,
		0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = t.root.Remove(name(temporary))
		}
	}()

	_, err = f.Write(data)
	if err == nil {
		err = s.applyTo(f)
	}
	if err == nil {
		// On the disk before the rename: after a crash the name must not lead to an empty file.
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}

	// By name and after the descriptor is closed, since writing has set the time.
	if !s.MTime.IsZero() {
		if err := t.root.Chtimes(name(temporary), s.MTime, s.MTime); err != nil {
			return err
		}
	}

	if err := t.root.Rename(name(temporary), name(p)); err != nil {
		return err
	}
	return t.syncDir(path.Dir(p))
}

// link makes a symbolic link in one step.
func (t *Tree) link(p string, s State) error {
	temporary := temporaryName(p)
	_ = t.root.Remove(name(temporary))
	if err := t.root.Symlink(s.Target, name(temporary)); err != nil {
		return err
	}

	err := t.root.Lchown(name(temporary), int(s.UID), int(s.GID))
	if err == nil {
		err = t.root.Rename(name(temporary), name(p))
	}
	if err != nil {
		_ = t.root.Remove(name(temporary))
		return err
	}
	return t.syncDir(path.Dir(p))
}

// remove takes a file, a link or an empty directory away.
func (t *Tree) remove(p string) error {
	if err := t.root.Remove(name(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.syncDir(path.Dir(p))
}

// Mkdir makes a directory of root's with these permissions, and is content where there is one.
func (t *Tree) Mkdir(p string, mode os.FileMode) error {
	err := t.root.Mkdir(name(p), mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = t.root.Chmod(name(p), mode) // the umask must not decide
	}
	if err != nil {
		return err
	}
	return t.syncDir(path.Dir(p))
}

// names lists a directory; one that is not there is empty.
func (t *Tree) names(p string) ([]string, error) {
	dir, err := t.root.Open(name(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// syncDir brings the names of a directory to the disk. A directory that has gone has no names.
func (t *Tree) syncDir(p string) error {
	dir, err := t.root.Open(name(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // a file system that has nothing to bring there
	}
	return errors.Join(err, dir.Close())
}

// temporaryName is beside a path, hidden, and no name of a PAM service or of a certificate.
func temporaryName(p string) string {
	return filepath.Join(path.Dir(p), "."+path.Base(p)+".pam-pkcs11-new")
}

// digest is the SHA-256 of some content, in hexadecimal digits.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ofInfo is what Lstat tells.
func ofInfo(info fs.FileInfo) State {
	s := State{MTime: info.ModTime().UTC(), Type: Other}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		s.Type = File
	case mode.IsDir():
		s.Type = Dir
	case mode&fs.ModeSymlink != 0:
		s.Type = Link
	}

	if system, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Mode = uint32(system.Mode) & 0o7777
		s.UID = system.Uid
		s.GID = system.Gid
	}
	return s
}

// applyTo gives an open file owner, permissions and extended attributes, in the order in which none
// takes another away: a change of the owner clears set-user bits and capabilities, one of the
// permissions the mask of an access control list.
func (s State) applyTo(f *os.File) error {
	var err error
	fd := int(f.Fd())
	if err = unix.Fchown(fd, int(s.UID), int(s.GID)); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if err = unix.Fchmod(fd, s.Mode); err != nil {
		return fmt.Errorf("permissions: %w", err)
	}

	there, err := xattrsOf(f)
	if err != nil {
		return err
	}
	// A default access control list of the directory may have given the new file one (acl(5)).
	for attribute := range there {
		_, wanted := s.Xattrs[attribute]
		if wanted || strings.HasPrefix(attribute, "security.") {
			continue // a label of SELinux's comes with the file
		}
		if err := unix.Fremovexattr(fd, attribute); err != nil {
			return fmt.Errorf("extended attribute %s: %w", attribute, err)
		}
	}

	for attribute, value := range s.Xattrs {
		if err := unix.Fsetxattr(fd, attribute, value, 0); err != nil {
			return fmt.Errorf("extended attribute %s: %w", attribute, err)
		}
	}
	return nil
}

// maxXattrs bounds the names of a file's extended attributes, and each value, in bytes (xattr(7)).
const maxXattrs = 64 << 10

// xattrsOf reads the extended attributes of a file; nil is none.
func xattrsOf(f *os.File) (map[string][]byte, error) {
	fd := int(f.Fd())
	list := make([]byte, maxXattrs)
	n, err := unix.Flistxattr(fd, list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: extended attributes: %w", f.Name(), err)
	}

	all := make(map[string][]byte)
	value := make([]byte, maxXattrs)
	// The kernel ends each name with a NUL (listxattr(2)).
	for attribute := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(fd, attribute, value)
		if err != nil {
			return nil, fmt.Errorf("%s: extended attribute %s: %w", f.Name(), attribute, err)
		}
		all[attribute] = append([]byte{}, value[:n]...)
	}
	return all, nil
}
