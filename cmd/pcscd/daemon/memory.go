package daemon

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// giveBackMemory gives back what only starting needed: the daemon may sleep for days. The program's own pages that are
// only read come back from the file when they are used.
func giveBackMemory() {
	debug.FreeOSMemory()
	self, err := os.Executable()
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if at, length, ok := readOnlyMapping(s.Text(), self); ok {
			unix.RawSyscall(unix.SYS_MADVISE, at, length, unix.MADV_DONTNEED)
		}
	}
}

// readOnlyMapping reads a line of /proc/self/maps and tells where a mapping of file lies that nobody can write to.
func readOnlyMapping(line, file string) (at, length uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[5] != file || strings.Contains(fields[1], "w") {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	begin, err := strconv.ParseUint(first, 16, 8*int(unsafe.Sizeof(uintptr(0))))
	if err != nil {
		return 0, 0, false
	}
	end, err := strconv.ParseUint(last, 16, 8*int(unsafe.Sizeof(uintptr(0))))
	if err != nil || end <= begin {
		return 0, 0, false
	}
	return uintptr(begin), uintptr(end - begin), true
}
