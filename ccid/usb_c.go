//go:build cgo

package ccid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/google/gousb"
)

// usb opens devices with libusb through gousb, and is all that knows of it. gousb polls ten times a second while it has
// a context, so there is one context, opened with the first device and closed with the last.
//
// A context knows the devices that were there when it was made, and those that udevd told it of since: a device that has
// just come may be missing, and without udevd all later ones are. Such a device gets a context of its own, which those
// that come after it share.
type usb struct {
	mu      sync.Mutex
	current *usbContext // nil: there is none
}

// usbContext is a context and the number of its users, guarded by usb.mu.
type usbContext struct {
	*gousb.Context
	users int
}

func newUSB() opener { return &usb{} }

// errUnlisted: a context does not know the device.
var errUnlisted = fmt.Errorf("%w: libusb does not know the device", ErrGone)

// acquire gives the context, or a fresh one.
func (u *usb) acquire(fresh bool) (c *usbContext, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current != nil && !fresh {
		u.current.users++
		return u.current, nil
	}
	defer func() { // NewContext panics when libusb cannot be started
		if problem := recover(); problem != nil {
			c, err = nil, fmt.Errorf("starting libusb: %v", problem)
		}
	}()
	c = &usbContext{Context: gousb.NewContext(), users: 1}
	if u.current == nil {
		u.current = c
	}
	return c, nil
}

// prefer makes a context the one for all new devices.
func (u *usb) prefer(c *usbContext) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = c
}

// release gives a context back. All devices of who gives it back are closed by then.
func (u *usb) release(c *usbContext) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.users--; c.users > 0 {
		return nil
	}
	if u.current == c {
		u.current = nil
	}
	return c.Close()
}

// open opens an interface of a device, with a handle of its own: so interfaces of one device know nothing of each other.
func (u *usb) open(d *usbDevice, in *Interface) (Transport, error) {
	t, err := u.openWith(d, in, false)
	if errors.Is(err, errUnlisted) {
		t, err = u.openWith(d, in, true)
	}
	return t, err
}

func (u *usb) openWith(d *usbDevice, in *Interface, fresh bool) (Transport, error) {
	ctx, err := u.acquire(fresh)
	if err != nil {
		return nil, err
	}
	dev, err := openDevice(ctx.Context, d.info.Bus, d.info.Address)
	if err != nil {
		return nil, errors.Join(err, u.release(ctx))
	}
	u.prefer(ctx)
	t := &usbTransport{usb: u, ctx: ctx, dev: dev, in: *in, configuration: int(d.info.Configuration)}
	t.revive()
	if err := t.claim(false); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// openDevice opens the device with an address. gousb indexes into empty lists of settings when descriptors are odd.
func openDevice(ctx *gousb.Context, bus, address int) (dev *gousb.Device, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			dev, err = nil, fmt.Errorf("reading the descriptors: %v", problem)
		}
	}()
	devices, err := ctx.OpenDevices(func(desc *gousb.DeviceDesc) bool { return desc.Bus == bus && desc.Address == address })
	for _, other := range devices[min(1, len(devices)):] {
		other.Close()
	}
	switch {
	case len(devices) > 0: // the error is of another device
		return devices[0], nil
	case err != nil:
		return nil, usbError(err)
	}
	return nil, errUnlisted
}

// usbTransport is a Transport over an interface of a USB device.
type usbTransport struct {
	usb           *usb
	ctx           *usbContext
	dev           *gousb.Device
	in            Interface
	configuration int

	control sync.Mutex // gousb has one timeout for all control transfers of a handle

	mu     sync.RWMutex // read: a transfer runs; write: the interface is being given back or taken
	cfg    *gousb.Config
	intf   *gousb.Interface
	out    *gousb.OutEndpoint
	bulkIn *gousb.InEndpoint
	inter  *gousb.InEndpoint
	life   context.Context // ends all transfers before the interface is given back
	closed bool

	ending sync.Mutex // guards end
	end    context.CancelFunc
}

// stopTransfers ends all transfers that run.
func (t *usbTransport) stopTransfers() {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.end()
}

// revive allows transfers again; t.mu is held.
func (t *usbTransport) revive() {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.life, t.end = context.WithCancel(context.Background())
}

// claim takes the interface; t.mu is held, or t is not yet known to anybody. afresh makes the device and the kernel
// forget halts and toggles, by selecting the setting anew.
func (t *usbTransport) claim(afresh bool) error {
	cfg, err := t.dev.Config(t.configuration)
	if err != nil {
		return usbError(err)
	}
	t.cfg = cfg
	cfg.Desc.Interfaces = byNumber(cfg.Desc.Interfaces, int(t.in.Number), afresh)
	if t.intf, err = cfg.Interface(int(t.in.Number), int(t.in.Alternate)); err != nil {
		return usbError(err)
	}
	endpoint := func(e Endpoint) (*gousb.InEndpoint, error) {
		if e.Address == 0 {
			return nil, nil
		}
		return t.intf.InEndpoint(int(e.Address & 0x0F))
	}
	if t.in.BulkOut.Address != 0 {
		if t.out, err = t.intf.OutEndpoint(int(t.in.BulkOut.Address)); err != nil {
			return err
		}
	}
	if t.bulkIn, err = endpoint(t.in.BulkIn); err != nil {
		return err
	}
	t.inter, err = endpoint(t.in.Interrupt)
	return err
}

// byNumber is a list of interfaces in which the index is the number: gousb 1.1.3 finds an interface by its number but
// looks at its settings by the index, and panics when there are gaps. afresh adds a setting that does not exist to one
// interface: only of an interface with several does gousb select one.
func byNumber(list []gousb.InterfaceDesc, number int, afresh bool) []gousb.InterfaceDesc {
	var all []gousb.InterfaceDesc
	for _, in := range list {
		if in.Number < 0 || in.Number > 0xFF {
			continue
		}
		for len(all) <= in.Number {
			all = append(all, gousb.InterfaceDesc{Number: -1})
		}
		if afresh && in.Number == number {
			in.AltSettings = append(append([]gousb.InterfaceSetting(nil), in.AltSettings...), gousb.InterfaceSetting{Number: number, Alternate: -1})
		}
		all[in.Number] = in
	}
	return all
}

// give gives the interface back; t.mu is held.
func (t *usbTransport) give() error {
	if t.intf != nil {
		t.intf.Close()
	}
	t.intf, t.out, t.bulkIn, t.inter = nil, nil, nil, nil
	if t.cfg == nil {
		return nil
	}
	err := t.cfg.Close()
	t.cfg = nil
	return err
}

// begin is called around a transfer. ctx and the life of the interface end it.
func (t *usbTransport) begin(ctx context.Context) (context.Context, func(), error) {
	t.mu.RLock()
	switch {
	case t.closed:
		t.mu.RUnlock()
		return nil, nil, ErrClosed
	case t.intf == nil:
		t.mu.RUnlock()
		return nil, nil, errors.New("the interface could not be taken again")
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.life, cancel)
	return ctx, func() { stop(); cancel(); t.mu.RUnlock() }, nil
}

// result gives the error of a transfer its meaning. outer is the caller's ctx.
func (t *usbTransport) result(outer context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case outer.Err() != nil:
		return outer.Err()
	case t.life.Err() != nil && t.closed:
		return ErrClosed
	}
	return usbError(err)
}

// BulkOut sends one transfer.
func (t *usbTransport) BulkOut(outer context.Context, message []byte) error {
	ctx, end, err := t.begin(outer)
	if err != nil {
		return err
	}
	defer end()
	if t.out == nil {
		return errors.ErrUnsupported
	}
	n, err := t.out.WriteContext(ctx, message)
	if err == nil && n != len(message) {
		return fmt.Errorf("%d of %d bytes were sent", n, len(message))
	}
	return t.result(outer, err)
}

// BulkIn receives one transfer.
func (t *usbTransport) BulkIn(outer context.Context, p []byte) (int, error) {
	ctx, end, err := t.begin(outer)
	if err != nil {
		return 0, err
	}
	defer end()
	if t.bulkIn == nil {
		return 0, errors.ErrUnsupported
	}
	n, err := t.bulkIn.ReadContext(ctx, p)
	return n, t.result(outer, err)
}

// Interrupt receives one notification, also over a time in which the interface was given back and taken again.
func (t *usbTransport) Interrupt(outer context.Context, p []byte) (int, error) {
	for {
		ctx, end, err := t.begin(outer)
		if err != nil {
			return 0, err
		}
		if t.inter == nil {
			end()
			return 0, errors.ErrUnsupported
		}
		n, err := t.inter.ReadContext(ctx, p)
		again := err != nil && outer.Err() == nil && t.life.Err() != nil
		err = t.result(outer, err)
		end()
		if !again {
			return n, err
		}
	}
}

// longestControl bounds a control transfer when ctx does not.
const longestControl = 5 * time.Second

// Control performs a request on endpoint 0. It cannot be broken off: ctx gives it its time.
func (t *usbTransport) Control(outer context.Context, s Setup, data []byte) (int, error) {
	_, end, err := t.begin(outer)
	if err != nil {
		return 0, err
	}
	defer end()
	t.control.Lock()
	defer t.control.Unlock()
	if outer.Err() != nil {
		return 0, outer.Err()
	}
	t.dev.ControlTimeout = longestControl
	if deadline, ok := outer.Deadline(); ok {
		t.dev.ControlTimeout = min(max(time.Until(deadline), time.Millisecond), longestControl)
	}
	n, err := t.dev.Control(s.RequestType, s.Request, s.Value, s.Index, data)
	return n, t.result(outer, err)
}

// exclusively ends all transfers and calls do with the interface given back.
func (t *usbTransport) exclusively(do func() error) error {
	t.stopTransfers()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if err := t.give(); err != nil {
		return err
	}
	t.revive()
	return do()
}

// Reclaim gives the interface back and takes it again.
func (t *usbTransport) Reclaim(context.Context) error {
	return t.exclusively(func() error { return t.claim(true) })
}

// Reset resets the device.
func (t *usbTransport) Reset(context.Context) error {
	return t.exclusively(func() error {
		if err := t.dev.Reset(); err != nil {
			return usbError(err)
		}
		return t.claim(false)
	})
}

// Close gives everything back.
func (t *usbTransport) Close() error {
	t.stopTransfers()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	return errors.Join(t.give(), t.dev.Close(), t.usb.release(t.ctx))
}

// usbError gives libusb's errors the meaning that this package acts on. gousb passes some on as text only.
func usbError(err error) error {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) || strings.Contains(err.Error(), target.Error()) {
				return true
			}
		}
		return false
	}
	switch {
	case is(gousb.ErrorNoDevice, gousb.TransferNoDevice):
		return ErrGone
	case is(gousb.ErrorPipe, gousb.TransferStall):
		return ErrStall
	case is(gousb.ErrorOverflow, gousb.TransferOverflow):
		return ErrOverflow
	case is(gousb.ErrorTimeout, gousb.TransferTimedOut):
		return context.DeadlineExceeded
	case is(gousb.ErrorBusy):
		return fmt.Errorf("%w (%w)", errBusy, err)
	case is(gousb.ErrorAccess):
		return fmt.Errorf("%w (%w)", fs.ErrPermission, err)
	}
	return err
}
