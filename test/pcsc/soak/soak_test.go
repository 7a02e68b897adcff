// Package soak lets 200 clients use 4 readers for a long time while everything happens to them: they are killed, cards and
// readers are pulled out, the daemon ends and begins again. No answer may be wrong, no client may be stuck, and
// the daemon may not grow. PCSC_SOAK is how long it takes: a duration, 20s when it is not set.
package soak

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
)

// clients is how many programs run at one time.
const clients = 200

// patience is how long a client may take for one step on a machine that is busy with 200 of them.
const patience = 90 * time.Second

type soak struct {
	t              *testing.T
	dir, client    string
	socket         string
	progress       []byte // of each client, 64 bits
	ended          atomic.Bool
	faults         chan string
	kills, newborn atomic.Int64
	daemon         *exec.Cmd
	in             io.WriteCloser
	out            *bufio.Reader
	mu             sync.Mutex
	running        [clients]*os.Process
	work           sync.WaitGroup
	seed, lives    uint64
	worstWait      int64
}

func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if v := os.Getenv("PCSC_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newSoak(t)
	s.start()
	fresh := s.vitals()
	begin := time.Now()
	for i := range clients {
		s.work.Go(func() { s.keepAlive(i) })
	}
	s.work.Go(s.kill)
	s.work.Go(s.watch)

	// The daemon ends and begins again in the first third: at times it is told to, at times it is killed.
	for time.Since(begin) < length/3 {
		s.sleep(min(length/9, time.Minute))
		s.stop(s.lives%2 == 0)
		s.start()
	}
	s.sleep(length/3 - time.Since(begin)%(length/3))
	middle := s.vitals()
	s.sleep(length - time.Since(begin))
	end := s.vitals()

	s.ended.Store(true)
	s.endClients()
	s.work.Wait()
	s.say("quiet")
	idle := s.awaitIdle(fresh)
	s.stop(true)
	close(s.faults)
	for f := range s.faults {
		t.Error(f)
	}
	t.Logf("seed %d: %d pieces of work, %d clients killed, %d daemons, longest step %v", s.seed, s.sum(), s.kills.Load(), s.lives,
		time.Duration(s.worstWait).Round(time.Millisecond))
	t.Logf("fresh:  %+v\nmiddle: %+v\nend:    %+v\nidle:   %+v", fresh, middle, end, idle)
	if idle.Goroutines > fresh.Goroutines+4 || idle.Descriptors > fresh.Descriptors || !strings.Contains(idle.Manager, " 0 contexts, 0 handles") {
		t.Errorf("something is left: %+v, fresh it was %+v", idle, fresh)
	}
	if end.Resident > middle.Resident*5/4+8<<10 {
		t.Errorf("the daemon grows: %d KiB, then %d", middle.Resident, end.Resident)
	}
	if s.sum() < clients {
		t.Errorf("only %d pieces of work were done", s.sum())
	}
}

func newSoak(t *testing.T) *soak {
	dir, err := os.MkdirTemp("", "pcsc-soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &soak{t: t, dir: dir, client: filepath.Join(dir, "client"), socket: filepath.Join(dir, "comm"), faults: make(chan string, 10000),
		seed: rand.Uint64() >> 32}
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libpcsclite").Output()
	if err != nil {
		t.Fatal("libpcsclite is missing: install the Debian package libpcsclite-dev")
	}
	args := append([]string{"-O2", "-o", s.client, "c/client.c"}, strings.Fields(string(flags))...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	f, err := os.Create(filepath.Join(dir, "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8 * clients); err != nil {
		t.Fatal(err)
	}
	if s.progress, err = unix.Mmap(int(f.Fd()), 0, 8*clients, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(s.progress) })
	return s
}

// start starts a daemon and waits until it answers.
func (s *soak) start() {
	s.t.Helper()
	s.daemon = exec.Command(os.Args[0])
	s.daemon.Env = append(os.Environ(), "PCSC_SOAK_DAEMON="+s.socket, fmt.Sprintf("PCSC_SOAK_SEED=%d", s.seed+s.lives))
	s.daemon.Stderr = os.Stderr
	s.daemon.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var err error
	if s.in, err = s.daemon.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := s.daemon.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.lives++
	s.vitals()
}

// stop ends the daemon; gently is SIGTERM, after which its exit code is 0.
func (s *soak) stop(gently bool) {
	s.t.Helper()
	if !gently {
		s.daemon.Process.Kill()
		s.daemon.Wait()
		return
	}
	begin := time.Now()
	s.daemon.Process.Signal(unix.SIGTERM)
	if err := s.daemon.Wait(); err != nil || time.Since(begin) > 30*time.Second {
		s.t.Errorf("the daemon ended after %v: %v", time.Since(begin), err)
	}
}

func (s *soak) say(word string) { fmt.Fprintln(s.in, word) }

func (s *soak) vitals() (v vitals) {
	s.t.Helper()
	s.say("vitals")
	line, err := s.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &v)
	}
	if err != nil {
		s.t.Fatalf("the daemon does not answer: %v", err)
	}
	return v
}

// awaitIdle waits until what the clients had is gone.
func (s *soak) awaitIdle(fresh vitals) vitals {
	var v vitals
	slowtest.Poll(20*time.Second, 100*time.Millisecond, func() bool {
		v = s.vitals()
		return v.Goroutines <= fresh.Goroutines+4 && v.Descriptors <= fresh.Descriptors &&
			strings.Contains(v.Manager, " 0 contexts, 0 handles")
	})
	return v
}

// keepAlive runs one client after the other.
func (s *soak) keepAlive(i int) {
	for !s.ended.Load() {
		cmd := exec.Command(s.client, strconv.Itoa(i), filepath.Join(s.dir, "progress"))
		cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+s.socket)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			s.faults <- err.Error()
			return
		}
		s.mu.Lock()
		s.running[i] = cmd.Process
		s.mu.Unlock()
		cmd.Wait()
		s.newborn.Add(1)
		s.mu.Lock()
		s.running[i] = nil
		s.mu.Unlock()
		if status, ok := cmd.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !status.Signaled() {
			s.faults <- fmt.Sprintf("client %d ended: %v: %s", i, cmd.ProcessState, said.String())
			return
		}
	}
}

// kill kills clients at random moments.
func (s *soak) kill() {
	r := rand.New(rand.NewPCG(s.seed, 1))
	for !s.ended.Load() {
		time.Sleep(time.Duration(5+r.IntN(60)) * time.Millisecond)
		s.mu.Lock()
		if p := s.running[r.IntN(clients)]; p != nil {
			p.Kill()
			s.kills.Add(1)
		}
		s.mu.Unlock()
	}
}

func (s *soak) endClients() {
	slowtest.Until(s.t, "the end of the clients", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		left := 0
		for _, p := range s.running {
			if p != nil {
				p.Kill()
				left++
			}
		}
		return left == 0
	})
}

// watch looks whether every client goes on.
func (s *soak) watch() {
	var last [clients]uint64
	var since [clients]time.Time
	for i := range since {
		since[i] = time.Now()
	}
	for !s.ended.Load() {
		time.Sleep(50 * time.Millisecond) // between two looks
		for i := range clients {
			now := binary.NativeEndian.Uint64(s.progress[8*i:])
			waited := time.Since(since[i])
			s.worstWait = max(s.worstWait, int64(waited))
			if now != last[i] {
				last[i], since[i] = now, time.Now()
			} else if waited > patience {
				s.faults <- fmt.Sprintf("client %d has not gone on for %v", i, waited)
				since[i] = time.Now()
			}
		}
	}
}

func (s *soak) sum() (n uint64) {
	for i := range clients {
		n += binary.NativeEndian.Uint64(s.progress[8*i:])
	}
	return n
}

func (s *soak) sleep(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}

// descriptors and resident are of a process.
func descriptors(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all)
}

func resident(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}
