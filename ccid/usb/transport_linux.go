package usb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"pam_pkcs11/ccid/device"
)

// usb opens readers through usbfs, each by its own node: whatever other devices there are, and whatever their
// descriptors say, nobody reads them here.
type usb struct {
	dev string // "/dev/bus/usb"
}

func newUSB() opener { return usb{dev: usbNodes} }

// open opens an interface of a device, with a handle of its own: so interfaces of one device know nothing of each other.
func (u usb) open(d *usbDevice, in *device.Interface, gone func()) (device.Transport, error) {
	handle, err := openUSBFS(filepath.Join(u.dev, fmt.Sprintf("%03d/%03d", d.info.Bus, d.info.Address)))
	if err != nil {
		return nil, err
	}
	t := &usbTransport{node: handle, in: *in, gone: gone}
	t.revive()

	if err := t.configure(d.info.Configuration, d.active); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := t.claim(false); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// usbTransport is a Transport over an interface of a USB device.
type usbTransport struct {
	node *usbfs
	in   device.Interface
	gone func() // called when a transfer finds that the device is not there any more

	mu      sync.RWMutex    // read: a transfer runs; write: the interface is being given back or taken
	claimed bool            // the interface is ours
	life    context.Context // ends all transfers before the interface is given back
	closed  bool

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

// getConfiguration is GET_CONFIGURATION (USB 2.0, section 9.4.2).
const getConfiguration = 0x08

// configure selects the configuration that has the reader, unless it is selected. active is what the kernel says of it,
// activeUnknown when it does not: then the device is asked.
func (t *usbTransport) configure(wanted byte, active int) error {
	if active == activeUnknown {
		ctx, cancel := context.WithTimeout(context.Background(), longestControl)
		defer cancel()
		answer := make([]byte, 1)
		n, err := t.request(ctx, device.Setup{RequestType: 0x80, Request: getConfiguration}, answer)
		if err != nil {
			return err
		}
		active = int(answer[0]) * n
	}
	if active == int(wanted) {
		return nil
	}
	return usbError(t.node.configure(wanted))
}

// claim takes the interface; t.mu is held, or t is not yet known to anybody. afresh makes the device and the kernel
// forget halts and toggles, by selecting the setting anew.
func (t *usbTransport) claim(afresh bool) error {
	if err := t.node.claim(t.in.Number); err != nil {
		return usbError(err)
	}
	t.claimed = true
	if !afresh && !t.in.HasSettings {
		return nil
	}
	return usbError(t.node.setInterface(t.in.Number, t.in.Alternate))
}

// give gives the interface back; t.mu is held.
func (t *usbTransport) give() error {
	if !t.claimed {
		return nil
	}
	t.claimed = false
	err := usbError(t.node.release(t.in.Number))
	if device.IsGone(err) {
		return nil
	}
	return err
}

// begin is called around a transfer. ctx and the life of the interface end it.
func (t *usbTransport) begin(ctx context.Context) (context.Context, func(), error) {
	t.mu.RLock()
	switch {
	case t.closed:
		t.mu.RUnlock()
		return nil, nil, device.ErrClosed
	case !t.claimed:
		t.mu.RUnlock()
		return nil, nil, errors.New("the interface could not be taken again")
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		t.mu.RUnlock()
	}, nil
}

// bulk moves one transfer in parts that the kernel takes, up to a short one.
func (t *usbTransport) bulk(outer context.Context, endpoint byte, data []byte) (int, error) {
	if endpoint&0x0F == 0 {
		return 0, errors.ErrUnsupported
	}
	ctx, end, err := t.begin(outer)
	if err != nil {
		return 0, err
	}
	defer end()

	moved := 0
	for {
		part := data[moved:min(len(data), moved+mostBytes)]
		n, err := t.node.transfer(ctx, urbBulk, endpoint, part)
		moved += n
		if err != nil || n < len(part) || moved == len(data) {
			return moved, t.result(outer, err)
		}
	}
}

// result gives the error of a transfer its meaning. outer is the caller's ctx.
func (t *usbTransport) result(outer context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case outer.Err() != nil:
		return outer.Err()
	case t.life.Err() != nil && t.closed:
		return device.ErrClosed
	}
	return t.noticed(err)
}

// noticed calls gone when err says that the device is not there any more, and returns err.
func (t *usbTransport) noticed(err error) error {
	if errors.Is(err, device.ErrGone) {
		t.gone()
	}
	return err
}

// BulkOut sends one transfer.
func (t *usbTransport) BulkOut(ctx context.Context, message []byte) error {
	n, err := t.bulk(ctx, t.in.BulkOut.Address, message)
	if err == nil && n != len(message) {
		return fmt.Errorf("%d of %d bytes were sent", n, len(message))
	}
	return err
}

// BulkIn receives one transfer.
func (t *usbTransport) BulkIn(ctx context.Context, p []byte) (int, error) {
	return t.bulk(ctx, t.in.BulkIn.Address, p)
}

// Interrupt receives one notification, also over a time in which the interface was given back and taken again.
func (t *usbTransport) Interrupt(outer context.Context, p []byte) (int, error) {
	if t.in.Interrupt.Address == 0 {
		return 0, errors.ErrUnsupported
	}
	for {
		ctx, end, err := t.begin(outer)
		if err != nil {
			return 0, err
		}
		n, err := t.node.transfer(ctx, urbInterrupt, t.in.Interrupt.Address, p)
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

// Control performs a request on endpoint 0.
func (t *usbTransport) Control(outer context.Context, s device.Setup, data []byte) (int, error) {
	ctx, end, err := t.begin(outer)
	if err != nil {
		return 0, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, longestControl)
	defer cancel()
	n, err := t.request(ctx, s, data)
	return n, t.result(outer, err)
}

// setupLength is the length of a setup packet (USB 2.0, table 9-2), which the kernel wants before the data.
const setupLength = 8

// request performs a request on endpoint 0.
func (t *usbTransport) request(ctx context.Context, s device.Setup, data []byte) (int, error) {
	le := binary.LittleEndian
	buffer := make([]byte, 0, setupLength+len(data))
	buffer = append(buffer, s.RequestType, s.Request)
	buffer = le.AppendUint16(buffer, s.Value)
	buffer = le.AppendUint16(buffer, s.Index)
	buffer = le.AppendUint16(buffer, uint16(len(data)))
	buffer = append(buffer, data...)
	defer clear(buffer) // may have held a PIN

	n, err := t.node.transfer(ctx, urbControl, 0, buffer)
	if s.In() {
		n = copy(data, buffer[setupLength:setupLength+min(n, len(data))])
	}
	return n, err
}

// exclusively ends all transfers and calls do with the interface given back.
func (t *usbTransport) exclusively(do func() error) error {
	t.stopTransfers()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return device.ErrClosed
	}
	if err := t.give(); err != nil {
		return t.noticed(err)
	}
	t.revive()
	return t.noticed(do())
}

// Reclaim gives the interface back and takes it again.
func (t *usbTransport) Reclaim(context.Context) error {
	return t.exclusively(func() error { return t.claim(true) })
}

// Reset resets the device.
func (t *usbTransport) Reset(context.Context) error {
	return t.exclusively(func() error {
		if err := t.node.reset(); err != nil {
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
	return errors.Join(t.give(), t.node.close())
}
