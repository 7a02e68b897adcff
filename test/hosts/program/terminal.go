//go:build linux

// Package program starts the programs that ask PAM, for tests: one on a terminal of its own with
// somebody typing, and OpenSSH's server with a client.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a program on a terminal of its own, with somebody typing.
type Terminal struct {
	t        *testing.T
	patience time.Duration // how long the program may take to say the next thing
	master   *os.File
	cmd      *exec.Cmd

	mu   sync.Mutex
	said strings.Builder
	more chan struct{} // gets a token when said grows, closed at the end
	read int           // what Expect has consumed
}

// OnTerminal starts a program with a new terminal as its controlling one, as the user with that id,
// with the given environment and nothing else in it. It may take patience to say the next thing.
func OnTerminal(
	t *testing.T, patience time.Duration, id uint32, env []string, program string, args ...string,
) *Terminal {
	t.Helper()
	master, slave := openTerminal(t, id)
	defer slave.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Setctty:    true,
		Ctty:       0,
		Credential: &syscall.Credential{Uid: id, Gid: id},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Terminal{t: t, patience: patience, master: master, cmd: cmd, more: make(chan struct{}, 1)}
	go p.listen()
	t.Cleanup(p.end)
	return p
}

// openTerminal returns both ends of a new pseudo terminal whose user end belongs to the user with
// that id.
func openTerminal(t *testing.T, id uint32) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	if err := os.Chown(name, int(id), 5); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// listen collects what the program says until the terminal is closed by all who had it.
func (p *Terminal) listen() {
	buffer := make([]byte, 4096)
	for {
		n, err := p.master.Read(buffer)
		p.mu.Lock()
		p.said.Write(buffer[:n])
		p.mu.Unlock()
		if err != nil {
			close(p.more)
			return
		}
		select {
		case p.more <- struct{}{}:
		default:
		}
	}
}

// Args returns the program and its arguments.
func (p *Terminal) Args() []string { return p.cmd.Args }

// Text returns all that the program said.
func (p *Terminal) Text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// Expect waits until the program says something that it has not been credited with yet.
func (p *Terminal) Expect(want string) {
	p.t.Helper()
	p.ExpectOne(want)
}

// ExpectOne is Expect for the first of several things, which it returns.
func (p *Terminal) ExpectOne(wants ...string) string {
	p.t.Helper()
	got := p.Next(wants...)
	if got == "" {
		p.t.Fatalf("it ended without saying %q:\n%s", wants, p.Text())
	}
	return got
}

// Next is ExpectOne for a program that may end without saying any of it: that is "".
func (p *Terminal) Next(wants ...string) string {
	p.t.Helper()
	deadline := time.After(p.patience)
	for ended := false; ; {
		text := p.Text()[p.read:]
		for _, want := range wants {
			if i := strings.Index(text, want); i >= 0 {
				p.read += i + len(want)
				return want
			}
		}
		if ended {
			return ""
		}

		select {
		case _, open := <-p.more:
			ended = !open
		case <-deadline:
			p.t.Fatalf("it did not say %q:\n%s", wants, p.Text())
		}
	}
}

// Enter types a line.
func (p *Terminal) Enter(line string) {
	p.t.Helper()
	if _, err := p.master.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// Wait returns the program's exit code; one that does not end in time is a failure.
func (p *Terminal) Wait() int {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case <-done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(p.patience):
		_ = p.cmd.Process.Kill()
		<-done
		p.t.Fatalf("it did not end:\n%s", p.Text())
		return -1
	}
}

// end ends a program that is still there when its test is over.
func (p *Terminal) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	_ = p.master.Close()
}
