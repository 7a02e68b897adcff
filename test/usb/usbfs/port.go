package usbfs

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

// Port is a device in its place on the bus.
type Port struct {
	bus    *Bus
	place  int // number of the port, from 1
	number int // address of the device, new at each plugging
	device *device.Device
	gone   atomic.Bool
	denied atomic.Bool

	mu      sync.Mutex
	open    map[*handle]bool
	claimed map[byte]*handle
	kernel  map[byte]string // interfaces that a driver of the kernel holds
}

func (p *Port) isGone() bool { return p.gone.Load() }

func (p *Port) descriptors() []byte {
	if raw := p.device.Raw; raw != nil {
		return raw
	}
	return slices.Concat(p.device.Description.Device, p.device.Configuration)
}

// Deny makes the node impossible to open, as it is until udev has given it to its group, or opens it.
func (p *Port) Deny(denied bool) { p.denied.Store(denied) }

// Hold lets a driver of the kernel have an interface, as pn533_usb or usbhid would; "" takes it away.
func (p *Port) Hold(number byte, driver string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if driver == "" {
		delete(p.kernel, number)
	} else {
		p.kernel[number] = driver
	}
	return p.bus.linkDriver(p, number, driver)
}

// claim answers CLAIMINTERFACE. It is also what happens to who uses an endpoint without having asked.
func (p *Port) claim(h *handle, number byte) unix.Errno {
	if !p.device.HasInterface(number) {
		return unix.ENOENT
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.claimed[number] == h:
		return 0
	case p.claimed[number] != nil || p.kernel[number] != "":
		return unix.EBUSY
	}
	p.claimed[number] = h
	p.rebound(number, "usbfs")
	return 0
}

// rebound tells the world that an interface has another driver, or none, under the lock.
func (p *Port) rebound(number byte, driver string) {
	if err := p.bus.linkDriver(p, number, driver); err != nil {
		p.bus.complain("sysfs", err)
	}
	action := "bind"
	if driver == "" {
		action = "unbind"
	}
	if !p.isGone() {
		p.bus.announce(action, p.interfaceEvent(number))
	}
}

// release answers RELEASEINTERFACE.
func (p *Port) release(h *handle, number byte) unix.Errno {
	p.mu.Lock()
	if p.claimed[number] != h {
		p.mu.Unlock()
		return unix.EINVAL
	}
	delete(p.claimed, number)
	p.rebound(number, "")
	p.mu.Unlock()
	h.cancelAll(func(u *urb) bool { return u.bound && u.number == number })
	return 0
}

// forget gives up what a handle held.
func (p *Port) forget(h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, h)
	for number, holder := range p.claimed {
		if holder == h {
			delete(p.claimed, number)
			p.rebound(number, "")
		}
	}
}

// disconnect takes an interface from the kernel's driver. It reports whether there was one.
func (p *Port) disconnect(number byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kernel[number] == "" {
		return false
	}
	delete(p.kernel, number)
	p.rebound(number, "")
	return true
}

// driver names who has an interface, "" for nobody.
func (p *Port) driver(number byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimed[number] != nil {
		return "usbfs"
	}
	return p.kernel[number]
}

// holdsAll tells whether nobody but h has claimed anything.
func (p *Port) holdsAll(h *handle) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, holder := range p.claimed {
		if holder != h {
			return false
		}
	}
	return len(p.kernel) == 0
}

// Reset resets the port as the kernel does on USBDEVFS_RESET: usbfs has no notion of surviving one, so that every
// claim is lost and every URB ends; nobody is told.
func (p *Port) Reset() error {
	p.mu.Lock()
	for number := range p.claimed {
		delete(p.claimed, number)
		p.rebound(number, "")
	}
	p.mu.Unlock()
	p.device.PortReset()
	return nil
}

// Open counts the nodes of this device that processes hold open.
func (p *Port) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// hangUp ends what goes on at a device that is gone.
func (p *Port) hangUp() {
	p.gone.Store(true)
	p.device.Detach()
	p.mu.Lock()
	all := make([]*handle, 0, len(p.open))
	for h := range p.open {
		all = append(all, h)
	}
	p.mu.Unlock()
	for _, h := range all {
		h.hangUp()
	}
}
