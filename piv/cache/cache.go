package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/safefile"
)

// MaxEntries is how many entries a directory has at most. The one that was not used for the longest
// time is removed first.
const MaxEntries = 64

// touchAfter is the age of a file's time after which a use of the entry is written to it. For the
// choice of the oldest of 64 entries a day is precise enough, and costs no write at each login.
const touchAfter = 24 * time.Hour

// Options say how a Cache works. The zero value is what a login wants.
type Options struct {
	Logger *slog.Logger     // gets, at level debug, why a file is ignored; nil is silent
	Now    func() time.Time // a clock for tests; nil is time.Now
}

// Cache is an opened directory. It may be used from several goroutines, and by several processes at
// once. A nil Cache has no entries and keeps none.
type Cache struct {
	dir *os.File
	log *slog.Logger
	now func() time.Time
}

// Open opens the directory at dir, and makes it where it is absent, with mode 0700; its parent too.
// The directory must belong to the effective user, and nobody else may be able to write it or,
// except root, a directory on the way to it. Others lose the right to read it.
func Open(dir string, o Options) (*Cache, error) {
	c := &Cache{log: o.Logger, now: o.Now}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}

	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%s: the directory of the cache must be an absolute path", dir)
	}

	// The parent is made as well, and nothing above it.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}

	// Everything on the way belongs to root or to this user: nobody else can exchange the directory
	// from here on.
	way, err := safefile.OpenDir(dir, safefile.Secret().Strict())
	if err != nil {
		return nil, err
	}
	defer way.Close()

	if c.dir, err = openDirectory(way.Path); err != nil {
		return nil, err
	}
	return c, nil
}

// openDirectory opens a directory of the effective user's own, for nobody else.
func openDirectory(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}

	// The open directory is checked and not its name, which could be exchanged meanwhile.
	var st unix.Stat_t
	switch err = unix.Fstat(int(f.Fd()), &st); {
	case err != nil:
	case int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("%s belongs to user %d, not to user %d", path, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		err = fmt.Errorf("%s may be written by others (mode %04o)", path, st.Mode&0o7777)
	case st.Mode&0o077 != 0:
		err = f.Chmod(0o700)
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close ends the use of the cache. It may be called again.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	if err := c.dir.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// nameOf returns the name of an entry's file.
func nameOf(piece []byte) string {
	hash := sha256.Sum256(piece)
	return hex.EncodeToString(hash[:])
}

// isName reports whether a file has the name of an entry.
func isName(name string) bool {
	hash, err := hex.DecodeString(name)
	return err == nil && len(hash) == sha256.Size
}

// Get returns the entry of the certificate whose object begins with piece, 1 to MaxPiece bytes. A
// file that is not as Put writes it counts as absent.
func (c *Cache) Get(piece []byte) (*Entry, bool) {
	if c == nil {
		return nil, false
	}
	name := nameOf(piece)
	e, err := c.read(name)
	if err == nil {
		err = e.check(piece)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Debug("an entry of the card cache is ignored", "file", name, "error", err)
		}
		return nil, false
	}
	return e, true
}

// read reads the file of that name.
func (c *Cache) read(name string) (*Entry, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	// One byte more than is allowed shows that a file is too long.
	content, err := io.ReadAll(io.LimitReader(f, MaxEntry+1))
	if err != nil {
		return nil, err
	}

	e, err := unmarshal(content)
	if err != nil {
		return nil, err
	}

	// The time of the file is that of its last use.
	if info, err := f.Stat(); err == nil && c.now().Sub(info.ModTime()) > touchAfter {
		c.touch(f)
	}
	return e, nil
}

// open opens a file that Put has made. It checks the file before, since opening a device can have
// effects, and again when it is open.
func (c *Cache) open(name string) (*os.File, error) {
	// The finalizer of c.dir would close the descriptor that is used here.
	defer runtime.KeepAlive(c)
	dir := int(c.dir.Fd())

	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}

	if err := checkFile(&st); err != nil {
		return nil, err
	}

	// A FIFO that was put there meanwhile must not block: O_NONBLOCK.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	fd, err := unix.Openat(dir, name, flags, 0)
	if err != nil {
		return nil, err
	}

	f := os.NewFile(uintptr(fd), name)
	if err = unix.Fstat(fd, &st); err == nil {
		err = checkFile(&st)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkFile refuses a file that Put cannot have made.
func checkFile(st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is no regular file")
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d", st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("it is open to others (mode %04o)", st.Mode&0o7777)
	case st.Nlink != 1:
		return fmt.Errorf("it has %d names", st.Nlink)
	case st.Size > MaxEntry:
		return fmt.Errorf("it has %d bytes", st.Size)
	}
	return nil
}

// touch writes to a file that the entry was used. Where that fails the entry is only forgotten
// sooner.
func (c *Cache) touch(f *os.File) {
	now := unix.NsecToTimeval(c.now().UnixNano())
	_ = unix.Futimes(int(f.Fd()), []unix.Timeval{now, now})
}
