package doctor

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// installationChecks are those of what the packages bring and of the machine below.
func installationChecks() []Check {
	return []Check{
		{ID: "worker", Title: message.Textf("The PAM module and its worker"), Run: checkWorker},
		{ID: "directories", Title: message.Textf("The directories of this package"),
			Run: checkDirectoriesOfOurs},
		{ID: "socket-unit", Title: message.Textf("The unit that starts the bundled daemon"),
			Run: checkSocketUnit},
		{ID: "clock", Title: message.Textf("The clock"), Run: checkClock},
		{ID: "etc-writable", Title: message.Textf("Room and permission to write in /etc"),
			Run: checkEtc},
		{ID: "setups", Title: message.Textf("Setups that were cut short, or will be taken back"),
			Run: checkSetups},
		{ID: "access-control", Title: message.Textf("AppArmor and SELinux"),
			Run: checkAccessControl},
	}
}

// ModuleName is the file of the PAM module.
const ModuleName = "pam_pkcs11.so"

// securityDirectories are where libpam of the distributions looks for modules.
var securityDirectories = []string{
	"/lib/security", "/lib64/security", "/usr/lib/security", "/usr/lib64/security",
	"/lib/*/security", "/usr/lib/*/security",
	"/usr/local/lib/security",
}

// modules are the files of the PAM module, each once whatever links lead to it.
func (m *Machine) modules() []string {
	var paths, real []string
	for _, dir := range securityDirectories {
		for _, path := range m.glob(dir + "/" + ModuleName) {
			resolved, err := filepath.EvalSymlinks(m.Path(path))
			if err == nil && !slices.Contains(real, resolved) {
				paths = append(paths, path)
				real = append(real, resolved)
			}
		}
	}
	return paths
}

// maxModule bounds the PAM module, which is C alone, in bytes.
const maxModule = 1 << 20

// workerPath is the path of the worker that is compiled into a module.
var workerPath = regexp.MustCompile(`/[A-Za-z0-9_./+~-]+/pam_pkcs11_worker\x00`)

// checkWorker looks at the module, and at the worker and its library as the module has them.
func checkWorker(ctx context.Context, m *Machine) diagnosis.Findings {
	modules := m.modules()
	if len(modules) == 0 {
		return list(warn("module-missing", ModuleName,
			message.Textf("the PAM module is not installed"),
			message.Textf("run: apt install libpam-pkcs11")))
	}

	var found diagnosis.Findings
	for _, path := range modules {
		text, err := m.text(path)
		if err != nil {
			found.Add(notLooked(path, message.Textf("the module cannot be read: %v", err)))
			continue
		}

		if f, bad := m.owned(path, "module-unsafe", 0); bad {
			found.Add(f)
			continue
		}
		// The path is compiled in, where the module's own C code has it as a string.
		worker := strings.TrimSuffix(workerPath.FindString(text), "\x00")
		if worker == "" || len(text) >= maxModule {
			found.Add(warn("module-other", path,
				message.Textf(
					"this is another module of that name, such as pam_pkcs11 0.6: it has no worker"),
				message.Textf(
					"install this one (Debian: apt install libpam-pkcs11), or remove the other")))
			continue
		}

		found.Add(m.worker(ctx, path, worker)...)
	}
	return found
}

// worker looks at the launcher and its library.
func (m *Machine) worker(ctx context.Context, module, launcher string) diagnosis.Findings {
	library := launcher + ".so"

	// The library is loaded by the launcher, and need not be executable.
	for _, part := range []struct {
		path string
		mode fs.FileMode // that it must have
	}{{launcher, 0o111}, {library, 0}} {
		if !m.exists(part.path) {
			return list(refuse("worker-missing", part.path,
				message.Textf("the worker of %s is not there: every login by card is refused",
					module),
				message.Textf(
					"install the package again (Debian: apt install --reinstall libpam-pkcs11)")))
		}
		if f, bad := m.owned(part.path, "worker-unsafe", part.mode); bad {
			return list(f)
		}
	}

	// Permissions say nothing of the mount: execve(2) fails with EACCES all the same.
	var st unix.Statfs_t
	if err := unix.Statfs(m.Path(launcher), &st); err == nil && st.Flags&unix.ST_NOEXEC != 0 {
		return list(refuse("worker-noexec", launcher,
			message.Textf(
				"the worker is on a file system that is mounted noexec: it cannot be run"),
			message.Textf("mount it with exec: findmnt -T %s names it", launcher)))
	}

	found := m.sameBuild(library)
	// The programs of another root are not run: they may be of another machine.
	if m.Live() {
		found.Add(starts(ctx, launcher)...)
	}

	if len(found) == 0 {
		found.Add(good("worker", launcher,
			message.Textf("the module and its worker are root's, and the worker starts")))
	}
	return found
}

// owned says that a file belongs to another user than root, may be written by others, or lacks a
// mode that it needs.
func (m *Machine) owned(path, id string, mode fs.FileMode) (f diagnosis.Finding, bad bool) {
	info, err := os.Stat(m.Path(path))
	if err != nil {
		return notLooked(path, message.Textf("it cannot be looked at: %v", err)), true
	}

	st, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return refuse(id, path, message.Textf("it is no regular file"),
			message.Textf("install the package again")), true
	case st != nil && st.Uid != 0 || info.Mode().Perm()&0o022 != 0:
		return refuse(id, path, message.Textf(
			"others than root can change it (mode %04o): it is not used", info.Mode().Perm()),
			message.Textf("run: chown root:root %s && chmod go-w %s", path, path)), true
	case info.Mode().Perm()&mode != mode:
		return refuse(id, path, message.Textf("it may not be executed (mode %04o)",
			info.Mode().Perm()),
			message.Textf("run: chmod 0755 %s", path)), true
	}
	return f, false
}

// sameBuild compares the worker's library with this program, where both say of which sources they
// are.
func (m *Machine) sameBuild(library string) diagnosis.Findings {
	own, ok := debug.ReadBuildInfo()
	other, err := buildinfo.ReadFile(m.Path(library))
	if !ok || err != nil {
		return nil
	}

	// A build without version control says nothing, as from a tarball.
	mine, theirs := revision(own), revision(other)
	if mine == "" || theirs == "" || mine == theirs {
		return nil
	}
	return list(warn("worker-other-version", library,
		message.Textf("the worker is of the sources %.12s, and this program of %.12s", theirs,
			mine),
		message.Textf("upgrade both packages together, and run doctor again")))
}

// revision is the commit of the sources; "" where it is not told.
func revision(info *debug.BuildInfo) string {
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// Statuses with which the launcher ends where it could not begin (pam/launcher/launcher.c).
const (
	workerRefuses   = 126
	workerNoLibrary = 127
)

// starts runs the worker as the module does, with a host that is gone at once.
func starts(ctx context.Context, launcher string) diagnosis.Findings {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil
	}
	_ = ours.Close()
	defer theirs.Close()

	cmd := exec.CommandContext(ctx, launcher)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Run()

	var exit *exec.ExitError
	failed := func(fact message.Text) diagnosis.Findings {
		return list(refuse("worker-does-not-start", launcher, fact,
			message.Textf("run: journalctl -t pam_pkcs11_worker, and install the package again")))
	}
	// Any other status is that of a worker whose host has gone, and right.
	switch {
	case ctx.Err() != nil:
		return failed(message.Textf("the worker does not end when its host is gone"))
	case errors.As(err, &exit) && exit.ExitCode() == workerNoLibrary:
		return failed(message.Textf("the worker cannot load its library"))
	case errors.As(err, &exit) && exit.ExitCode() == workerRefuses:
		return failed(message.Textf("the worker cannot give up the rights that it must not have"))
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		return failed(message.Textf("the worker crashes: %v", exit))
	case err != nil && exit == nil:
		return failed(message.Textf("the worker cannot be started: %v", err))
	}
	return nil
}

// socketPair is two connected ends.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "worker"), nil
}

// directory is one of this package's.
type directory struct {
	path string
	mode fs.FileMode
}

// directories are those that the package makes.
var directories = []directory{
	{"/etc/pam_pkcs11", 0o755},
	{"/etc/pam_pkcs11/cacerts", 0o755},
	{"/etc/pam_pkcs11/crls", 0o755},
	{"/var/lib/pam_pkcs11", 0o755},
	{"/var/lib/pam_pkcs11/ocsp", 0o700},
	{"/var/cache/pam_pkcs11", 0o700},
}

// checkDirectoriesOfOurs looks for them, where the module is installed. Those that are missing can
// be made.
func checkDirectoriesOfOurs(_ context.Context, m *Machine) diagnosis.Findings {
	if len(m.modules()) == 0 {
		return list(note("directories", ModuleName,
			message.Textf(
				"the PAM module is not installed, so that its directories are not needed")))
	}

	var found diagnosis.Findings
	for _, d := range directories {
		info, err := os.Lstat(m.Path(d.path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f := warn("directory-missing", d.path, message.Textf("the directory is not there"),
				message.Textf("run: install -d -m %04o -o root -g root %s", d.mode, d.path))
			// Made as the package would have made it, which risks nothing.
			f.Fix = func() error { return d.make(m) }
			found.Add(f)
		case err != nil:
			found.Add(notLooked(d.path, message.Textf("it cannot be looked at: %v", err)))
		case !info.IsDir() && info.Mode()&fs.ModeSymlink == 0:
			found.Add(warn("directory-other", d.path, message.Textf("it is no directory"),
				message.Textf("move it away, and run: pam-pkcs11 doctor --fix directories")))
		case info.IsDir() && info.Mode().Perm()&0o022 != 0:
			found.Add(warn("directory-open", d.path,
				message.Textf("others than root can write in it (mode %04o)", info.Mode().Perm()),
				message.Textf("run: chmod %04o %s", d.mode, d.path)))
		}
	}

	if len(found) == 0 {
		found.Add(good("directories", "/etc/pam_pkcs11",
			message.Textf(
				"the directories of this package are there, and root's alone to write in")))
	}
	return found
}

// make makes it, whatever the umask.
func (d directory) make(m *Machine) error {
	path := m.Path(d.path)
	if err := os.Mkdir(path, d.mode); err != nil {
		return err
	}
	// Mkdir obeys the umask, and another mode might shut out the module of a user's program.
	err := os.Chmod(path, d.mode)
	if isRoot() {
		err = errors.Join(err, os.Chown(path, 0, 0))
	}
	return err
}

// socketUnit has systemd start the bundled daemon.
const socketUnit = "pam-pkcs11-pcscd.socket"

// checkSocketUnit looks whether systemd starts the bundled daemon. Where it does not, a login does
// so itself, which hosts that take in orphans cannot.
func checkSocketUnit(_ context.Context, m *Machine) diagnosis.Findings {
	at := ""
	// /etc first: what an administrator puts there counts before the package's unit.
	for _, dir := range []string{"/etc/systemd/system/", "/usr/lib/systemd/system/",
		"/lib/systemd/system/"} {
		if at == "" && m.exists(dir+socketUnit) {
			at = dir + socketUnit
		}
	}

	switch {
	case at == "":
		return list(note("socket-unit", socketUnit,
			message.Textf(
				"the unit is not installed: where no daemon runs a login starts one itself")))
	case m.exists("/run/pcscd/pcscd.comm"):
		return list(good("socket-unit", at,
			message.Textf("the system has a daemon of its own, and does not need the unit")))
	case m.enabled():
		return list(good("socket-unit", at,
			message.Textf("systemd starts the bundled daemon for the first login that needs it")))
	}

	if !m.exists("/run/systemd/system") {
		return list(note("socket-unit-off", at,
			message.Textf("systemd does not run here: a login starts the bundled daemon itself")))
	}

	// The socket is root's alone, so that the unit changes nothing for lockers of users: another
	// check is about those.
	f := note("socket-unit-off", at,
		message.Textf(
			"systemd does not start the bundled daemon: a login does so itself; for one from a program that takes in orphans run: "+
				"systemctl enable --now %s", socketUnit))
	if m.Live() && isRoot() {
		f.Fix = enableSocketUnit
	}
	return list(f)
}

// enabled reports whether the unit is wanted by another.
func (m *Machine) enabled() bool {
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system",
		"/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Lstat(m.Path(dir + "/sockets.target.wants/" + socketUnit)); err == nil {
			return true
		}
	}
	return false
}

// enableTime bounds systemctl.
const enableTime = 30 * time.Second

// enableSocketUnit has systemd start the bundled daemon from now on.
func enableSocketUnit() error {
	ctx, cancel := context.WithTimeout(context.Background(), enableTime)
	defer cancel()

	said, err := exec.CommandContext(ctx, "systemctl", "enable", "--now",
		socketUnit).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl enable --now %s: %w: %s", socketUnit, err,
			printable(string(said)))
	}
	return nil
}
