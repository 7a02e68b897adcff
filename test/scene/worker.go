package scene

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// own are the files that may be mapped into a worker with the built-in card: the module and its launcher, the loader, the
// C library with its name-service modules, libpam, and what Debian's builds of these bring along.
var own = regexp.MustCompile(`^(pam_pkcs11\.so|(memfd:)?pam_pkcs11_worker|ld-linux.*\.so.*|ld\.so.*|ld-musl.*` +
	`|lib(c|m|dl|rt|pthread|resolv)([.-].*)?\.so.*|libnss_.*\.so.*|libpam(_misc)?\.so.*` +
	`|lib(audit|cap|cap-ng|econf|selinux|pcre2-8)\.so.*|locale-archive|gconv-modules\.cache|passwd|group|nscd.*)$`)

// errNoWorker is said when no worker of the module runs.
var errNoWorker = errors.New("no worker is there")

// WorkerFiles returns the names of the files that are mapped into the worker of the scene's module, which runs.
func (s *Scene) WorkerFiles() ([]string, error) { return WorkerFiles(s.launcher()) }

// WorkerFiles returns the names of the files that are mapped into the worker that was started as launcher, which runs.
func WorkerFiles(launcher string) ([]string, error) {
	pid, err := worker(launcher)
	if err != nil {
		return nil, err
	}
	maps, err := os.ReadFile(filepath.Join("/proc", pid, "maps"))
	if err != nil {
		return nil, err
	}
	return mappedFiles(string(maps)), nil
}

// Worker returns the process number of the worker of the scene's module, which runs.
func (s *Scene) Worker() (pid string, err error) { return worker(s.launcher()) }

func (s *Scene) launcher() string { return filepath.Join(filepath.Dir(s.Module), "pam_pkcs11_worker") }

// worker finds the process whose program is launcher.
func worker(launcher string) (pid string, err error) {
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return "", err
	}
	for _, exe := range processes {
		if target, err := os.Readlink(exe); err == nil && target == launcher {
			return filepath.Base(filepath.Dir(exe)), nil
		}
	}
	return "", errNoWorker
}

// mappedFiles are the names of the files in a map.
func mappedFiles(maps string) []string {
	var all []string
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") || strings.HasPrefix(fields[5], "/dev/") {
			continue
		}
		if name := filepath.Base(fields[5]); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Foreign returns those of the files that a worker with the built-in card need not have.
func Foreign(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), own.MatchString)
}
