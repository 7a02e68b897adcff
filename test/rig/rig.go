// Package rig has our PC/SC daemon in this process: a simulated USB reader with a card in it, the
// driver of real readers, the resource manager, and the server at a private socket.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/usbtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// ReaderName is the name of the first reader, as PC/SC has it.
const ReaderName = "Test Reader 00 00"

// product is what a rig's readers are called on their bus.
const product = "Test Reader"

// Rig is the daemon with a reader. Only the goroutine that has made it moves its card.
type Rig struct {
	Socket string
	Device *ccidtest.Device // of the reader that is plugged in

	profile ccidtest.Profile
	card    ccidtest.Card
	bus     *usbtest.Bus
	client  atomic.Int64 // process of the last one that has come
	log     journal
	stops   []func()
}

// journal is what the daemon and the driver have logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// Log returns what the daemon and the driver have logged so far.
func (r *Rig) Log() string {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.log.text.String()
}

// Start starts the daemon at a socket that is not there yet, and plugs in a reader with a card. The
// caller calls Stop.
func Start(socket string, profile ccidtest.Profile, card ccidtest.Card) (*Rig, error) {
	r := &Rig{Socket: socket, profile: profile, card: card}
	log := slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.bus = usbtest.New(log)
	manager := resmgr.New(resmgr.Options{Logger: log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, manager, r.bus)
	manager.Ready()
	r.stops = append(r.stops, func() {
		cancel()
		<-ended
		manager.Close()
	})

	r.Plug()
	if err := r.serve(manager, log); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

// serve lets clients use the manager over the socket.
func (r *Rig) serve(m *resmgr.Manager, log *slog.Logger) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.stops = append(r.stops, func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: r.Socket}); err != nil {
		return fmt.Errorf("%s: %w", r.Socket, err)
	}
	if err := unix.Listen(fd, 300); err != nil {
		return err
	}

	s := &server.Server{Manager: m, Authorizer: clients{r}, Logger: log}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ctx, fd) // it ends with ctx
	}()
	r.stops = append(r.stops, func() {
		cancel()
		<-ended
	})
	return nil
}

// clients lets every client in that the socket lets in, and notes who it is.
type clients struct{ *Rig }

func (c clients) Service(_ context.Context, p resmgr.Peer) error {
	c.Rig.client.Store(int64(p.PID))
	return nil
}

func (clients) Card(context.Context, resmgr.Peer, string) error { return nil }

// ClientPID is the process of the client that has come last.
func (r *Rig) ClientPID() int { return int(r.client.Load()) }

// Stop ends the daemon. It may be called again.
func (r *Rig) Stop() {
	for len(r.stops) > 0 {
		last := len(r.stops) - 1
		r.stops[last]()
		r.stops = r.stops[:last]
	}
}

// Plug plugs the reader in, with the card in it.
func (r *Rig) Plug() { r.Device = r.PlugAnother(r.profile, r.card) }

// PlugAnother plugs one more reader in, with a card.
func (r *Rig) PlugAnother(profile ccidtest.Profile, card ccidtest.Card) *ccidtest.Device {
	d := ccidtest.New(profile)
	d.Habits(0, 0, func(h *ccidtest.Habits) { h.Slow = true })
	d.Insert(0, 0, card)
	r.PlugDevice(d)
	return d
}

// PlugDevice plugs one more reader in, with what is in it.
func (r *Rig) PlugDevice(d *ccidtest.Device) { r.bus.Plug(product, d) }

// Unplug takes the reader away, with the card in it.
func (r *Rig) Unplug() { r.bus.Unplug(r.Device) }

// Pull takes the card out.
func (r *Rig) Pull() { r.Device.Remove(0, 0) }

// Insert puts the card back.
func (r *Rig) Insert() { r.Swap(r.card) }

// Swap puts another card into the reader.
func (r *Rig) Swap(card ccidtest.Card) { r.Device.Insert(0, 0, card) }

// Press is what is typed at the reader's keys from now on.
func (r *Rig) Press(p ccidtest.Pad) { r.Device.Habits(0, 0, func(h *ccidtest.Habits) { h.Pad = p }) }

// Client is a program at the socket. The caller releases it.
func (r *Rig) Client() (*pcsc.Context, error) { return pcsc.NewContext(pcsc.NewClient(r.Socket)) }

// Await waits until a reader is there and in a state.
func (r *Rig) Await(ctx context.Context, reader string, state pcsc.StateFlag) error {
	return await(ctx, r.Socket, func(c *pcsc.Context) bool {
		states := []pcsc.ReaderState{{Reader: reader}}
		return c.GetStatusChangeContext(ctx, states, 0) == nil && states[0].EventState&state != 0
	})
}

// cardTime bounds AwaitCard.
const cardTime = 2 * time.Minute

// AwaitCard waits until a daemon at a socket has a reader with a card.
func AwaitCard(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cardTime)
	defer cancel()
	return await(ctx, socket, func(c *pcsc.Context) bool {
		names, err := c.ListReaders()
		if err != nil {
			return false
		}
		for _, name := range names {
			states := []pcsc.ReaderState{{Reader: name}}
			if c.GetStatusChangeContext(ctx, states, 0) == nil && states[0].EventState&pcsc.StatePresent != 0 {
				return true
			}
		}
		return false
	})
}

// await asks a daemon again and again.
func await(ctx context.Context, socket string, done func(*pcsc.Context) bool) error {
	c, err := pcsc.NewContext(pcsc.NewClient(socket))
	if err != nil {
		return err
	}
	defer c.Release()
	for !done(c) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the card at %s does not come or go: %w", socket, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}
