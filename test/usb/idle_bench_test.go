//go:build bench

package usb

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestBenchIdle counts how often the whole daemon wakes up in ten seconds while nothing happens: without a reader, and
// with readers through gousb, which polls ten times a second. The readers are there before the daemon is: one that libusb
// is not told of, where no udevd runs, costs a context and polls of its own.
func TestBenchIdle(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pcscd")
	if out, err := exec.Command("go", "build", "-o", program, "pam_pkcs11/cmd/pcscd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := idle(t, program, 0); n > 10 {
		t.Errorf("%d wake-ups without a reader", n)
	}
	var benches []*bench
	for _, m := range removable()[:3] {
		benches = append(benches, newBench(t, m))
	}
	idle(t, program, 3, benches...)
}

// idle starts the daemon, waits for its readers, and counts.
func idle(t *testing.T, program string, readers int, benches ...*bench) int {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	daemon := exec.Command(program, "--foreground", "--socket", socket, "--readers", "usb", "--debug")
	log := &recorderOfText{}
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		daemon.Process.Signal(syscall.SIGTERM)
		daemon.Wait()
	}()
	eventually(t, "the daemon", func() error { _, err := os.Stat(socket); return err })
	eventually(t, "the readers", func() error {
		if n := strings.Count(log.String(), "reader added"); n != readers {
			return fmt.Errorf("%d readers were added:\n%s", n, log.String())
		}
		return nil
	})
	time.Sleep(3 * time.Second)
	var before []int
	for _, b := range benches {
		before = append(before, b.reader.Counts().Messages)
	}
	n := wakeUps(t, daemon.Process.Pid, fmt.Sprintf("%d readers", readers))
	for i, b := range benches {
		if now := b.reader.Counts().Messages; now != before[i] {
			t.Errorf("%s got %d messages while nothing happened", b.name, now-before[i])
		}
	}
	return n
}

// wakeUps prints and returns how often the threads of a process went to sleep in ten seconds. Each of gousb's ten polls
// a second is several: its thread, the Go runtime's, which looks after a thread that is in C, and on a bus in user space
// a question to that for each reader. The driver's own are counted in package ccid, where there is no gousb.
func wakeUps(t *testing.T, pid int, what string) int {
	t.Helper()
	least := 0
	for try := range 3 {
		time.Sleep(3 * time.Second)
		before := switches(t, pid)
		time.Sleep(10 * time.Second)
		n := switches(t, pid) - before
		if least = min(least, n); try == 0 {
			least = n
		}
		if least == 0 {
			break
		}
	}
	fmt.Printf("pcscd, %s: %d wake-ups in 10 s\n", what, least)
	return least
}

// switches is how often the threads of a process have gone to sleep of themselves.
func switches(t *testing.T, pid int) int {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	sum := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var n int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}

// recorderOfText keeps what a program says.
type recorderOfText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *recorderOfText) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorderOfText) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}
