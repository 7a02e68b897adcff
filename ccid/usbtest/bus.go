// Package usbtest is a simulated USB bus in this process: simulated readers (package ccidtest) are
// plugged in, and the driver of real readers (package ccid) drives them. USB transfers are what is
// simulated.
package usbtest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// Bus has readers plugged in. It implements pcsc.Driver. Make it with New.
type Bus struct {
	log *slog.Logger

	changed chan struct{} // holds one element when Run has to look at devices

	mu      sync.Mutex // guards the fields below
	devices []*plugged
	count   int // of all devices that were ever plugged in
}

// plugged is a device on the bus.
type plugged struct {
	id, name string
	device   *ccidtest.Device
	driven   bool
	gone     chan struct{} // closed by Unplug
}

// New makes a bus without devices. log may be nil.
func New(log *slog.Logger) *Bus {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Bus{log: log, changed: make(chan struct{}, 1)}
}

// Plug plugs a device in, whose readers have the given name in PC/SC. A device that was unplugged
// cannot be plugged in again.
func (b *Bus) Plug(name string, d *ccidtest.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()

	// Counted, not numbered by place: an id must not come back while its reader is being detached.
	b.count++
	b.devices = append(b.devices, &plugged{
		id:     fmt.Sprintf("sim-%d", b.count),
		name:   name,
		device: d,
		gone:   make(chan struct{}),
	})
	b.news()
}

// Unplug removes a device, whatever it is doing.
func (b *Bus) Unplug(d *ccidtest.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for i, p := range b.devices {
		if p.device == d {
			d.Unplug()
			close(p.gone)
			b.devices = append(b.devices[:i:i], b.devices[i+1:]...)
			return
		}
	}
}

// news makes Run look at the devices again. The caller holds b.mu.
func (b *Bus) news() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// attacher takes a reader, see pcsc.Driver.
type attacher = func(id, product, iface, serial string, slots []*ccid.Slot)

// Run reports readers until ctx ends.
func (b *Bus) Run(
	ctx context.Context, attach attacher, detach func(id string), settled func(),
) error {
	var work sync.WaitGroup
	defer work.Wait()

	for first := true; ; first = false {
		var tried sync.WaitGroup
		for _, p := range b.fresh() {
			interfaces, err := readersOf(p.device)
			if err != nil {
				b.log.Error("a simulated device cannot be used", "device", p.id, "err", err)
				continue
			}

			for i := range interfaces {
				tried.Add(1)
				work.Go(func() {
					r := reader{plugged: p, in: &interfaces[i], log: b.log}
					r.drive(ctx, attach, detach, sync.OnceFunc(tried.Done))
				})
			}
		}

		// With the readers that were there at the start, as the driver of real ones does.
		if first {
			tried.Wait()
			settled()
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.changed:
		}
	}
}

// fresh lists the devices that are not driven yet, and marks them as driven.
func (b *Bus) fresh() []*plugged {
	b.mu.Lock()
	defer b.mu.Unlock()

	var all []*plugged
	for _, p := range b.devices {
		if !p.driven {
			p.driven = true
			all = append(all, p)
		}
	}
	return all
}

// readersOf lists the interfaces of a device; all of them are readers.
func readersOf(d *ccidtest.Device) ([]device.Interface, error) {
	all, err := device.ParseConfigurations(d.Configuration())
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no configuration")
	}
	return all[0].Interfaces, nil
}

// reader is one interface that is driven.
type reader struct {
	*plugged
	in  *device.Interface
	log *slog.Logger
}

// drive opens a reader, attaches it and waits for its end. It calls tried when the reader is there,
// or cannot be used.
func (r *reader) drive(
	ctx context.Context, attach attacher, detach func(id string), tried func(),
) {
	defer tried()

	id := fmt.Sprintf("%s.%d", r.id, r.in.Number)
	info := r.device.Info()
	transport := r.device.Transport(r.in.Number)
	opened, err := ccid.Open(ctx, transport, info, r.in, plan.Options{}, r.log.With("usb", id))
	if err != nil {
		r.log.Error("a simulated reader cannot be used", "reader", r.name, "err", err)
		return
	}

	attach(id, r.name, info.Interface, info.Serial, opened.Slots())
	tried()

	select {
	case <-ctx.Done():
	case <-r.gone:
		opened.Gone()
	}

	detach(id)
	if err := opened.Close(); err != nil {
		r.log.Debug("closing a simulated reader", "reader", r.name, "err", err)
	}
}
