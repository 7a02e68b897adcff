package pamstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Limits of what is read. libpam has none, but a stack beyond them is no stack that somebody wrote.
const (
	maxFile  = 1 << 20
	maxLines = 4096 // of one service, with all that is included
	maxLinks = 40
)

// Where libpam looks for stacks.
const (
	etcDir    = "/etc/pam.d"
	vendorDir = "/usr/lib/pam.d"
	distDir   = "/usr/etc/pam.d" // openSUSE's
	oneFile   = "/etc/pam.conf"
)

// tree is a machine's files below a directory.
type tree struct{ root string }

// where is the path at which a file of the machine is found: symbolic links lead to where they
// would lead if the tree's root was the root.
func (t tree) where(name string) (string, error) {
	if t.root == "" || t.root == "/" {
		return name, nil
	}

	// Link by link, below the root: an absolute target must not lead out of the tree.
	left := strings.Split(path.Clean(name), "/")
	at := "/"
	links := 0
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			at = path.Dir(at)
			continue
		}

		next := path.Join(at, part)
		target, err := os.Readlink(filepath.Join(t.root, next))
		if err != nil { // no link, or nothing at all: whoever opens it will say so
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		if path.IsAbs(target) {
			at = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return filepath.Join(t.root, at), nil
}

// errSpecial is a file that libpam would wait for.
var errSpecial = errors.New("is neither a file nor a directory")

// read reads a file as libpam does: a directory is an empty file.
func (t tree) read(name string) ([]byte, error) {
	where, err := t.where(name)
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK, for a FIFO in the place of a file would wait for a writer.
	file, err := os.OpenFile(where, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, nil
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s %w", name, errSpecial)
	}

	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return data, err
}

// isDir reports whether a directory is there.
func (t tree) isDir(name string) bool {
	where, err := t.where(name)
	if err != nil {
		return false
	}
	info, err := os.Stat(where)
	return err == nil && info.IsDir()
}

// dialect is how a distribution's libpam differs.
type dialect struct {
	dirs      []string // where a service's file is looked for, in this order
	atInclude bool     // a line "@include FILE" includes lines of all kinds
	etcOnly   bool     // an included file is looked for in /etc/pam.d alone
	crashes   bool     // an include without a name ends the program
}

// The two dialects that are known.
var (
	debian = dialect{
		dirs:      []string{etcDir, vendorDir},
		atInclude: true,
		etcOnly:   true,
		crashes:   true,
	}
	original = dialect{dirs: []string{etcDir, vendorDir, distDir}}
)

// dialectOf looks at os-release(5). Debian's rules are those of its descendants, and of a tree that
// does not say what it is.
func dialectOf(t tree) dialect {
	data, err := t.read("/etc/os-release")
	if err != nil {
		data, err = t.read("/usr/lib/os-release")
	}
	if err != nil {
		return debian
	}

	known := ""
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		if key == "ID" || key == "ID_LIKE" {
			known += " " + strings.Trim(value, `"'`)
		}
	}

	ids := strings.Fields(known)
	if known == "" || slices.Contains(ids, "debian") || slices.Contains(ids, "ubuntu") {
		return debian
	}
	return original
}
