package pcsctest

import (
	"context"
	"sync"
)

// Reader is a reader as a Driver reports it.
type Reader struct {
	ID, Product, Interface, Serial string
	Slots                          []*Slot
}

// Driver reports the readers that the test gives it.
type Driver struct {
	mu      sync.Mutex // guards the fields up to detach
	first   []Reader
	rescans int
	attach  func(id, product, iface, serial string, slots []*Slot)
	detach  func(id string)
	running chan struct{}
}

// NewDriver makes a driver with some readers to begin with.
func NewDriver(readers ...Reader) *Driver {
	return &Driver{first: readers, running: make(chan struct{})}
}

// Run implements pcsc.Driver.
func (d *Driver) Run(
	ctx context.Context, attach func(id, product, iface, serial string, slots []*Slot),
	detach func(id string), settled func(),
) error {
	d.mu.Lock()
	d.attach = attach
	d.detach = detach
	for _, r := range d.first {
		attach(r.ID, r.Product, r.Interface, r.Serial, r.Slots)
	}
	d.mu.Unlock()

	settled()
	// Add and Remove wait for this: from here on attach and detach are set.
	close(d.running)
	<-ctx.Done()
	return ctx.Err()
}

// Add plugs a reader in while the driver runs.
func (d *Driver) Add(r Reader) {
	<-d.running
	d.attach(r.ID, r.Product, r.Interface, r.Serial, r.Slots)
}

// Remove pulls a reader out.
func (d *Driver) Remove(id string) {
	<-d.running
	d.detach(id)
}

// Rescan counts.
func (d *Driver) Rescan() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rescans++
}

// Rescans is how often Rescan was called.
func (d *Driver) Rescans() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rescans
}
