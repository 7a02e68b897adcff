package safefile

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxPath  = 4096 // PATH_MAX
	maxLinks = 40   // as the kernel's own limit
)

// walk goes along a path with one descriptor of the directory it has reached.
type walk struct {
	policy  Policy
	dir     int    // O_PATH descriptor
	path    string // of dir: absolute and free of links
	rest    []string
	links   int
	reports []Report
}

// newWalk starts at the root directory.
func newWalk(path string, p Policy) (*walk, error) {
	if err := wellFormed(path); err != nil {
		return nil, err
	}

	if !filepath.IsAbs(path) {
		cwd, err := unix.Getwd()
		if err != nil {
			return nil, &Error{Path: path, Problem: "the current directory", Err: err}
		}
		path = cwd + "/" + path
	}

	w := &walk{policy: p, dir: -1}
	w.push(path)
	if err := w.toRoot(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// wellFormed refuses a text that is no path, by the limits of the kernel.
func wellFormed(path string) error {
	switch {
	case path == "":
		return &Error{Path: `""`, Problem: "the path is empty"}
	case strings.IndexByte(path, 0) >= 0:
		return &Error{Path: strings.ReplaceAll(path, "\x00", `\0`), Problem: "the path holds a NUL byte"}
	case len(path) >= maxPath:
		return &Error{Path: path[:64] + "...", Err: unix.ENAMETOOLONG}
	}
	return nil
}

// push puts the components of a path before those that are still to be walked. "a/." and "a/" both
// ask for a directory, as for the kernel.
func (w *walk) push(path string) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if strings.HasSuffix(path, "/") {
		parts = append(parts, ".")
	}
	w.rest = append(parts, w.rest...)
}

// close closes the directory of the walk.
func (w *walk) close() {
	if w.dir >= 0 {
		unix.Close(w.dir)
		w.dir = -1
	}
}

// toRoot goes to the root directory, where a walk and each absolute link begin.
func (w *walk) toRoot() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Error{Path: "/", Err: err}
	}
	return w.enter(fd, "/")
}

// enter makes fd the directory of the walk; it owns fd from here on.
func (w *walk) enter(fd int, path string) error {
	w.close()
	w.dir = fd
	w.path = path
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &Error{Path: path, Err: err}
	}
	return w.policy.checkDirectory(path, &st, &w.reports)
}

// join is the path of an entry of the walk's directory.
func (w *walk) join(name string) string {
	if name == "." {
		return w.path
	}
	return filepath.Join(w.path, name)
}

// step takes the next component. It returns its name when it is neither a directory to enter
// (unless it is the last one) nor a link to follow.
func (w *walk) step() (name string, st unix.Stat_t, err error) {
	name, w.rest = w.rest[0], w.rest[1:]
	path := w.join(name)
	// O_PATH opens nothing: neither a device nor a FIFO notices it.
	fd, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", st, &Error{Path: path, Err: err}
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", st, &Error{Path: path, Err: err}
	}

	// The component is what fd is, whatever its name leads to by now.
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		defer unix.Close(fd)
		return "", st, w.follow(fd, path, &st)
	case kind == unix.S_IFDIR && len(w.rest) > 0:
		return "", st, w.enter(fd, path)
	// Before a further component only a directory can stand, or a link to one.
	case len(w.rest) > 0:
		unix.Close(fd)
		return "", st, &Error{Path: path, Err: unix.ENOTDIR}
	}
	unix.Close(fd)
	return name, st, nil
}

// follow reads a link. Its owner decides where it leads: in a sticky directory that is not
// the directory's owner.
func (w *walk) follow(fd int, path string, st *unix.Stat_t) error {
	if w.links++; w.links > maxLinks {
		return &Error{Path: path, Err: unix.ELOOP}
	}

	if !w.policy.trusted(st.Uid) {
		if err := w.policy.ParentWritable.apply(path, "symbolic link belongs to somebody other than "+w.policy.owners(), &w.reports); err != nil {
			return err
		}
	}

	// With an empty name readlinkat reads the link that fd is
	// (readlink(2)), not one that has its name now.
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return &Error{Path: path, Problem: "reading the link", Err: err}
	}
	target := string(buf[:n])
	if err := wellFormed(target); err != nil {
		return &Error{Path: path, Problem: "the link leads nowhere"}
	}

	w.push(target)
	// Each link may add a whole path; this keeps the walk short whatever they add.
	if len(w.rest) > maxPath {
		return &Error{Path: path, Err: unix.ENAMETOOLONG}
	}

	if filepath.IsAbs(target) {
		return w.toRoot()
	}
	return nil
}

// last walks to the last component, which is not a link.
func (w *walk) last() (name string, st unix.Stat_t, err error) {
	for len(w.rest) > 0 {
		name, st, err = w.step()
		if err != nil || name != "" {
			return name, st, err
		}
	}

	// Only "/" itself, or a link to it, ends here.
	if err := unix.Fstat(w.dir, &st); err != nil {
		return "", st, &Error{Path: w.path, Err: err}
	}
	return ".", st, nil
}

// open opens the last component. Its kind is checked before (opening a device can have effects),
// and the opened descriptor is checked again.
func (w *walk) open(flags int, check func(path string, st *unix.Stat_t) error) (*os.File, Resolved, error) {
	name, st, err := w.last()
	if err != nil {
		return nil, Resolved{}, err
	}

	path := w.join(name)
	before := len(w.reports)
	if err := check(path, &st); err != nil {
		return nil, Resolved{Path: path, Reports: w.reports}, err
	}
	// The second check reports the same weaknesses, and those are of what was opened.
	w.reports = w.reports[:before]

	// Nonblocking, so that a FIFO that has taken the file's place does not hold the open up.
	fd, err := unix.Openat(w.dir, name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, Resolved{Path: path}, &Error{Path: path, Err: err}
	}

	err = unix.Fstat(fd, &st)
	if err == nil {
		err = check(path, &st)
	}
	if err != nil {
		unix.Close(fd)
		return nil, Resolved{Path: path, Reports: w.reports}, err
	}

	return os.NewFile(uintptr(fd), path), Resolved{Path: path, Reports: w.reports}, nil
}

// file opens the last component as a regular file.
func (w *walk) file() (*os.File, Resolved, error) {
	return w.open(0, func(path string, st *unix.Stat_t) error {
		return w.policy.checkFile(path, st, &w.reports)
	})
}
