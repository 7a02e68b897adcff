//go:build cgo

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/storytest"
)

// TestTheStory plays the whole demo and compares it with doc/demo.txt, and with what the README shows of it.
func TestTheStory(t *testing.T) {
	said := storytest.Play(t, run)
	full, err := os.ReadFile("../../doc/demo.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := string(full)
	if os.Geteuid() != 0 { // who is not root does not see what is in the worker
		seen, _ := (&way{mapped: []string{"libc.so.6"}}).worker()
		unseen, _ := (&way{hidden: true}).worker()
		want = strings.Replace(want, wrap(seen), wrap(unseen), 1)
	}
	if want != said {
		t.Errorf("doc/demo.txt is another transcript; the demo's is:\n%s", said)
	}

	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := scenes(transcript(string(readme)))
	if len(shown) < 3 {
		t.Errorf("the README shows %d scenes", len(shown))
	}
	for _, scene := range shown {
		if !slices.Contains(scenes(string(full)), scene) {
			t.Errorf("the README shows a scene that the demo does not have:\n%s", scene)
		}
	}
}

// TestWithoutRoot: whoever tries the demo need not be root. Root has somebody else play the story, who may only read where
// these sources are.
func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		return // TestTheStory is it
	}
	const nobody = 65534
	again := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestTheStory$", "-test.v")
	again.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=/tmp"}
	again.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_DAC_READ_SEARCH},
	}
	said, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--- PASS: TestTheStory") {
		t.Errorf("%v: %s", err, said)
	}
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
	return b.String()
}

// scenes are the parts of a transcript that begin with a star.
func scenes(transcript string) []string {
	var all []string
	for _, part := range strings.Split("\n"+transcript, "\n* ")[1:] {
		all = append(all, strings.TrimRight(part, "\n"))
	}
	return all
}

func TestUsage(t *testing.T) { storytest.Usage(t, run) }
