// Package probe looks at PKCS#11 libraries and cards in a child process, so that a library that
// crashes or hangs is an answer and not the end of the program that asks.
//
// The child is the same program, called with Word as its first argument: the program hands that
// call to Main. Its environment is that of the PAM module's worker, and nothing of the caller's, so
// that it sees what a login sees.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Word is the first argument of the child.
const Word = "probe-in-a-child"

// Limits of a child.
const (
	maxAnswer = 16 << 20
	// of the beginning and of the end of what it writes on standard error
	maxSaid  = 2 << 10
	killTime = 2 * time.Second // for its pipes to close after it was killed
)

// answerFD is where the child answers: libraries write on standard output as they like.
const answerFD = 3

// Ended is a child that gave no answer.
type Ended struct {
	Signal string // that ended it, such as "SIGSEGV"; "" where it ended by itself
	Status int    // with which it ended by itself
	Hangs  bool   // its time was over
	Said   string // of what it wrote on standard error, the line that says most
}

// Error says how it ended.
func (e *Ended) Error() string {
	text := fmt.Sprintf("it ended the program with status %d", e.Status)

	switch {
	case e.Hangs:
		text = "it did not answer in time"
	case e.Signal != "":
		text = "it crashed: " + e.Signal
	}
	if e.Said != "" {
		text += " (" + e.Said + ")"
	}
	return text
}

// Library loads a PKCS#11 library, with variables (NAME=value) for it, and lists its slots. An
// error is an *Ended, or says why there is no child.
func Library(ctx context.Context, path string, variables []string) (*Answer, error) {
	return run(ctx, nobodyElse, jobLibrary, path, variables...)
}

// Cards opens what a configuration names as a login does, and reads what its cards show without a
// PIN. It starts the bundled daemon for readers where a login would. The error is as that of
// Library.
func Cards(ctx context.Context, file string) (*Answer, error) {
	return run(ctx, nobodyElse, jobCards, file)
}

// Daemon connects to a daemon for readers as another user, which only root can. Answer.Failure says
// why that user is not let in, with KindRefused, or why nobody is. The error is as that of Library.
func Daemon(ctx context.Context, socket string, uid int) (*Answer, error) {
	return run(ctx, uid, jobDaemon, socket)
}

// nobodyElse has the child run as the user who asks.
const nobodyElse = -1

// environment is that of the PAM module's worker (pam/host/spawn.c).
func environment() []string {
	list := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if os.Geteuid() == 0 {
		list = append(list, "XDG_CACHE_HOME=/var/cache/pam_pkcs11")
	}
	return list
}

// run has a child do a job.
func run(ctx context.Context, uid int, job, argument string, variables ...string) (*Answer, error) {
	// The kernel kills the child when the thread that made it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()

	words := &said{limit: maxSaid}
	child := exec.CommandContext(ctx, "/proc/self/exe",
		append([]string{Word, job, argument}, variables...)...)
	child.Env = environment()
	child.Dir = "/"
	child.Stderr = words
	child.ExtraFiles = []*os.File{out}
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}

	if uid != nobodyElse {
		child.SysProcAttr.Credential = credential(uid)
	}
	child.Cancel = func() error { return unix.Kill(-child.Process.Pid, unix.SIGKILL) }
	child.WaitDelay = killTime

	if err := child.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	_ = out.Close() // the child has its own

	answer := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(io.LimitReader(in, maxAnswer+1)) // what is missing is no JSON
		answer <- data
	}()

	failed := child.Wait()
	// What a library has left behind keeps the pipe open.
	_ = unix.Kill(-child.Process.Pid, unix.SIGKILL)

	data := []byte(nil)
	select {
	case data = <-answer:
	case <-time.After(killTime):
	}
	return decode(ctx, data, failed, child.ProcessState, words)
}

// nogroup is the group of a user whose own is not known.
const nogroup = 65534

// credential is that of a user with his groups. One who is not known has none.
func credential(uid int) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(uid), Gid: nogroup}

	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return c
	}
	if gid, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
		c.Gid = uint32(gid)
	}

	ids, _ := u.GroupIds()
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(gid))
		}
	}
	return c
}

// decode is what a child has answered.
func decode(
	ctx context.Context, data []byte, failed error, state *os.ProcessState, words *said,
) (*Answer, error) {
	var a Answer
	if len(data) <= maxAnswer && json.Unmarshal(data, &a) == nil {
		// How it ended afterwards does not matter: libraries crash in their destructors.
		return &a, nil
	}

	e := &Ended{Said: words.String(), Signal: words.signal(), Hangs: ctx.Err() != nil}
	if state != nil {
		e.Status = state.ExitCode()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			e.Signal = unix.SignalName(status.Signal())
		}
	}
	// It never ran: then the error is this program's, and not the library's.
	if state == nil && failed != nil {
		return nil, failed
	}
	return nil, e
}

// said keeps what is written: its beginning and its end.
type said struct {
	limit     int // of each
	head, end []byte
}

// Write keeps the beginning, and of the rest the end. It never fails.
func (s *said) Write(p []byte) (int, error) {
	n := len(p)
	if room := min(s.limit-len(s.head), n); room > 0 {
		s.head = append(s.head, p[:room]...)
		p = p[room:]
	}
	s.end = append(s.end, p...)
	if extra := len(s.end) - s.limit; extra > 0 {
		// Cloned, so that the memory of what is dropped does not stay with it.
		s.end = bytes.Clone(s.end[extra:])
	}
	return n, nil
}

// signal is the one of which Go's runtime says that it has ended the program, by its name in C; ""
// is none.
func (s *said) signal() string {
	for line := range strings.Lines(string(s.head) + string(s.end)) {
		name, _, _ := strings.Cut(line, ": ")
		letters := strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
		if strings.HasPrefix(name, "SIG") && letters == "" {
			return name
		}
	}
	return ""
}

// String is the line that says most, printable: the first of a Go program that crashed, else the
// last.
func (s *said) String() string {
	lines := strings.FieldsFunc(string(s.head)+string(s.end), func(r rune) bool {
		return r == '\n'
	})
	for _, line := range lines {
		for _, begin := range []string{"panic: ", "fatal error: ", "SIG"} {
			if strings.HasPrefix(line, begin) {
				return printable(line)
			}
		}
	}

	if len(lines) == 0 {
		return ""
	}
	return printable(lines[len(lines)-1])
}

// mostShown bounds what is shown of a child's words.
const mostShown = 300

// printable is one line without control characters.
func printable(line string) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == '\uFFFD' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	return line[:min(len(line), mostShown)]
}
