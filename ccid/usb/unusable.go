package usb

import (
	"maps"
	"slices"
	"sync"
)

// unusable are the readers that are there and cannot be opened now. The zero value has none.
type unusable struct {
	mu  sync.Mutex
	why map[place]string
}

// place is an interface of a device.
type place struct {
	device string // usbDevice.key
	number byte
}

// note says of a reader why it cannot be opened.
func (u *unusable) note(at place, reader, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.why == nil {
		u.why = map[place]string{}
	}
	u.why[at] = reader + ": " + why
}

// forget is for a reader that was opened, or is not there any more.
func (u *unusable) forget(at place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.why, at)
}

// Unusable names the readers that are there and cannot be used now, each with the reason: "NAME: in use by pid 7 (pcscd)".
func (d *Driver) Unusable() []string {
	d.unusable.mu.Lock()
	defer d.unusable.mu.Unlock()
	return slices.Sorted(maps.Values(d.unusable.why))
}
