// Package storytest is what the demos' tests have in common.
package storytest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Run is a demo's program, without its name among the arguments. It returns the exit code.
type Run func(args []string, stdout, stderr io.Writer) int

// Play plays the whole demo with what was built, looks for what it may have left behind, and
// returns what it printed.
func Play(t *testing.T, run Run) string {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)

	var stdout, stderr bytes.Buffer
	if code := run([]string{"../../build"}, &stdout, &stderr); code != 0 {
		t.Fatalf("ended with %d: %s\n%s", code, stderr.String(), stdout.String())
	}

	if left, _ := filepath.Glob(filepath.Join(scratch, "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	noWorker(t)
	return stdout.String()
}

// noWorker fails when a worker that this test started is still there. Since the test adopts
// orphans, such a worker would be its child; workers of tests that run beside it are not.
func noWorker(t *testing.T) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		status, err := os.ReadFile(p)
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
			continue
		}
		if exe, err := os.Readlink(filepath.Join(filepath.Dir(p), "exe")); err == nil {
			t.Errorf("a process is left: %s", exe)
		}
	}
}

// Usage holds what a demo says to a command line without a directory, and to a directory where
// nothing was built.
func Usage(t *testing.T, run Run) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(nil, &stdout, &stderr); code != 2 || stdout.Len() > 0 {
		t.Errorf("%d, %q", code, stdout.String())
	}
	if code := run([]string{t.TempDir()}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "make build") {
		t.Errorf("%d, %q", code, stderr.String())
	}
}
