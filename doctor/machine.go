package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"pam_pkcs11/config"
)

// Machine is what is looked at.
type Machine struct {
	// Root is the directory that stands for /, "" for / itself. Programs and libraries of another root are not run.
	Root string

	// User is whose login is meant, by name; "" is anybody's. UID is that user's number, or that of the user who
	// asks, and -1 where it is not known. Service is a PAM service; "" is all.
	User    string
	UID     int
	Service string

	// Mode is what the stacks are to promise; ModeUnknown takes it from what they say.
	Mode Mode

	// ConfigFile is below Root, as a login names it; "" is config.DefaultFile.
	ConfigFile string
	// Config is nil where there is none, or it has errors; ConfigError says which.
	Config      *config.Config
	ConfigError error
}

// NewMachine is the machine below a root, with its configuration, which may be missing. file is as Machine.ConfigFile.
func NewMachine(root, file string) *Machine {
	if file == "" {
		file = config.DefaultFile
	}
	m := &Machine{Root: root, UID: os.Getuid(), ConfigFile: file}
	m.Config, m.ConfigError = config.Load(&config.Arguments{ConfigFile: m.Path(file)})
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

// hidden reports whether something could not be looked at only because this process is not root's.
func hidden(err error) bool { return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) }
