package desk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
}

var peers = []peer{
	{"ykman", []string{"ykman", "piv", "info"}, "CN=alice", 0, "yubikey-manager", 2},
	{"yubico-piv-tool, which reads", []string{"yubico-piv-tool", "-a", "status"}, "CN=alice", 0, "yubico-piv-tool", 5},
	{"yubico-piv-tool, which sends the PIN", []string{"yubico-piv-tool", "-a", "verify-pin", "-P", PIN},
		"Successfully verified PIN", 1, "yubico-piv-tool", 5},
	{"OpenSC, which reads", []string{"pkcs15-tool", "--list-certificates"}, "Certificate for PIV Authentication", 0, "opensc", 5},
	{"OpenSC, which signs", []string{"pkcs11-tool", "--login", "--pin", PIN, "--sign", "--id", "01", "--mechanism", "ECDSA",
		"--input-file", "digest", "--output-file", "signature"}, "Using signature algorithm ECDSA", 1, "opensc", 5},
	{"scdaemon", []string{"gpg", "--card-status"}, "Application type .: OpenPGP", 0, "gpg", 5},
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
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.Dir, "GNUPGHOME=" + d.Dir, "LC_ALL=C.UTF-8",
		"PCSCLITE_CSOCK_NAME=" + d.Socket}
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
		if said, err := d.run(context.Background(), "gpgconf", "--kill", "all"); err != nil {
			t.Errorf("gpgconf: %v: %s", err, said)
		}
	})
}

// TestBesideOtherPrograms: alice logs in, again and again, while another program uses her card. Both
// have what they want, each time, and the card sees as many PINs as were typed.
func TestBesideOtherPrograms(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.command[0], p.debian)
			d := New(t, 1, Options{Product: "Yubico YubiKey CCID"})
			d.gnupg(t, "pcsc-shared")
			if err := os.WriteFile(filepath.Join(d.Dir, "digest"), make([]byte, 32), 0o600); err != nil {
				t.Fatal(err)
			}
			card := d.insertYubiKey(t)

			rounds, logins, typed := count(t, "DESK_ROUNDS", p.rounds), 0, 0
			for i := range rounds {
				n, err := d.beside(within(t), p)
				if err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
				logins += n
				typed += n + p.verifies
			}
			t.Logf("%d rounds, %d logins", rounds, logins)
			if n := card.Verifies(); n != typed {
				t.Errorf("%d PINs at the card, %d were typed", n, typed)
			}
			if pin, _ := card.Tries(); pin != 3 || card.Strays() != 0 {
				t.Errorf("%d tries are left, %d PINs went to another applet", pin, card.Strays())
			}
		})
	}
}

// beside runs the program, and logs in until it has ended, at least once.
func (d *Desk) beside(ctx context.Context, p peer) (logins int, err error) {
	type result struct {
		said string
		err  error
	}
	program := make(chan result, 1)
	go func() {
		said, err := d.run(ctx, p.command...)
		program <- result{said, err}
	}()

	for {
		if err := d.LogIn(ctx, Login{User: "alice", Cached: true}); err != nil {
			<-program
			return logins, err
		}
		logins++
		select {
		case r := <-program:
			if r.err != nil || !strings.Contains(r.said, p.says) {
				return logins, errors.Join(r.err, errors.New(p.name+" says "+r.said))
			}
			return logins, nil
		default:
		}
	}
}

// TestScdaemonKeepsTheCard: without pcsc-shared, gpg's scdaemon keeps the card to itself for as long as it
// runs. A login says so, and succeeds as soon as it lets go.
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
		if err == nil || !strings.Contains(err.Error(), "in use by another program") {
			t.Fatalf("the login that scdaemon keeps out: %v", err)
		}
		if card.Verifies() != before {
			t.Error("the PIN was sent")
		}

		if said, err := d.run(ctx, "gpgconf", "--kill", "scdaemon"); err != nil {
			t.Fatalf("gpgconf: %v: %s", err, said)
		}
		if err := d.LogIn(ctx, Login{User: "alice"}); err != nil {
			t.Fatal(err)
		}
	}
}
