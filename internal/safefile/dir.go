package safefile

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an opened directory whose files are opened relative to it, so that all of them come from
// the directory that was checked. It is for one goroutine.
type Dir struct {
	Resolved
	file   *os.File
	policy Policy
}

// OpenDir opens the directory at path. The directory itself and those above it are checked by
// ParentWritable; the policy then holds for each file that is opened in it.
func OpenDir(path string, p Policy) (*Dir, error) {
	w, err := newWalk(path, p)
	if err != nil {
		return nil, err
	}
	defer w.close()
	f, r, err := w.open(unix.O_DIRECTORY, func(path string, st *unix.Stat_t) error {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return &Error{Path: path, Err: unix.ENOTDIR}
		}
		return p.checkDirectory(path, st, &w.reports)
	})
	if err != nil {
		return nil, err
	}
	return &Dir{Resolved: r, file: f, policy: p}, nil
}

// Close ends the use of the directory.
func (d *Dir) Close() error { return d.file.Close() }

// Names lists the entries, sorted, at most limit of them; more are an error, because a part of a
// directory is no sound basis for a decision.
func (d *Dir) Names(limit int) ([]string, error) {
	if _, err := d.file.Seek(0, 0); err != nil {
		return nil, &Error{Path: d.Path, Err: plain(err)}
	}

	var names []string
	for {
		some, err := d.file.Readdirnames(256)
		names = append(names, some...)
		if len(names) > limit {
			return nil, &Error{Path: d.Path, Problem: fmt.Sprintf("holds more than %d entries", limit)}
		}
		if len(some) == 0 {
			if err != nil && err != io.EOF {
				return nil, &Error{Path: d.Path, Err: plain(err)}
			}
			break
		}
	}
	// The order of the disk differs between machines; what is decided by the entries must not.
	slices.Sort(names)
	return names, nil
}

// Open opens an entry of the directory, or what it links to, under the directory's policy.
func (d *Dir) Open(name string) (*os.File, Resolved, error) {
	special := name == "" || name == "." || name == ".."
	if special || strings.ContainsAny(name, "/\x00") {
		return nil, Resolved{}, &Error{Path: d.Path, Problem: fmt.Sprintf("%q is not the name of an entry", name)}
	}

	// The walk closes its directory when it moves on, so it gets a descriptor of its own.
	fd, err := unix.FcntlInt(d.file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, Resolved{}, &Error{Path: d.Path, Err: err}
	}

	w := &walk{
		policy: d.policy,
		dir:    fd,
		path:   d.Path,
		rest:   []string{name},
	}
	defer w.close()
	return w.file()
}

// ReadFile reads an entry, which may not be longer than the policy's MaxSize.
func (d *Dir) ReadFile(name string) ([]byte, Resolved, error) {
	f, r, err := d.Open(name)
	if err != nil {
		return nil, r, err
	}
	defer f.Close()
	data, err := readAll(f, d.policy, r.Path)
	return data, r, err
}

// ReadDir lists the directory at path, at most limit entries.
func ReadDir(path string, p Policy, limit int) ([]string, Resolved, error) {
	d, err := OpenDir(path, p)
	if err != nil {
		return nil, Resolved{}, err
	}
	defer d.Close()
	names, err := d.Names(limit)
	return names, d.Resolved, err
}
