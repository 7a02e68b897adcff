// Package clients runs the PC/SC programs of Debian, unchanged, against our daemon and against Debian's pcscd, both with
// the same PIV card, and compares what they print.
package clients

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

const pin = "123456"

// readerName is what vsmartcard's virtual reader is called; it has two slots.
const readerName = "Virtual PCD"

// patience is how long a program may take on a loaded machine.
const patience = 2 * time.Minute

// world is one daemon with a card in the first slot of its reader, and a directory for the programs.
type world struct {
	name, dir, socket string
}

// identity is what makes two cards the same.
type identity struct {
	keys  map[simcard.KeyRef]crypto.Signer
	certs map[simcard.KeyRef][]byte
}

func newIdentity(t *testing.T) *identity {
	t.Helper()
	id := &identity{keys: map[simcard.KeyRef]crypto.Signer{}, certs: map[simcard.KeyRef][]byte{}}
	for i, ref := range []simcard.KeyRef{simcard.KeyAuthentication, simcard.KeySignature, simcard.KeyManagement, simcard.KeyCardAuth} {
		key := testca.RSA(2048, fmt.Sprintf("alice-%02X", byte(ref))).Private
		usage := x509.KeyUsageDigitalSignature
		if ref == simcard.KeyManagement {
			usage = x509.KeyUsageKeyEncipherment
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprintf("Alice %02X", byte(ref))},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: usage}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		id.keys[ref], id.certs[ref] = key, cert
	}
	return id
}

// card makes a fresh card: no PIN tries spent.
func (id *identity) card(t *testing.T) *simcard.Card {
	t.Helper()
	card, err := simcard.New(simcard.Options{PIN: pin, GUID: [16]byte{0x0F, 1, 2, 3, 4, 5, 0x46, 7, 0x88, 9, 10, 11, 12, 13, 14, 15}})
	if err != nil {
		t.Fatal(err)
	}
	for ref, key := range id.keys {
		if err := card.SetKey(ref, key, id.certs[ref]); err != nil {
			t.Fatal(err)
		}
	}
	return card
}

func newWorld(t *testing.T, name string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "pcsc-"+name+"-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &world{name: name, dir: dir}
}

// ours is our daemon with simulated readers.
func ours(t *testing.T, id *identity) *world {
	t.Helper()
	w := newWorld(t, "ours")
	w.socket = filepath.Join(w.dir, "comm")
	slots := []*pcsctest.Slot{pcsctest.NewSlot(true), pcsctest.NewSlot(true)}
	for _, s := range slots {
		s.Codes = map[uint32][]byte{pcsc.CtlCode(3400): {}}
		s.Attributes[uint32(pcsc.AttrVendorName)] = []byte("Simulation\x00")
	}
	slots[0].Insert(id.card(t))
	ready := make(chan struct{})
	var log bytes.Buffer
	p := &daemon.Program{
		Name: "pcscd", Args: []string{"--foreground", "--socket", w.socket, "-i"}, Env: func(string) string { return "" },
		Stdout: &log, Stderr: &log, Default: "sim", Ready: func() { close(ready) },
		Readers: []daemon.Readers{{Name: "sim", Usage: "sim", Plug: func(ctx context.Context, m *resmgr.Manager, _ string, _ *slog.Logger) (<-chan error, error) {
			return resmgr.Plug(ctx, m, pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: readerName, Slots: slots})), nil
		}}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("the daemon ended at once: %s", log.String())
	}
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 || t.Failed() {
			t.Logf("our daemon: exit code %d\n%s", code, log.String())
		}
	})
	return w
}

// stock is Debian's pcscd with vsmartcard's virtual reader.
func stock(t *testing.T, id *identity) *world {
	t.Helper()
	w := newWorld(t, "stock")
	port := freePorts(t)
	config, err := pcsctest.WriteVPCDConfig(w.dir, readerName, port)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d, err := pcsctest.StartStock(w.dir, config, &log)
	if err != nil {
		t.Fatal(err)
	}
	w.socket = d.Socket
	card, err := pcsctest.InsertVPCD(port, id.card(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		card.Remove()
		d.Stop()
		if t.Failed() {
			t.Logf("Debian's pcscd:\n%s", log.String())
		}
	})
	w.awaitCard(t)
	return w
}

// freePorts finds two neighbours, as the two slots need; that they are free until the daemon takes them is likely only.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		l.Close()
		if err == nil {
			next.Close()
			return port
		}
	}
	t.Fatal("no two free ports beside each other")
	return 0
}

func (w *world) awaitCard(t *testing.T) {
	t.Helper()
	c, err := pcsc.NewContext(pcsc.NewClient(w.socket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	states := []pcsc.ReaderState{{Reader: readerName + " 00 00"}}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		if err := c.GetStatusChange(states, time.Until(until)); err != nil {
			t.Fatal(err)
		}
		if states[0].EventState&pcsc.StatePresent != 0 {
			return
		}
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
	}
	t.Fatal("the daemon sees no card")
}

// environment is what a client of the daemon needs, and nothing of the caller's.
func (w *world) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "GNUPGHOME=" + w.dir, "LC_ALL=C", "LANG=C",
		"PCSCLITE_CSOCK_NAME=" + w.socket, "PIV_EXT_AUTH_KEY=" + filepath.Join(w.dir, "admin"),
		"XDG_CACHE_HOME=" + w.dir}
}

// run runs one program and gives what it printed and its exit code.
func (w *world) run(t *testing.T, p program) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env, cmd.Dir = w.environment(), w.dir
	cmd.Stdin = strings.NewReader(p.stdin)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		t.Fatalf("%s is missing: install the Debian package %s", p.args[0], p.deb)
	case err != nil:
		t.Fatalf("%s: %v", p.args[0], err)
	}
	return fmt.Sprintf("%s\n[exit code %d]\n", out, code)
}

// write puts a file where the programs work.
func (w *world) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}
