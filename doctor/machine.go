package doctor

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/probe"
)

// Machine is what is looked at. It is for one Run at a time.
type Machine struct {
	// Root is the directory that stands for /, "" for / itself. Programs and libraries of another root are not run.
	Root string

	// User is whose login is meant, by name; "" is anybody's. UID is that user's number, or that of the user who
	// asks, and -1 where it is not known. Service is a PAM service; "" is all.
	User    string
	UID     int
	Service string

	// Remote says that who runs this program is known to have come from another machine (CallerIsRemote); where it is
	// false, the checks look for themselves.
	Remote bool

	// Mode is what the stacks are to promise; ModeUnknown takes it from what they say.
	Mode Mode

	// ConfigFile is below Root, as a login names it; "" is config.DefaultFile.
	ConfigFile string
	// Config is nil where there is none, or it has errors; ConfigError says which.
	Config      *config.Config
	ConfigError error

	// Now is the clock; nil is the system's.
	Now func() time.Time

	// BreakGlass is the group whose members need no card where everybody else does; "" is that of the stacks, or
	// DefaultBreakGlass.
	BreakGlass string

	inspected func() (*confcheck.Result, error) // ConfigFile and what it names, once

	probing    sync.Once // of what the child found that looked at the cards
	probed     *probe.Answer
	probeError error
}

// NewMachine is the machine below a root, with its configuration, which may be missing. file is as Machine.ConfigFile.
func NewMachine(root, file string) *Machine {
	if file == "" {
		file = config.DefaultFile
	}
	m := &Machine{Root: root, UID: os.Getuid(), ConfigFile: file}
	m.Config, m.ConfigError = config.Load(&config.Arguments{ConfigFile: m.Path(file)})
	m.inspected = sync.OnceValues(func() (*confcheck.Result, error) {
		return confcheck.Look(confcheck.Options{File: m.Path(file)})
	})
	return m
}

// Path is a path of the machine in this process's file system.
func (m *Machine) Path(path string) string {
	if m.Root == "" {
		return path
	}
	return filepath.Join(m.Root, path)
}

// Live reports whether it is the machine on which this program runs, rather than a tree of files.
func (m *Machine) Live() bool { return m.Root == "" || m.Root == "/" }

// Mode is what a machine promises: who needs a card. The names are those of `setup --mode`.
type Mode string

// The modes.
const (
	ModeUnknown  Mode = ""         // as the stacks are
	ModePassword Mode = "password" // a card or the password
	ModeGroup    Mode = "group"    // members of a group need their card
	ModeOnly     Mode = "only"     // everybody needs a card, but a break-glass group
)

// maxText bounds a file that is read, in bytes.
const maxText = 1 << 20

// text reads a file of the machine, a regular one; what is longer than maxText is cut off.
func (m *Machine) text(path string) (string, error) { return m.Read(path, maxText) }

// Read reads the beginning of a regular file of the machine, limit bytes at most. In a tree of files no link leads out of
// the tree: who made it could have this program tell files of this machine.
func (m *Machine) Read(path string, limit int64) (string, error) {
	f, err := m.open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, &fs.PathError{Op: "read", Path: path, Err: errors.ErrUnsupported})
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return string(data), err
}

// open opens a file of the machine for reading, and waits for nobody.
func (m *Machine) open(path string) (*os.File, error) {
	const flags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if m.Live() {
		return os.OpenFile(m.Path(path), flags, 0)
	}
	root, err := os.OpenRoot(m.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(strings.TrimLeft(filepath.Clean(path), "/"), flags, 0)
}

// line reads the first line of a file, "" where there is none.
func (m *Machine) line(path string) string {
	text, err := m.text(path)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(first)
}

// exists reports whether there is a file of that name, or a link that leads to one.
func (m *Machine) exists(path string) bool {
	_, err := os.Stat(m.Path(path))
	return err == nil
}

// maxMatches bounds what glob returns.
const maxMatches = 4096

// glob returns the paths of the machine that fit a pattern, without Root.
func (m *Machine) glob(pattern string) []string {
	found, _ := filepath.Glob(m.Path(pattern)) // the patterns are good
	var paths []string
	for _, path := range found[:min(len(found), maxMatches)] {
		if !m.Live() {
			path = strings.TrimPrefix(path, filepath.Clean(m.Root))
		}
		paths = append(paths, path)
	}
	return paths
}

// isRoot reports whether this process may look at everything.
func isRoot() bool { return os.Geteuid() == 0 }

// hidden reports whether something could not be looked at only because this process is not root's.
func hidden(err error) bool { return !isRoot() && errors.Is(err, fs.ErrPermission) }
