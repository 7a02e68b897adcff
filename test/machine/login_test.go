//go:build machine

package machine

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/test/hosts/program"
	"pam_pkcs11/test/scene"
)

// launcher is the worker's program, as it is installed.
const launcher = "/usr/libexec/pam_pkcs11/pam_pkcs11_worker"

// host is a program that asks alice for her PIN.
type host struct {
	name string
	// enter logs in with a PIN. meanwhile is called while the prompt is open.
	enter func(t *testing.T, pin string, meanwhile func()) (in bool)
}

var hosts = []host{{"login", byLogin}, {"sudo", bySudo}, {"sshd", bySSH}}

// answerPIN waits for the prompt, and answers it.
func answerPIN(p *program.Terminal, pin string, meanwhile func()) {
	p.Expect("PIN")
	p.Expect(": ")
	meanwhile()
	p.Enter(pin)
}

func byLogin(t *testing.T, pin string, meanwhile func()) bool {
	p := program.OnTerminal(t, patience, 0, nil, "/bin/login", "alice")
	answerPIN(p, pin, meanwhile)
	if p.ExpectOne("$ ", "Login incorrect") == "Login incorrect" {
		return false
	}
	p.Enter("echo I am $(id -un)")
	p.Expect("I am alice")
	p.Enter("exit")
	p.Wait()
	return true
}

func bySudo(t *testing.T, pin string, meanwhile func()) bool {
	p := program.OnTerminal(t, patience, aliceID, nil,
		"/usr/bin/sudo", "-k", "/bin/sh", "-c", "echo I am $(id -un)")
	answerPIN(p, pin, meanwhile)
	in := p.ExpectOne("I am root", "incorrect password") == "I am root"
	p.Wait()
	return in
}

func bySSH(t *testing.T, pin string, meanwhile func()) bool {
	users := filepath.Join(t.TempDir(), "users")
	server := program.StartSSHD(t, patience, "keyboard-interactive", users)
	who, err := server.LogIn("alice", program.KeyboardWhile(pin, meanwhile))
	if err != nil {
		t.Logf("ssh: %v", err)
	}
	return err == nil && who == "alice"
}

// TestLogins: alice logs in through each program, with a wrong PIN and the right one, over each
// daemon. The card sees the PINs that were typed, and is locked afterwards.
func TestLogins(t *testing.T) {
	for _, column := range []struct {
		name     string
		setUp    func(t *testing.T)
		lookBack func(t *testing.T)
	}{ // in this order: each leaves less of Debian's programs
		{"Debian's pcscd", func(t *testing.T) { startSystem(t, false) }, noBundled},
		{"our pcscd", func(t *testing.T) { startSystem(t, true) }, noBundled},
		{"bundled", alone, oneBundled},
	} {
		t.Run(column.name, func(t *testing.T) {
			theMachine.log.during(t)
			column.setUp(t)
			for _, h := range hosts {
				t.Run(h.name+", wrong PIN", func(t *testing.T) { h.logIn(t, wrongPIN) })
				t.Run(h.name+", right PIN", func(t *testing.T) { h.logIn(t, pin) })
			}
			column.lookBack(t)
		})
	}
}

// logIn logs in and looks at the card and the worker.
func (h host) logIn(t *testing.T, typed string) {
	t.Helper()
	card := theMachine.card
	before := card.Verifies()
	var mapped []string
	in := h.enter(t, typed, func() {
		worker, err := theWorker()
		if err == nil {
			mapped, err = scene.MappedFiles(worker)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if in != (typed == pin) {
		t.Errorf("let in: %v", in)
	}
	if n := card.Verifies() - before; n != 1 || card.Unlocked() {
		t.Errorf("%d PINs at the card, unlocked afterwards: %v", n, card.Unlocked())
	}
	if strange := scene.Foreign(mapped); len(mapped) == 0 || len(strange) > 0 {
		t.Errorf("strange is %q of what is mapped into the worker: %q", strange, mapped)
	}
	t.Logf("mapped into the worker: %s", strings.Join(mapped, " "))
}

// theWorker waits until there is one worker only: that of a login that was given up takes a moment
// to end.
func theWorker() (pid int, err error) {
	var all []int
	if !slowtest.Poll(patience, pause, func() bool {
		all, err = processes(launcher)
		return err == nil && len(all) == 1
	}) {
		return 0, fmt.Errorf("the workers are %v (%v)", all, err)
	}
	return all[0], nil
}

// startSystem has a pcscd on the system's socket, Debian's or ours, until the test ends.
func startSystem(t *testing.T, ours bool) {
	t.Helper()
	if ours {
		if err := theMachine.install("daemon"); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := isOurs(); err != nil || is != ours {
		t.Fatalf("pcscd is ours: %v (%v)", is, err)
	}
	t.Cleanup(startDaemon(t))
	if err := configure("system"); err != nil {
		t.Fatal(err)
	}
}

// alone has no program for smart cards on the machine but what make install brings.
func alone(t *testing.T) {
	t.Helper()
	gone, err := removeForeign()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := removeForeign(); err != nil || len(left) > 0 || len(gone) == 0 {
		t.Fatalf("of %q are left %q (%v)", gone, left, err)
	}
	t.Logf("taken away: %s", strings.Join(gone, " "))
	if err := configure("bundled"); err != nil {
		t.Fatal(err)
	}
}
