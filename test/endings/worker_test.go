//go:build cgo

package endings

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/slowtest"
)

// TestWorkerMissing: a module without its worker cannot ask anything, and says so.
func TestWorkerMissing(t *testing.T) {
	w := *theWorld(t)
	worker := filepath.Join(w.build, "pam_pkcs11_worker")
	if err := os.Rename(worker, worker+".away"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(worker+".away", worker); err != nil {
			t.Error(err)
		}
	}()
	told := []string{"E Error 2370"}
	for _, e := range []ending{
		{name: "worker missing", said: told},
		{name: "worker missing, PAM_SILENT", silent: true, said: told},
		{name: "worker missing, quiet", args: []string{"quiet"}},
		{name: "worker missing, card_only", args: []string{"card_only"}, said: told},
		{name: "worker missing, fail_closed", args: []string{"fail_closed"}, said: told, code: pam.ErrCredInsufficient},
	} {
		t.Run(e.name, func(t *testing.T) {
			e.card, e.user = "alice", "alice"
			if e.code == success {
				e.code = pam.ErrAuthinfoUnavail
			}
			for stack := range stacks {
				check(t, e, play(t, &w, e, stack), stack)
			}
		})
	}
}

// killer answers the prompt after it has killed the worker that asks.
type killer struct {
	heard
	t        *testing.T
	launcher string
}

func (k *killer) RespondPAM(style pam.Style, text string) (string, error) {
	if style == pam.PromptEchoOff {
		killWorker(k.t, k.launcher)
	}
	return k.heard.RespondPAM(style, text)
}

// killWorker ends the worker of this test's module and waits until it is gone.
func killWorker(t *testing.T, launcher string) {
	t.Helper()
	processes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range processes {
		target, err := os.Readlink(exe)
		if err != nil || target != launcher {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if slowtest.Poll(5*time.Minute, time.Millisecond, func() bool {
			target, err := os.Readlink(exe)
			return err != nil || target != launcher
		}) {
			return
		}
	}
	t.Error("no worker is there, or it does not end")
}

// TestWorkerDiesAtItsPrompt: what is typed then goes nowhere, and the user is told.
func TestWorkerDiesAtItsPrompt(t *testing.T) {
	w := *theWorld(t)
	table := w.lay(t, ending{card: "alice", user: "alice"}, 0)
	k := &killer{heard: heard{answers: []string{pin}}, t: t, launcher: filepath.Join(w.build, "pam_pkcs11_worker")}
	tx, err := pam.StartConfDir(table.service, "alice", k, table.services)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.End() }()
	if code := codeOf(tx.Authenticate(0)); code != pam.ErrAuthinfoUnavail {
		t.Errorf("ended with %v (%d)", code, code)
	}
	want := asked("alice", "E Error 2392")
	if err := sameTalk(k.lines, want); err != nil {
		t.Error(err, k.lines)
	}
	if n := table.logins(t); n != 0 {
		t.Errorf("%d PINs reached the card", n)
	}
}
