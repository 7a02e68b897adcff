// Package usbfs is a USB bus without a kernel that has one: /dev/bus/usb as a FUSE file system whose files answer the
// ioctls of usbfs, with a /sys and the events of udev beside it. libusb, and what stands on it, cannot tell it from the
// real thing: our driver, libccid, lsusb. It is served by the process that plugs simulated devices in, in namespaces of its
// own (see Enter); nothing outside of them sees any of it.
//
// What the kernel would do is written down here by drivers/usb/core/devio.c as it behaves, not as it is documented:
// interfaces are claimed by using them, a discarded URB comes back with ENOENT, a device that is gone still gives its
// finished URBs. The virtual machine of test/usb/vm runs the same tests on the real one.
package usbfs

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

// Bus is bus 001 of the namespace that Enter made. Make it with New.
type Bus struct {
	// Log gets what the kernel asked and this package did not understand; nil is silent.
	Log *slog.Logger

	fuse    int // descriptor of /dev/fuse
	events  *events
	serving sync.WaitGroup

	mu         sync.Mutex
	ports      map[int]*Port // by place
	lastNumber int
	handles    map[uint64]*handle
	lastHandle uint64
	denyNew    bool
}

// places is how many devices can be plugged in at once, at places 1 to places.
const places = 100

// New lays the bus over /dev/bus/usb. The process must be in the namespaces of Enter.
func New() (*Bus, error) {
	events, err := newEvents()
	if err != nil {
		return nil, fmt.Errorf("netlink socket for events: %w", err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("/dev/fuse (kernel option FUSE_FS): %w", err), events.close())
	}
	b := &Bus{fuse: fd, events: events, ports: make(map[int]*Port), handles: make(map[uint64]*handle), lastNumber: 1}
	options := fmt.Sprintf("fd=%d,rootmode=40755,user_id=%d,group_id=%d,allow_other", fd, unix.Getuid(), unix.Getgid())
	if err := unix.Mount("usbfs", nodes, "fuse.usbfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting on %s: %w", nodes, err), unix.Close(fd), events.close())
	}

	// One only: a node's close does not wait for its RELEASE to be answered, which is queued before close returns and so
	// is read before any later call. With two readers a CLAIM could overtake it, and find the interface still taken, which
	// the kernel's usbfs never lets happen. What may wait has a goroutine of its own (see answer).
	b.serving.Add(1)
	go b.serve()
	return b, nil
}

// Close unplugs everything and takes the file system away. Nodes that are still open keep it alive until they are
// closed; the error says so.
func (b *Bus) Close() error {
	b.mu.Lock()
	var all []*Port
	for _, p := range b.ports {
		all = append(all, p)
	}
	b.mu.Unlock()
	var errs []error
	open := 0
	for _, p := range all {
		errs = append(errs, p.Unplug())
		open += p.Open()
	}
	errs = append(errs, unix.Unmount(nodes, unix.MNT_DETACH), b.events.close())
	if open > 0 {
		errs = append(errs, fmt.Errorf("%d nodes are still open", open))
	} else {
		b.serving.Wait()
	}
	return errors.Join(append(errs, unix.Close(b.fuse))...)
}

// Plug plugs a device into the first free place.
func (b *Bus) Plug(d *device.Device) (*Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for place := 1; place <= places; place++ {
		if b.ports[place] == nil {
			return b.plug(d, place)
		}
	}
	return nil, errors.New("all places of the bus are taken")
}

// plug gives a device the next address and shows it to the world: sysfs first, as the kernel does, then the event.
func (b *Bus) plug(d *device.Device, place int) (*Port, error) {
	p := &Port{
		bus: b, place: place, device: d,
		open: make(map[*handle]bool), claimed: make(map[byte]*handle), kernel: make(map[byte]string),
	}
	p.number = b.nextNumber()
	p.denied.Store(b.denyNew)
	b.ports[place] = p
	if err := p.writeSysfs(); err != nil {
		delete(b.ports, place)
		return nil, err
	}
	b.announce("add", p.deviceEvent())
	for _, i := range d.Interfaces {
		b.announce("add", p.interfaceEvent(i.Number))
	}
	return p, nil
}

// DenyNew makes the nodes of devices that are plugged in from now on impossible to open, see Port.Deny.
func (b *Bus) DenyNew(deny bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denyNew = deny
}

// nextNumber counts addresses up as the kernel does, so that a device that comes back has another one.
func (b *Bus) nextNumber() int {
	for {
		b.lastNumber++
		if b.lastNumber > 127 {
			b.lastNumber = 2
		}
		free := true
		for _, p := range b.ports {
			free = free && p.number != b.lastNumber
		}
		if free {
			return b.lastNumber
		}
	}
}

// Unplug pulls the device out. It may be called more than once.
func (p *Port) Unplug() error {
	b := p.bus
	b.mu.Lock()
	if b.ports[p.place] != p {
		b.mu.Unlock()
		return nil
	}
	delete(b.ports, p.place)
	b.mu.Unlock()
	p.hangUp()
	err := p.removeSysfs()
	for _, i := range p.device.Interfaces {
		b.announce("remove", p.interfaceEvent(i.Number))
	}
	b.announce("remove", p.deviceEvent())
	return err
}

// Node is the path of the device's node.
func (p *Port) Node() string { return filepath.Join(nodes, busName, fmt.Sprintf("%03d", p.number)) }

// Name is the name in sysfs: "1-1".
func (p *Port) Name() string { return fmt.Sprintf("1-%d", p.place) }

func (b *Bus) complain(what string, err error) {
	if b.Log != nil {
		b.Log.Error(what, "error", err)
	}
}
