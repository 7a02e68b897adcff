package scene

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// own are the files that may be mapped into a worker with the built-in card: its launcher and
// its library, the loader, the C library with its name-service modules, libpam, and what Debian's
// builds of these bring along.
var own = regexp.MustCompile(`^((memfd:)?pam_pkcs11_worker(\.so)?|ld-linux.*\.so.*|ld\.so.*|ld-musl.*` +
	`|lib(c|m|dl|rt|pthread|resolv)([.-].*)?\.so.*|libnss_.*\.so.*|libpam(_misc)?\.so.*` +
	`|lib(audit|cap|cap-ng|econf|selinux|pcre2-8)\.so.*|locale-archive|gconv-modules\.cache|passwd|group|nscd.*)$`)

// MappedFiles returns the names of the files that are mapped into a process, such as a worker.
func MappedFiles(pid int) ([]string, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	return mappedFiles(string(maps)), nil
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
