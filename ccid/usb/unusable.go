package usb

import (
	"maps"
	"slices"
	"sync"
)

// unusable lists the readers that are there and cannot be opened now. The zero value is empty.
type unusable struct {
	mu  sync.Mutex // guards why
	why map[place]string
}

// place is an interface of a device.
type place struct {
	device string // usbDevice.key
	number byte
}

// note records why a reader cannot be opened.
func (u *unusable) note(at place, reader, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.why == nil {
		u.why = map[place]string{}
	}
	u.why[at] = reader + ": " + why
}

// forget removes a reader that was opened, or is not there any more.
func (u *unusable) forget(at place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.why, at)
}

// Unusable names the readers that are there and cannot be used now, each with the reason: "NAME: in
// use by pid 7 (pcscd)".
func (d *Driver) Unusable() []string {
	d.unusable.mu.Lock()
	defer d.unusable.mu.Unlock()
	return slices.Sorted(maps.Values(d.unusable.why))
}
