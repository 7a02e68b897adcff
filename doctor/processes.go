package doctor

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one of the machine's, by /proc (proc(5)).
type process struct {
	pid  int
	name string // comm, 15 bytes at most
}

// processes are those that can be seen, in the order of their numbers' texts.
func (m *Machine) processes() []process {
	var all []process
	for _, dir := range m.glob("/proc/[0-9]*") {
		// A process may end while the list is read: then its files are missing, and it is left out.
		pid, err := strconv.Atoi(path.Base(dir))
		if err != nil {
			continue
		}

		if name := m.line(path.Join(dir, "comm")); name != "" {
			all = append(all, process{pid: pid, name: name})
		}
	}
	return all
}

// mostOpen bounds how many open files of a process are looked at.
const mostOpen = 4096

// opens reports whether a process has a file open that want says yes to.
func (m *Machine) opens(p process, want func(target string) bool) bool {
	dir := m.Path(path.Join("/proc", strconv.Itoa(p.pid), "fd"))
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()

	names, _ := d.Readdirnames(mostOpen)
	for _, name := range names {
		if target, err := os.Readlink(filepath.Join(dir, name)); err == nil && want(target) {
			return true
		}
	}
	return false
}

// maps reports whether a process has mapped a file whose name begins so.
func (m *Machine) maps(p process, begin string) bool {
	text, err := m.text(path.Join("/proc", strconv.Itoa(p.pid), "maps"))
	return err == nil && strings.Contains(text, "/"+begin)
}

// named is the processes as "NAME (pid N)", at most eight.
func named(list []process) string {
	const most = 8
	var words []string
	for i, p := range list {
		if i == most {
			words = append(words, "...")
			break
		}
		words = append(words, p.name+" (pid "+strconv.Itoa(p.pid)+")")
	}
	return strings.Join(words, ", ")
}
