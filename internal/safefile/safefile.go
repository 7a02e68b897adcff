// Package safefile opens files whose content decides who may log in, and refuses those that
// somebody other than root could have written.
//
// A path is walked one component at a time from the root directory, each by an open that follows no
// symbolic link; links are read and followed by the walk itself. So every directory and every link
// on the way is checked, and what was checked is what was opened: a name that is exchanged
// meanwhile leads to a refusal, not to another file.
package safefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Verdict is what follows from a weakness under a policy.
type Verdict uint8

// The zero Verdict is the strict one.
const (
	Refuse     Verdict = iota // the file is not opened
	ReportOnly                // the file is opened, the weakness is in Resolved.Reports
	Allow                     // nothing is reported
)

// DefaultMaxSize bounds ReadFile where the policy names no size, in bytes.
const DefaultMaxSize = 1 << 20

// Policy tells which weaknesses are tolerated. The zero Policy is the strictest for files that
// everybody may read. Never tolerated, under any policy: what is not a regular file, a file that
// everybody may write, a file that belongs neither to root nor to the effective user nor to one of
// Owners, and a directory on the way that everybody may write and that is not sticky.
type Policy struct {
	// GroupWritable: the file may be written by its group, or by others named in an access control
	// list (the mask of a list stands in the group's bits).
	GroupWritable Verdict
	// ParentWritable: a directory on the way may be written by its group, or belongs to somebody
	// else.
	ParentWritable Verdict
	// Secret: nobody but the owner may read the file.
	Secret bool
	// MaxSize in bytes. 0: no limit for Open, DefaultMaxSize for ReadFile.
	MaxSize int64
	// Owners are user numbers that may own the file besides root and the effective user.
	Owners []uint32

	only *uint32 // nobody but root and this user may own anything, see OpenOwned
}

// Strict is the policy under strict_permissions: nothing is only reported.
func (p Policy) Strict() Policy {
	p.GroupWritable = Refuse
	p.ParentWritable = Refuse
	return p
}

// The policies of the project. Each call returns a value of its own.

// Configuration is for the configuration file and the PKCS#11 library: a group must not write them.
func Configuration() Policy { return Policy{GroupWritable: Refuse, ParentWritable: ReportOnly} }

// Data is for mapfiles, certificates and revocation lists: a group that may write them is reported.
func Data() Policy {
	return Policy{GroupWritable: ReportOnly, ParentWritable: ReportOnly}
}

// maxSecret is more than any password or private key takes, in bytes.
const maxSecret = 64 << 10

// Secret is for passwords and private keys: nobody but the owner may read or write them.
func Secret() Policy { return Policy{ParentWritable: ReportOnly, MaxSize: maxSecret, Secret: true} }

// Report is a weakness that the policy tolerates but the administrator should know.
type Report struct {
	Path    string // of the file or directory that has it
	Problem string // in English, without the path
}

// Resolved is what was opened.
type Resolved struct {
	Path    string   // absolute, without symbolic links, "." and ".."
	Reports []Report // in the order of the way
}

// Error is a refusal: the file is there, perhaps, but is not to be trusted or cannot be read.
type Error struct {
	Path    string // of the file, directory or link that is at fault
	Problem string // in English; empty when Err is the whole of it
	Err     error  // the system's error, nil for a refusal by policy
}

// Error returns "path: problem".
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Path + ": " + e.Problem
	case e.Problem == "":
		return e.Path + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %s: %v", e.Path, e.Problem, e.Err)
}

// Unwrap returns the system's error, so that errors.Is(err, fs.ErrNotExist) works.
func (e *Error) Unwrap() error { return e.Err }

// Reason leaves the path out of an error that is about this very file, for a message that names it
// already. An error about a directory or a link on the way names that, and stays as it is.
func Reason(path string, err error) error {
	var e *Error
	switch {
	case !errors.As(err, &e) || e.Path != path:
		return err
	case e.Err != nil:
		return e.Err
	}
	return errors.New(e.Problem)
}

// Open opens the regular file at path for reading. A relative path starts at the current directory.
// The descriptor is close-on-exec; a FIFO, device, socket or directory is refused without waiting
// and without being opened. Every error is an *Error.
func Open(path string, p Policy) (*os.File, Resolved, error) {
	w, err := newWalk(path, p)
	if err != nil {
		return nil, Resolved{}, err
	}
	defer w.close()
	return w.file()
}

// ReadFile reads the file at path, which may not be longer than p.MaxSize.
func ReadFile(path string, p Policy) ([]byte, Resolved, error) {
	f, r, err := Open(path, p)
	if err != nil {
		return nil, r, err
	}
	defer f.Close()
	data, err := readAll(f, p, r.Path)
	return data, r, err
}

// readAll reads what there is, not what the size said: the file may grow meanwhile.
func readAll(f *os.File, p Policy, path string) ([]byte, error) {
	limit := p.MaxSize
	if limit <= 0 {
		limit = DefaultMaxSize
	}

	// One octet more than the limit shows that there are more.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &Error{Path: path, Problem: "reading", Err: plain(err)}
	}
	if int64(len(data)) > limit {
		return nil, &Error{Path: path, Problem: tooLong(limit)}
	}
	return data, nil
}

// tooLong is the problem of a file over its limit.
func tooLong(limit int64) string { return fmt.Sprintf("is longer than %d bytes", limit) }

// plain removes the path and the operation from an error of package os: *Error has them already.
func plain(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// trusted reports whether a user may own what is opened: root, the effective user, and those of the
// policy.
func (p Policy) trusted(uid uint32) bool {
	if p.only != nil {
		return uid == 0 || uid == *p.only
	}
	return uid == 0 || int(uid) == os.Geteuid() || slices.Contains(p.Owners, uid)
}

// checkFile checks the attributes of an opened file.
func (p Policy) checkFile(path string, st *unix.Stat_t, reports *[]Report) error {
	mode := st.Mode
	switch {
	case mode&unix.S_IFMT != unix.S_IFREG:
		return &Error{Path: path, Problem: "is " + kindOf(mode) + ", not a regular file"}
	case !p.trusted(st.Uid):
		return &Error{Path: path, Problem: fmt.Sprintf("belongs to user %d, not to %s", st.Uid, p.owners())}
	case mode&unix.S_IWOTH != 0:
		return &Error{Path: path, Problem: fmt.Sprintf("may be written by everybody (mode %04o)", mode&0o7777)}
	case p.MaxSize > 0 && st.Size > p.MaxSize:
		return &Error{Path: path, Problem: tooLong(p.MaxSize)}
	case p.Secret && mode&(unix.S_IRGRP|unix.S_IROTH) != 0:
		return &Error{Path: path, Problem: fmt.Sprintf("may be read by others than its owner (mode %04o, wanted 0600)", mode&0o7777)}
	}

	// Last, for it may only be reported: what is never tolerated has to have been refused by now.
	if mode&unix.S_IWGRP != 0 {
		return p.GroupWritable.apply(path, fmt.Sprintf("may be written by group %d (mode %04o)", st.Gid, mode&0o7777), reports)
	}
	return nil
}

// checkDirectory checks a directory on the way: whoever may write it may put another file in the
// place of the one that is wanted. In a sticky directory only the owner of an entry may do that,
// and the entry's owner is checked by itself.
func (p Policy) checkDirectory(path string, st *unix.Stat_t, reports *[]Report) error {
	mode := st.Mode
	sticky := mode&unix.S_ISVTX != 0

	switch {
	case mode&unix.S_IWOTH != 0 && !sticky:
		return &Error{Path: path, Problem: fmt.Sprintf("directory may be written by everybody (mode %04o)", mode&0o7777)}
	case !p.trusted(st.Uid):
		return p.ParentWritable.apply(path, fmt.Sprintf("directory belongs to user %d, not to %s", st.Uid, p.owners()), reports)
	case mode&unix.S_IWGRP != 0 && !sticky:
		return p.ParentWritable.apply(path, fmt.Sprintf("directory may be written by group %d (mode %04o)", st.Gid, mode&0o7777), reports)
	}
	return nil
}

// owners names those who may own what is opened.
func (p Policy) owners() string {
	s := "root"

	if p.only != nil {
		return fmt.Sprintf("root or user %d", *p.only)
	}
	if euid := os.Geteuid(); euid > 0 {
		s += fmt.Sprintf(" or user %d", euid)
	}
	for _, o := range p.Owners {
		s += fmt.Sprintf(" or user %d", o)
	}
	return s
}

// apply reports a problem, or returns it as an error, as the verdict is.
func (v Verdict) apply(path, problem string, reports *[]Report) error {
	switch v {
	case Allow:
		return nil
	case ReportOnly:
		*reports = append(*reports, Report{Path: path, Problem: problem})
		return nil
	}
	return &Error{Path: path, Problem: problem}
}

// kindOf names the kind of a file that is no regular one.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFLNK:
		return "a symbolic link"
	}
	return "of an unknown kind"
}
