//go:build cgo

package stack

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/simcard"
)

// TestPINIsOnceInTheWorker looks through the worker when the card has signed and is to be locked:
// the PIN is in its one place, which is wiped when the call returns, and in no command, message or
// text beside.
func TestPINIsOnceInTheWorker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can read a worker's memory")
	}
	const rare = "60718295" // in no memory by chance
	r := newRig(t, readers[0], simcard.Options{PIN: rare}).known(p256Key())
	looked := false
	r.card.Watch(func(_ int, header [4]byte) error {
		if header == [4]byte{0x00, 0x20, 0xFF, 0x80} {
			looked = true
			frozen(t, r.ClientPID(), func(pid int) { lookThrough(t, pid, rare) })
		}
		return nil
	}, nil)

	granted(t, throughLibpam.login(r, typist(rare)))
	r.card.Watch(nil, nil)
	if !looked {
		t.Error("the card was not locked")
	}
}

// frozen stops a process for as long as something is looked at: on a busy machine it would give the
// card up meanwhile, and go on.
func frozen(t *testing.T, pid int, look func(pid int)) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Error(err)
		return
	}
	look(pid)
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Error(err)
	}
}

// lookThrough searches every page that a worker can read, and its arguments and environment.
func lookThrough(t *testing.T, pid int, pin string) {
	t.Helper()
	process := fmt.Sprintf("/proc/%d/", pid)
	for _, name := range []string{"environ", "cmdline"} {
		if text, err := os.ReadFile(process + name); err != nil || bytes.Contains(text, []byte(pin)) {
			t.Errorf("the PIN is in the worker's %s, or: %v", name, err)
		}
	}
	maps, err := os.ReadFile(process + "maps")
	if err != nil {
		t.Error(err)
		return
	}
	memory, err := os.Open(process + "mem")
	if err != nil {
		t.Error(err)
		return
	}
	defer memory.Close()

	found, searched := 0, 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || rights[0] != 'r' {
			continue
		}
		piece := make([]byte, to-from)
		n, _ := memory.ReadAt(piece, from) // what cannot be read is the kernel's
		searched += n
		if count := bytes.Count(piece[:n], []byte(pin)); count > 0 {
			found += count
			t.Logf("the PIN is %d times in %s", count, line)
		}
	}

	if found != 1 {
		t.Errorf("the PIN is in %d places, not in its one", found)
	}
	if searched < 1<<20 {
		t.Errorf("only %d octets could be searched", searched)
	}
}
