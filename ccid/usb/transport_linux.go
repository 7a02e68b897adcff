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

// usb opens readers through usbfs, each by its own node. It reads no descriptors, and no other
// device than the reader: what else is plugged in cannot disturb it.
type usb struct {
	dev string // "/dev/bus/usb"
}

func newUSB() opener { return usb{dev: usbNodes} }

// open opens an interface of a device, with a file descriptor of its own: so the transports of one
// device share no state.
func (u usb) open(d *usbDevice, in *device.Interface, gone func()) (device.Transport, error) {
	node := filepath.Join(u.dev, fmt.Sprintf("%03d/%03d", d.info.Bus, d.info.Address))
	handle, err := openUSBFS(node)
	if err != nil {
		return nil, err
	}

	t := &usbTransport{node: handle, in: *in, gone: gone}
	t.allowTransfers()

	// Close also gives back what a failed step has claimed.
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
	gone func() // called when a transfer finds that the device has disappeared

	// mu guards the fields below. A transfer holds it for reading: while it is held for
	// writing no transfer is in progress.
	mu      sync.RWMutex
	claimed bool            // the interface is ours
	life    context.Context // its end ends all transfers
	closed  bool

	ending sync.Mutex // guards end, which has to be called while transfers hold mu
	end    context.CancelFunc
}

// stopTransfers ends all transfers in progress.
func (t *usbTransport) stopTransfers() {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.end()
}

// allowTransfers allows transfers again. The caller holds t.mu.
func (t *usbTransport) allowTransfers() {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.life, t.end = context.WithCancel(context.Background())
}

// getConfiguration is GET_CONFIGURATION (USB 2.0, section 9.4.2).
const getConfiguration = 0x08

// configure selects the configuration with the reader, unless it is selected. active is what the
// kernel says of it; with activeUnknown the device is asked.
func (t *usbTransport) configure(wanted byte, active int) error {
	if active == activeUnknown {
		ctx, cancel := context.WithTimeout(context.Background(), longestControl)
		defer cancel()

		answer := make([]byte, 1)
		n, err := t.request(ctx, device.Setup{RequestType: 0x80, Request: getConfiguration}, answer)
		if err != nil {
			return err
		}
		// No byte is no configuration.
		active = int(answer[0]) * n
	}
	// Selecting it again would reset the interfaces of other drivers.
	if active == int(wanted) {
		return nil
	}
	return usbError(t.node.configure(wanted))
}

// claim claims the interface. The caller holds t.mu, or t is not known to others yet. With afresh
// both the device and the kernel forget halts and toggles, by selecting the setting anew.
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

// releaseInterface releases the interface. The caller holds t.mu.
func (t *usbTransport) releaseInterface() error {
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

// begin is called before a transfer, and the function that it returns after it. The context ends
// with ctx and with the life of the interface.
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
	end := func() {
		stop()
		cancel()
		t.mu.RUnlock()
	}
	return ctx, end, nil
}

// bulk moves one transfer in parts of a size that the kernel accepts, up to a short one.
func (t *usbTransport) bulk(outer context.Context, endpoint byte, data []byte) (int, error) {
	// Endpoint 0 is for control transfers: the interface has no endpoint of this kind.
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
		// A short part ends the transfer: whole parts are whole packets, see mostBytes.
		if err != nil || n < len(part) || moved == len(data) {
			return moved, t.result(outer, err)
		}
	}
}

// result replaces the error of a transfer that was ended from outside by the reason for that. outer
// is the caller's context.
func (t *usbTransport) result(outer context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case outer.Err() != nil:
		return outer.Err()
	case t.life.Err() != nil && t.closed:
		return device.ErrClosed
	}
	return t.noteGone(err)
}

// noteGone calls gone when err says that the device has disappeared, and returns err.
func (t *usbTransport) noteGone(err error) error {
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

// Interrupt receives one notification. It continues after a Reclaim or Reset in between.
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
		// Read before end, while t.mu holds back the next life.
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

// setupLength is the length of a setup packet (USB 2.0, table 9-2), which the kernel expects before
// the data.
const setupLength = 8

// request performs a request on endpoint 0.
func (t *usbTransport) request(ctx context.Context, s device.Setup, data []byte) (int, error) {
	// The kernel takes the setup packet and the data in one piece.
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

// exclusively ends all transfers, releases the interface, and calls do.
func (t *usbTransport) exclusively(do func() error) error {
	// Transfers hold t.mu for reading: without their end Lock would wait for the card.
	t.stopTransfers()
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.closed {
		return device.ErrClosed
	}
	if err := t.releaseInterface(); err != nil {
		return t.noteGone(err)
	}

	t.allowTransfers()
	return t.noteGone(do())
}

// Reclaim releases the interface and claims it again.
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

// Close releases the interface and closes the device.
func (t *usbTransport) Close() error {
	t.stopTransfers()
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.closed {
		return nil
	}
	t.closed = true
	return errors.Join(t.releaseInterface(), t.node.close())
}
