package desk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
)

// peer is a program that uses the card beside a login.
type peer struct {
	name     string
	command  []string
	says     string // what it says when it has done what it should
	verifies int    // the PINs that it sends
	debian   string // its package
	rounds   int    // in `make test`; `make soak-login` has more

	// alone is a program that shares the card without transactions. A command of it that comes
	// while the login has the card is refused, by Debian's pcscd as by ours, and the selection may
	// have moved when the next one comes; it may then fail, and must succeed when it is run again.
	alone bool

	// restart ends what it has left behind, before it is run again and before each round: scdaemon
	// takes its applet for selected as long as it lives, and its manual warns of that for
	// pcsc-shared.
	restart func(context.Context, *Desk) error

	// repeats is a program that sends the PIN again, from its own memory, where the login has
	// locked the card behind it.
	repeats bool
}

var peers = []peer{
	{
		name:    "ykman",
		command: []string{"ykman", "piv", "info"},
		says:    "CN=alice",
		debian:  "yubikey-manager",
		alone:   true,
		rounds:  2,
	}, {
		name:    "yubico-piv-tool, which reads",
		command: []string{"yubico-piv-tool", "-a", "status"},
		says:    "CN=alice",
		debian:  "yubico-piv-tool",
		rounds:  5,
	}, {
		name:     "yubico-piv-tool, which sends the PIN",
		command:  []string{"yubico-piv-tool", "-a", "verify-pin", "-P", PIN},
		says:     "Successfully verified PIN",
		verifies: 1,
		debian:   "yubico-piv-tool",
		rounds:   5,
	}, {
		name:    "OpenSC, which reads",
		command: []string{"pkcs15-tool", "--list-certificates"},
		says:    "Certificate for PIV Authentication",
		debian:  "opensc",
		rounds:  5,
	}, {
		name: "OpenSC, which signs",
		command: []string{"pkcs11-tool", "--login", "--pin", PIN, "--sign", "--id", "01",
			"--mechanism", "ECDSA", "--input-file", "digest", "--output-file", "signature"},
		says:     "Using signature algorithm ECDSA",
		verifies: 1,
		repeats:  true,
		debian:   "opensc",
		rounds:   5,
	}, {
		name:    "scdaemon, with pcsc-shared",
		command: []string{"gpg", "--card-status"},
		says:    "Application type .: OpenPGP",
		debian:  "gpg",
		rounds:  5,
		alone:   true,
		restart: endGnuPG,
	},
}

// insertYubiKey puts a YubiKey of alice's into the only reader.
func (d *Desk) insertYubiKey(t *testing.T) *yubiKey {
	t.Helper()
	card, err := d.NewCard(yubiKeyOptions(), "alice", testca.P256())
	if err != nil {
		t.Fatal(err)
	}
	y := &yubiKey{Card: card}
	d.Readers[0].Insert(y)
	if err := d.AwaitCard(within(t), d.Readers[0], true); err != nil {
		t.Fatal(err)
	}
	return y
}

// run runs a program as a client of the daemon, and returns what it says.
func (d *Desk) run(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = d.Dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.Dir, "GNUPGHOME=" + d.Dir, "LC_ALL=C.UTF-8",
		"PCSCLITE_CSOCK_NAME=" + d.Socket,
	}
	cmd.WaitDelay = 10 * time.Second // gpg leaves scdaemon behind
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return string(out), err
}

// gnupg writes scdaemon's configuration, and ends what gpg starts with the test.
func (d *Desk) gnupg(t *testing.T, lines ...string) {
	t.Helper()
	need(t, "gpg", "gpg")
	text := strings.Join(append([]string{"disable-ccid"}, lines...), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(d.Dir, "scdaemon.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endGnuPG(context.Background(), d); err != nil {
			t.Error(err)
		}
	})
}

// endGnuPG ends gpg-agent and scdaemon, and waits until they are gone.
func endGnuPG(ctx context.Context, d *Desk) error {
	if said, err := d.run(ctx, "gpgconf", "--kill", "all"); err != nil {
		return fmt.Errorf("gpgconf: %w: %s", err, said)
	}
	var left []string
	var err error
	if !slowtest.Poll(patience, 5*time.Millisecond, func() bool {
		left, err = filepath.Glob(filepath.Join(d.Dir, "S.*"))
		return err != nil || len(left) == 0
	}) {
		return fmt.Errorf("%q are still there", left)
	}
	return err
}

// TestBesideOtherPrograms: alice logs in, again and again, while another program uses her card.
// Both have what they want, each time, and the card sees as many PINs as were typed.
func TestBesideOtherPrograms(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.command[0], p.debian)
			d := New(t, 1, Options{Product: "Yubico YubiKey CCID"})
			d.gnupg(t, "pcsc-shared")
			digest := filepath.Join(d.Dir, "digest")
			if err := os.WriteFile(digest, make([]byte, 32), 0o600); err != nil {
				t.Fatal(err)
			}
			card := d.insertYubiKey(t)

			rounds := count(t, "DESK_ROUNDS", p.rounds)
			var sum round
			for i := range rounds {
				r, err := d.beside(within(t), p)
				if err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
				sum.logins += r.logins
				sum.refusals += r.refusals
			}
			t.Logf("%d rounds, %d logins; the program was run again %d times",
				rounds, sum.logins, sum.refusals)
			typed := sum.logins + rounds*p.verifies
			if n := card.Verifies(); n < typed || n > typed && !p.repeats || n > typed+rounds {
				t.Errorf("%d PINs at the card, %d were typed", n, typed)
			}
			if pin, _ := card.Tries(); pin != 3 || card.Strays() != 0 {
				t.Errorf("%d tries are left, %d PINs went to another applet", pin, card.Strays())
			}
		})
	}
}

// round is what has happened while the program ran.
type round struct{ logins, refusals int }

// beside runs the program, and logs in until it has ended, at least once.
func (d *Desk) beside(ctx context.Context, p peer) (r round, err error) {
	if p.restart != nil {
		if err := p.restart(ctx, d); err != nil {
			return r, err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- d.use(ctx, p) }()
	for {
		if err := d.LogIn(ctx, Login{User: "alice", Cached: true}); err != nil {
			<-ended
			return r, err
		}
		r.logins++

		select {
		case err := <-ended:
			if err == nil || !p.alone {
				return r, err
			}
			r.refusals++
			if p.restart != nil {
				if err := p.restart(ctx, d); err != nil {
					return r, err
				}
			}
			return r, d.use(ctx, p)
		default:
		}
	}
}

// use runs the program once. The error has what it says.
func (d *Desk) use(ctx context.Context, p peer) error {
	said, err := d.run(ctx, p.command...)
	if err != nil || !strings.Contains(said, p.says) {
		return fmt.Errorf("%s: %v; it says\n%s", p.name, err, said)
	}
	return nil
}

// TestScdaemonKeepsTheCard: without pcsc-shared, gpg's scdaemon keeps the card to itself for as
// long as it runs. A login says so, and succeeds as soon as it lets go.
func TestScdaemonKeepsTheCard(t *testing.T) {
	d := New(t, 1, Options{Product: "Yubico YubiKey CCID"})
	d.gnupg(t)
	card := d.insertYubiKey(t)
	for range count(t, "DESK_ROUNDS", 2) {
		ctx := within(t)
		if said, err := d.run(ctx, "gpg", "--card-status"); err != nil {
			t.Fatalf("gpg: %v: %s", err, said)
		}

		before := card.Verifies()
		err := d.LogIn(ctx, Login{User: "alice"})
		if err == nil || !strings.Contains(err.Error(), "Error 2404") {
			t.Fatalf("the login that scdaemon keeps out: %v", err)
		}
		if card.Verifies() != before {
			t.Error("the PIN was sent")
		}

		if err := endGnuPG(ctx, d); err != nil {
			t.Fatal(err)
		}
		if err := d.LogIn(ctx, Login{User: "alice"}); err != nil {
			t.Fatal(err)
		}
	}
}
