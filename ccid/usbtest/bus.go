// Package usbtest is a USB bus made of nothing, in this process: simulated readers (package
// ccidtest) are plugged in, and are driven by the driver of real ones (package ccid). The cut is at
// the USB transfers.
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

// Bus has readers plugged in. It is a driver of the resource manager (pcsc.Driver). Make it with
// New.
type Bus struct {
	log *slog.Logger

	mu      sync.Mutex
	devices []*plugged
	count   int           // of all that were ever plugged in
	changed chan struct{} // has one element when devices is to be looked at again
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

// Plug plugs a device in, whose readers PC/SC calls by name. A device that was unplugged is of no
// use any more.
func (b *Bus) Plug(name string, d *ccidtest.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	b.devices = append(b.devices, &plugged{
		id:     fmt.Sprintf("sim-%d", b.count),
		name:   name,
		device: d,
		gone:   make(chan struct{}),
	})
	b.news()
}

// Unplug takes a device away, whatever it is doing.
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

// news has Run look at the devices again; b.mu is held.
func (b *Bus) news() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// attacher takes a reader in, see pcsc.Driver.
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

// fresh lists the devices that nobody drives yet.
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

// readersOf are the interfaces of a device, which is one of readers only.
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

// drive opens a reader, attaches it and waits for its end. tried is called when it is there, or
// cannot be used.
func (r *reader) drive(ctx context.Context, attach attacher, detach func(id string), tried func()) {
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
