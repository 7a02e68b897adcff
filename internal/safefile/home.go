package safefile

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenOwned opens the file called name (a relative path) below the directory home, both of which
// are the owner's to write. The way to home is checked by p; home itself and all below it, links
// that lead elsewhere included, must belong to the owner or to root and be writable by nobody else,
// whatever p allows. Of p, MaxSize holds for the file. It is to be called as the owner, see
// AsUsers.
func OpenOwned(home, name string, owner uint32, p Policy) (*os.File, Resolved, error) {
	if !filepath.IsAbs(home) {
		return nil, Resolved{}, &Error{Path: home, Problem: "the home directory is not an absolute path"}
	}
	// A new slice: that of the caller must not change.
	p.Owners = append([]uint32{owner}, p.Owners...)

	w, err := newWalk(home, p)
	if err != nil {
		return nil, Resolved{}, err
	}
	defer w.close()

	if err := wellFormed(name); err != nil {
		return nil, Resolved{}, err
	}

	if err := w.toDirectory(); err != nil {
		return nil, Resolved{}, err
	}
	// From here on p no longer holds: what is the user's must not be
	// the way to a file of another one.
	w.policy = Policy{MaxSize: p.MaxSize, only: &owner}
	// home was checked on the way there by p, and has to pass the stricter rule as well.
	var st unix.Stat_t
	if err := unix.Fstat(w.dir, &st); err != nil {
		return nil, Resolved{}, &Error{Path: w.path, Err: err}
	}
	if err := w.policy.checkDirectory(w.path, &st, &w.reports); err != nil {
		return nil, Resolved{}, err
	}

	w.push(name)
	return w.file()
}

// toDirectory walks to the end of the path, which is a directory.
func (w *walk) toDirectory() error {
	w.rest = append(w.rest, ".") // so that every component before is entered
	name, _, err := w.last()
	if err != nil {
		return err
	}
	if name != "." {
		return &Error{Path: w.join(name), Err: unix.ENOTDIR}
	}
	return nil
}
