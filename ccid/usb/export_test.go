package usb

import (
	"context"
	"errors"
	"log/slog"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// ErrBusy is errBusy.
var ErrBusy = errBusy

// TestBus is what a test puts in the place of the machine's USB.
type TestBus struct {
	Sys, Dev, Proc string
	Udev           string // "": no udevd
	Open           func(name string, address int, number byte) (device.Transport, error)
	Told           chan struct{} // a value: devices have changed; closed: no news any more
	NoNews         bool
	Resumed        chan struct{}
}

type testNews struct{ told chan struct{} }

func (n testNews) wait(ctx context.Context) error {
	select {
	case _, open := <-n.told:
		if !open {
			return errors.New("no news")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (testNews) close() {}

func (b *TestBus) open(d *usbDevice, in *device.Interface, gone func()) (device.Transport, error) {
	t, err := b.Open(d.name, d.info.Address, in.Number)
	if err != nil {
		return nil, err
	}
	return &goneTransport{Transport: t, gone: gone}, nil
}

// goneTransport tells when the device of a simulation has gone, as the Transport over USB does itself.
type goneTransport struct {
	device.Transport
	gone func()
}

func (t *goneTransport) look(err error) error {
	if errors.Is(err, device.ErrGone) {
		t.gone()
	}
	return err
}

// BulkOut is that of the Transport.
func (t *goneTransport) BulkOut(ctx context.Context, m []byte) error {
	return t.look(t.Transport.BulkOut(ctx, m))
}

// BulkIn is that of the Transport.
func (t *goneTransport) BulkIn(ctx context.Context, p []byte) (int, error) {
	n, err := t.Transport.BulkIn(ctx, p)
	return n, t.look(err)
}

// Interrupt is that of the Transport.
func (t *goneTransport) Interrupt(ctx context.Context, p []byte) (int, error) {
	n, err := t.Transport.Interrupt(ctx, p)
	return n, t.look(err)
}

// Control is that of the Transport.
func (t *goneTransport) Control(ctx context.Context, s device.Setup, data []byte) (int, error) {
	n, err := t.Transport.Control(ctx, s, data)
	return n, t.look(err)
}

// Reclaim is that of the Transport.
func (t *goneTransport) Reclaim(ctx context.Context) error {
	r, ok := t.Transport.(device.Reclaimer)
	if !ok {
		return errors.ErrUnsupported
	}
	return t.look(r.Reclaim(ctx))
}

// Reset is that of the Transport.
func (t *goneTransport) Reset(ctx context.Context) error {
	r, ok := t.Transport.(device.Reclaimer)
	if !ok {
		return errors.ErrUnsupported
	}
	return t.look(r.Reset(ctx))
}

// NewTestDriver is NewDriver on a bus of a test.
func NewTestDriver(b *TestBus, o plan.Options, log *slog.Logger) *Driver {
	d := NewDriver(o, log)
	d.sys = sysfs{sys: b.Sys, dev: b.Dev, proc: b.Proc, udev: b.Udev}
	d.open = b
	d.news = func(*slog.Logger) (news, error) {
		if b.NoNews {
			return nil, errors.ErrUnsupported
		}
		return testNews{b.Told}, nil
	}
	d.resumes = func(ctx context.Context, _ *slog.Logger, resumed chan<- struct{}) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-b.Resumed:
				resumed <- struct{}{}
			}
		}
	}
	return d
}

// IsUSBDevice is isUSBDevice.
func IsUSBDevice(message []byte, udev bool) bool { return isUSBDevice(message, udev) }

// Contained calls read for a device as the driver does, and gives what is said of the device at which level.
func Contained(device string, read func() bool) (ok bool, said string) {
	ok = contained(device, func(level slog.Level, device, problem string) {
		said += level.String() + " " + device + ": " + problem
	}, read)
	return ok, said
}
