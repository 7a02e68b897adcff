//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const build = "../../build"

// TestTheStory plays the whole demo, compares it with the README and looks for what it may have
// left behind.
func TestTheStory(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	var stdout, stderr bytes.Buffer
	if code := run([]string{build}, &stdout, &stderr); code != 0 {
		t.Fatalf("ended with %d: %s\n%s", code, stderr.String(), stdout.String())
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if shown := transcript(string(readme)); shown != stdout.String() {
		t.Errorf("the README shows another transcript:\n%s\nthe demo's is:\n%s", shown, stdout.String())
	}
	if left, _ := filepath.Glob(filepath.Join(scratch, "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	noWorker(t)
}

// transcript returns the indented text of the README that follows "$ make demo".
func transcript(readme string) string {
	_, rest, _ := strings.Cut(readme, "    $ make demo\n\n")
	var b strings.Builder
	for line := range strings.Lines(rest) {
		text, indented := strings.CutPrefix(line, "    ")
		if !indented && line != "\n" {
			break
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
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

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(nil, &stdout, &stderr); code != 2 || stdout.Len() > 0 {
		t.Errorf("%d, %q", code, stdout.String())
	}
	if code := run([]string{t.TempDir()}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "make build") {
		t.Errorf("%d, %q", code, stderr.String())
	}
}
