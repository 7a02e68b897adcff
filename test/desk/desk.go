// Package desk is a machine's readers and the logins at them, in one process: our daemon at a
// socket of its own over simulated readers, and package login with the built-in card over that
// socket. What it leaves out is libpam, the worker and USB; so a login takes milliseconds, and
// thousands can be had.
package desk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// PIN is that of all cards.
const PIN = "123456"

// Desk is the readers of a machine. Its logins may run at the same time.
type Desk struct {
	Dir     string // for files of the test; its path is short, as paths of sockets are
	Socket  string // of the daemon
	CA      *testca.CA
	Readers []Reader

	manager *resmgr.Manager
	log     buffer // the daemon's
}

// Reader is one simulated reader.
type Reader struct {
	Name string // as PC/SC has it
	*pcsctest.Slot
}

// Options say how the daemon is started.
type Options struct {
	Flags   []string // more of its command line
	Product string   // the beginning of the readers' names; "Desk Reader"
}

// buffer is what is written while a test may want to read it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// New starts the daemon with so many readers, without cards. It ends with the test.
func New(t testing.TB, readers int, o Options) *Desk {
	t.Helper()
	dir, err := os.MkdirTemp("", "desk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Desk{Dir: dir, Socket: filepath.Join(dir, "s"), CA: testca.NewRoot("Example CA")}
	if err := d.furnish(); err != nil {
		t.Fatal(err)
	}

	var hardware []pcsctest.Reader
	for i := range readers {
		slot := pcsctest.NewSlot(true)
		slot.Attributes[uint32(pcsc.AttrVendorName)] = []byte("Simulation\x00")
		product := cmp.Or(o.Product, "Desk Reader") + fmt.Sprintf(" %02d", i)
		hardware = append(hardware, pcsctest.Reader{
			ID: fmt.Sprint(i), Product: product, Slots: []*pcsctest.Slot{slot},
		})
		name := fmt.Sprintf("%s %02d 00", product, i)
		d.Readers = append(d.Readers, Reader{Name: name, Slot: slot})
	}
	d.start(t, hardware, o)
	return d
}

// furnish writes the authority's certificate and the configuration.
func (d *Desk) furnish() error {
	for _, dir := range []string{"cacerts", "cache"} {
		if err := os.Mkdir(filepath.Join(d.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(d.Dir, "cacerts", "ca.pem"), d.CA.PEM(), 0o644)
}

// start runs the daemon until the test ends.
func (d *Desk) start(t testing.TB, hardware []pcsctest.Reader, o Options) {
	t.Helper()
	plug := func(
		ctx context.Context, m *resmgr.Manager, _ string, _ *slog.Logger,
	) (<-chan error, error) {
		d.manager = m
		return resmgr.Plug(ctx, m, pcsctest.NewDriver(hardware...)), nil
	}
	ready := make(chan struct{})
	args := append([]string{"--foreground", "--disable-polkit", "--socket", d.Socket}, o.Flags...)
	p := &daemon.Program{
		Name:    "pcscd",
		Args:    args,
		Env:     func(string) string { return "" },
		Stdout:  &d.log,
		Stderr:  &d.log,
		Default: "sim",
		Ready:   func() { close(ready) },
		Readers: []daemon.Readers{{Name: "sim", Usage: "sim", Plug: plug}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-ready:
	case <-ended:
		cancel()
		t.Fatalf("the daemon ended at once: %s", d.log.String())
	}

	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 || t.Failed() {
			t.Logf("the daemon ended with %d:\n%s", code, d.log.String())
		}
	})
}

// Manager is the daemon's, for what it says of itself.
func (d *Desk) Manager() *resmgr.Manager { return d.manager }

// NewCard makes a card whose key 9A has a certificate for a user.
func (d *Desk) NewCard(o simcard.Options, user string, key *testca.Key) (*simcard.Card, error) {
	card, err := simcard.New(o)
	if err != nil {
		return nil, err
	}
	cert := d.CA.Leaf(user, testca.WithKey(key))
	return card, card.SetKey(simcard.KeyAuthentication, key.Private, cert.DER)
}

// AwaitCard waits until the daemon shows a card in a reader, or none.
func (d *Desk) AwaitCard(ctx context.Context, r Reader, present bool) error {
	c, err := pcsc.NewContext(pcsc.NewClient(d.Socket))
	if err != nil {
		return err
	}
	defer c.Release()

	states := []pcsc.ReaderState{{Reader: r.Name}}
	for ctx.Err() == nil {
		err := c.GetStatusChangeContext(ctx, states, time.Minute)
		if err != nil && !errors.Is(err, pcsc.ErrTimeout) {
			return err
		}
		// Its ATR comes with power, or the word that it is mute.
		state := states[0].EventState
		there := state&pcsc.StatePresent != 0
		if there == present && (!there || len(states[0].ATR) > 0) {
			return nil
		}
		states[0].CurrentState = state &^ pcsc.StateChanged
	}
	return ctx.Err()
}
