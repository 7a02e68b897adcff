package fetchtest

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

// PeakMemory is the most memory that this process has had, in KiB (proc(5), VmHWM). The count of a
// child process begins with its parent's.
func PeakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}

	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

// ForgetPeak lets PeakMemory count from what is in memory now (proc(5), clear_refs), so that what
// an earlier test needed does not hide what this one does.
func ForgetPeak() error { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
