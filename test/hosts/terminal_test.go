//go:build hosts && linux && cgo

package hosts

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

// patience is how long a program may take to say the next thing.
const patience = 20 * time.Second

// terminal is a program on a terminal of its own, with somebody typing.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	said strings.Builder
	more chan struct{} // gets a token when said grows, closed at the end
	read int           // what expect has consumed
}

// onTerminal starts a program with a new terminal as its controlling one, as the user with that id, with the given
// environment and nothing else in it.
func onTerminal(t *testing.T, id uint32, env []string, program string, args ...string) *terminal {
	t.Helper()
	stage.syslog.during(t)
	master, slave := openTerminal(t, id)
	defer slave.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Credential: &syscall.Credential{Uid: id, Gid: id}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, master: master, cmd: cmd, more: make(chan struct{}, 1)}
	go p.listen()
	t.Cleanup(p.end)
	return p
}

// openTerminal returns both ends of a new pseudo terminal whose user end belongs to the user with that id.
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
func (p *terminal) listen() {
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

// text returns all that the program said.
func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// expect waits until the program says something that it has not been credited with yet.
func (p *terminal) expect(want string) {
	p.t.Helper()
	p.expectOne(want)
}

// expectOne is expect for the first of several things, which it returns.
func (p *terminal) expectOne(wants ...string) string {
	p.t.Helper()
	got := p.next(wants...)
	if got == "" {
		p.t.Fatalf("it ended without saying %q:\n%s", wants, p.text())
	}
	return got
}

// next is expectOne for a program that may end without saying any of it: that is "".
func (p *terminal) next(wants ...string) string {
	p.t.Helper()
	deadline := time.After(patience)
	for ended := false; ; {
		text := p.text()[p.read:]
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
			p.t.Fatalf("it did not say %q:\n%s", wants, p.text())
		}
	}
}

// enter types a line.
func (p *terminal) enter(line string) {
	p.t.Helper()
	if _, err := p.master.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the program's exit code; one that does not end in time is a failure.
func (p *terminal) wait() int {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case <-done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-done
		p.t.Fatalf("it did not end:\n%s", p.text())
		return -1
	}
}

// end ends a program that is still there when its test is over.
func (p *terminal) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	_ = p.master.Close()
}
