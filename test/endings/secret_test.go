//go:build cgo

package endings

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// rarePIN is not in any memory by chance.
const rarePIN = "w7Qx-2718281828-vZ"

// TestPINIsLeftNowhereInTheWorker stops a whole login in C_Finalize, when nothing needs the PIN any more, and looks
// through the worker: its memory, its environment, its arguments, and whether it could leave a core file.
func TestPINIsLeftNowhereInTheWorker(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("only root can read a worker's memory")
	}
	w := *theWorld(t)
	w.rareCard(t)
	for name, answer := range map[string]string{"right PIN": rarePIN, "wrong PIN": rarePIN + "!"} {
		t.Run(name, func(t *testing.T) {
			granted := answer == rarePIN // its verdict is out before C_Finalize
			table := w.lay(t, ending{card: "rare", user: "alice", fault: []string{"C_Finalize hang"}}, 0)
			tx, err := pam.StartConfDir(table.service, "alice", &heard{answers: []string{answer}}, table.services)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.End() }()
			ended := make(chan pam.Error)
			go func() { ended <- codeOf(tx.Authenticate(0)) }()
			worker := stuckWorker(t, &w)
			lookThrough(t, worker)
			if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			if code := <-ended; granted && code != success || !granted && !refused(code) {
				t.Errorf("ended with %v (%d)", code, code)
			}
		})
	}
}

// rareCard is alice's card with a PIN of its own. Its key is made anew, so that no row's card is touched.
func (w *world) rareCard(t *testing.T) {
	t.Helper()
	ca := testca.NewRoot("Example CA")
	dir := t.TempDir()
	store, err := pkcs11test.NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	alice := ca.Leaf("alice", testca.WithKey(testca.P256()))
	err = store.Add(pkcs11test.Token{Label: "alice", PIN: rarePIN, Objects: []pkcs11test.Object{{ID: []byte{1}, Cert: alice.DER, Key: alice.Key.Private}}})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(w.dir, "cacerts", "rare.pem"), string(ca.PEM()), 0o644)
	w.decks["rare"] = dir
	t.Cleanup(func() {
		delete(w.decks, "rare")
		_ = os.Remove(filepath.Join(w.dir, "cacerts", "rare.pem"))
	})
}

// stuckWorker waits until the library was called to end, and finds the process.
func stuckWorker(t *testing.T, w *world) int {
	t.Helper()
	launcher := filepath.Join(filepath.Dir(w.module), "pam_pkcs11_worker")
	for limit := time.Now().Add(5 * time.Minute); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if n, err := w.fault.Count("C_Logout"); err != nil || n == 0 {
			if failed, _ := w.fault.Count("C_Login"); failed == 0 {
				continue
			}
		}
		processes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range processes {
			if target, err := os.Readlink(exe); err == nil && target == launcher && inFinalize(filepath.Dir(exe)) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
				// Stopped it stays: its own limit for C_Finalize may be over before a busy machine has looked.
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no worker is stuck in C_Finalize")
	return 0
}

// inFinalize tells whether a thread of the process sleeps where the fault library hangs (pause(2)).
func inFinalize(process string) bool {
	threads, _ := filepath.Glob(process + "/task/*/syscall")
	for _, f := range threads {
		if text, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(text), fmt.Sprintf("%d ", syscall.SYS_PAUSE)) {
			return true
		}
	}
	return false
}

// lookThrough searches every page that the worker can read.
func lookThrough(t *testing.T, pid int) {
	t.Helper()
	process := fmt.Sprintf("/proc/%d/", pid)
	for _, name := range []string{"environ", "cmdline"} {
		if bytes.Contains(mustRead(t, process+name), []byte(rarePIN)) {
			t.Errorf("the PIN is in the worker's %s", name)
		}
	}
	if limits := string(mustRead(t, process+"limits")); !strings.Contains(limits, "Max core file size        0                    0") {
		t.Errorf("the worker may leave a core file:\n%s", limits)
	}
	memory, err := os.Open(process + "mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	searched := 0
	for line := range strings.Lines(string(mustRead(t, process+"maps"))) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || rights[0] != 'r' || strings.HasSuffix(line, "[vvar]\n") {
			continue
		}
		piece := make([]byte, to-from)
		n, _ := memory.ReadAt(piece, from)
		searched += n
		if at := bytes.Index(piece[:n], []byte(rarePIN)); at >= 0 {
			t.Errorf("the PIN is at %#x in %s", from+int64(at), line)
		}
	}
	if searched < 1<<20 {
		t.Errorf("only %d octets could be searched", searched)
	}
	t.Logf("%d KiB searched", searched>>10)
}
