package usb

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
)

// TestIdle is what TestBenchIdle does, on the bus of the kernel.
func TestIdle(t *testing.T) {
	if !inMachine() {
		t.Skip("in the virtual machine only: make test-usb; or make bench-ccid")
	}
	program := os.Getenv("PAM_PKCS11_TEST_USB_PCSCD")
	if program == "" {
		t.Fatal("PAM_PKCS11_TEST_USB_PCSCD does not say where the daemon is")
	}
	idles(t, program)
}

// idles counts how often the whole daemon wakes up in ten seconds while nothing happens: without a reader, and with some.
func idles(t *testing.T, program string) {
	t.Helper()
	withoutQEMUs(t)
	idle(t, program, 0)
	for _, n := range []int{1, 3} {
		t.Run("", func(t *testing.T) {
			var benches []*bench
			for _, m := range removable()[:n] {
				benches = append(benches, newBench(t, m))
			}
			idle(t, program, n, benches...)
		})
	}
}

// withoutQEMUs switches the port of QEMU's reader off until the test ends, so that there is no reader.
func withoutQEMUs(t *testing.T) {
	t.Helper()
	names, err := filepath.Glob("/sys/bus/usb/devices/*/product")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || !isQEMUs(string(text)) {
			continue
		}
		port, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(name), "port"))
		if err != nil {
			t.Fatal(err)
		}
		disable := func(value string) {
			// The host controller cannot cut the power, which the kernel reports when it has let go of the device.
			if err := os.WriteFile(filepath.Join(port, "disable"), []byte(value), 0); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
		}
		disable("1")
		t.Cleanup(func() { disable("0") })
	}
}

// mostOfOurs bounds what no poll explains: the runtime starts a thread now and then, for its memory.
const mostOfOurs = 10

// idle starts the daemon, waits for its readers, and counts. Nothing of ours may wake it.
func idle(t *testing.T, program string, readers int, benches ...*bench) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	daemon := exec.Command(program, "--foreground", "--socket", socket, "--readers", "usb", "--debug")
	log := &slowtest.Buffer{}
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
	var before []int
	time.Sleep(3 * time.Second) // what is measured is what runs while nothing happens
	for _, b := range benches {
		before = append(before, b.reader.Counts().Messages)
	}
	all := wakeUps(t, daemon.Process.Pid)
	by := causes(t, daemon.Process.Pid)
	for try := 0; try < 2 && by.ours > mostOfOurs; try++ {
		by = causes(t, daemon.Process.Pid)
	}
	fmt.Printf("pcscd, %d readers: %d wake-ups in 10 s; of 10 s: %d of the Go runtime's watch, %d of ours\n",
		readers, all, by.watch, by.ours)
	if all > mostOfOurs || by.ours > mostOfOurs {
		t.Errorf("%d readers: %d, %+v", readers, all, by)
	}
	for i, b := range benches {
		if now := b.reader.Counts().Messages; now != before[i] {
			t.Errorf("%s got %d messages while nothing happened", b.name, now-before[i])
		}
	}
}

// wakeUps returns how often the threads of a process went to sleep in ten seconds, the least of some tries: the runtime
// has work of its own for a while, for its garbage and its memory.
func wakeUps(t *testing.T, pid int) int {
	t.Helper()
	least := 0
	for try := range 3 {
		time.Sleep(3 * time.Second) // what is measured is what runs while nothing happens
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
	return least
}

// woken counts by cause what woke a process.
type woken struct {
	watch int // by the Go runtime's monitor, which each return from C wakes, for a look around
	ours  int // anything else
}

// waits are the system calls that end with a wake-up, as strace shows them, also where they are resumed.
var waits = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(poll|ppoll|futex|nanosleep|epoll_pwait|epoll_wait|read|recvmsg|clock_nanosleep)(.*)$`)

// causes traces a process for ten seconds. The thread that sleeps by nanosleep is the runtime's monitor.
func causes(t *testing.T, pid int) woken {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command("timeout", "--signal=INT", "10", "strace", "-f", "-o", trace, "-p", fmt.Sprint(pid)).CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("strace (Debian package strace): %v\n%s", err, out)
	}
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][]string
	monitor := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m := waits.FindStringSubmatch(lines.Text())
		// Only what ends; what waited before the trace began, or still does at its end, is none.
		if m == nil || strings.Contains(m[3], "unfinished") || strings.Contains(m[3], "FUTEX_WAKE") || strings.Contains(m[3], "ERESTART") || strings.Contains(m[3], "EAGAIN") ||
			m[2] == "futex" && !strings.HasSuffix(m[3], " = 0") && !strings.Contains(m[3], "ETIMEDOUT") { // FUTEX_WAKE gives a number
			continue
		}
		if m[2] == "nanosleep" {
			monitor = m[1]
		}
		all = append(all, m)
	}
	var w woken
	for _, m := range all {
		switch {
		case m[1] == monitor:
			w.watch++
		default:
			w.ours++
		}
	}
	return w
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
