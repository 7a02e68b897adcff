//go:build cgo

package stack

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

// TestWorkerKilled kills the worker before and after each command of a login through libpam: nobody
// is let in, the card gets the PIN once at most, it does not stay unlocked, and the next login goes
// well.
func TestWorkerKilled(t *testing.T) {
	for _, s := range sweeps {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			n := s.commands(t)
			for at := 1; at <= n; at++ {
				for _, after := range []bool{false, true} {
					s.killWorker(t, at, after)
				}
			}
		})
	}
}

// killWorker kills the worker before or after the at-th command.
func (s sweep) killWorker(t *testing.T, at int, after bool) {
	t.Helper()
	what := fmt.Sprintf("worker killed at command %d, after it: %v", at, after)
	r := newRig(t, s.model, simcard.Options{Foreign: true}).known(keys[s.key].key())
	killed := false
	strike := func(n int, _ [4]byte) error {
		if n != at {
			return nil
		}
		killed = true
		pid := r.ClientPID()
		if pid == os.Getpid() || pid <= 0 {
			t.Errorf("%s: there is no worker", what)
			return nil
		}
		return unix.Kill(pid, unix.SIGKILL)
	}
	if after {
		r.card.Watch(nil, strike)
	} else {
		r.card.Watch(strike, nil)
	}

	began := time.Now()
	end := throughLibpam.login(r, typist(s.pin))
	took := time.Since(began)
	r.card.Watch(nil, nil)
	switch {
	case !killed:
		t.Errorf("%s: it has not come to that", what)
	case end.granted || end.code != "PAM_AUTHINFO_UNAVAIL":
		t.Errorf("%s: %v", what, end)
	case took > deadline:
		t.Errorf("%s: it took %v", what, took)
	}

	// The daemon may still be about it: it has the last command, and then resets the card.
	if !slowtest.Poll(patience, time.Millisecond, func() bool { return !r.card.Unlocked() }) {
		t.Errorf("%s: the card stays unlocked", what)
	}
	verifies := r.card.Verifies()
	wantLeft := 3
	if s.pin != pin {
		wantLeft -= verifies
	}
	if left, _ := r.card.Tries(); verifies > end.typed || left != wantLeft {
		t.Errorf("%s: the card has got %d PINs and has %d tries left", what, verifies, left)
	}
	if next := direct.login(r, typist(pin)); !next.granted {
		t.Errorf("%s: the next login: %v", what, next)
	}
	r.counters(verifies+1, 3)
}

// TestDaemonKilled kills the daemon, a process of its own here, before and after each command of a
// login through libpam.
func TestDaemonKilled(t *testing.T) {
	for _, s := range sweeps {
		if s.pin != pin {
			continue
		}
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t, s)
			n := d.commands(t)
			for at := 1; at <= n; at++ {
				for _, after := range []bool{false, true} {
					d.killAt(t, at, after, at == n)
				}
			}
		})
	}
}

// daemon is pcscd-sim with alice's card, and the service of its logins.
type daemon struct {
	*scene.Readers
	stage   *scene.Scene
	service string
}

func newDaemon(t *testing.T, sw sweep) *daemon {
	t.Helper()
	s := theStage(t)
	d := &daemon{stage: s, service: fmt.Sprintf("daemon%d", rigs.Add(1))}
	dir := filepath.Join(s.Dir, "cards", d.service)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := keys[sw.key].key()
	words, err := scene.PIVCard(dir, "9A", s.CA.Leaf("alice", testca.WithKey(key)), key.Private)
	if err != nil {
		t.Fatal(err)
	}
	d.Readers, err = scene.StartReaders(scene.ReadersOptions{
		Program: filepath.Join(build, "pcscd-sim"),
		Dir:     dir,
		Kind:    "usb",
	}, scene.Reader{Name: "Test Reader", Words: append(words,
		"pin "+pin, "level "+string(sw.model.level), "atr "+hex.EncodeToString(sw.model.atr))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := service(s, d.service, d.Socket, nil, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// login is one through libpam. It ends in the channel.
func (d *daemon) login(t *testing.T) <-chan libpam.End {
	ended := make(chan libpam.End, 1)
	go func() {
		types := func(libpam.Style, string) (string, error) { return pin, nil }
		end, err := libpam.Authenticate(d.stage.ServiceDir(), d.service, "alice", types)
		if err != nil {
			t.Error(err)
		}
		ended <- end
	}()
	return ended
}

// commands is how many an undisturbed login has.
func (d *daemon) commands(t *testing.T) int {
	t.Helper()
	c, err := d.Control(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Do("trace"); err != nil {
		t.Fatal(err)
	}
	if end := <-d.login(t); end.Code != "PAM_SUCCESS" {
		t.Fatalf("the undisturbed login: %+v", end)
	}
	return len(c.Seen()) / 2
}

// killAt kills the daemon before or after the at-th command. last: the card has signed before.
func (d *daemon) killAt(t *testing.T, at int, after, last bool) {
	t.Helper()
	what := fmt.Sprintf("daemon killed at command %d, after it: %v", at, after)
	c, err := d.Control(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Do("hold"); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	ended := d.login(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pins := 0
	for commands := 0; ; {
		e, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !e.After {
			commands++
		}
		if !e.After && e.Bytes[1] == 0x20 && e.Bytes[2] == 0 && len(e.Bytes) > 4 {
			pins++
		}
		if commands == at && e.After == after {
			break
		}
		if err := c.Do("go"); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}

	end := <-ended
	switch took := time.Since(began); {
	case end.Code == "PAM_SUCCESS" && !last:
		t.Errorf("%s: a success that was not earned", what)
	case pins > 1:
		t.Errorf("%s: the card has got %d PINs", what, pins)
	case took > deadline:
		t.Errorf("%s: it took %v", what, took)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if next := <-d.login(t); next.Code != "PAM_SUCCESS" {
		t.Errorf("%s: the next login: %+v", what, next)
	}
}
