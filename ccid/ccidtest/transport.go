package ccidtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"pam_pkcs11/ccid/device"
)

// transport is a device.Transport to one interface of a Device in this process.
type transport struct {
	device *Device
	in     *Interface
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	once   sync.Once
}

// Transport returns a device.Transport (and a device.Reclaimer) to the interface with a number.
func (d *Device) Transport(number byte) device.Transport {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.reader(number)
	if r == nil {
		panic(fmt.Sprintf("ccidtest: no interface %d", number))
	}

	t := &transport{device: d, in: r.in}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

func (t *transport) BulkOut(ctx context.Context, message []byte) error {
	if t.ctx.Err() != nil {
		return device.ErrClosed
	}
	_, err := t.device.Out(ctx, t.in.bulkOut(), message)
	return err
}

func (t *transport) BulkIn(ctx context.Context, p []byte) (int, error) {
	return t.read(ctx, t.in.bulkIn(), p)
}

func (t *transport) Interrupt(ctx context.Context, p []byte) (int, error) {
	if !t.in.Interrupt {
		return 0, errors.ErrUnsupported
	}
	return t.read(ctx, t.in.interrupt(), p)
}

// read ends with ctx and with Close.
func (t *transport) read(ctx context.Context, endpoint byte, p []byte) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	n, err := t.device.In(ctx, endpoint, p)
	if err != nil && t.ctx.Err() != nil {
		return 0, device.ErrClosed
	}
	return n, err
}

func (t *transport) Control(ctx context.Context, setup device.Setup, data []byte) (int, error) {
	if t.ctx.Err() != nil {
		return 0, device.ErrClosed
	}
	return t.device.Control(ctx, setup, data)
}

func (t *transport) Reclaim(context.Context) error {
	t.device.Reclaim(t.in.Number)
	return nil
}

func (t *transport) Reset(context.Context) error {
	t.device.Reset()
	return nil
}

func (t *transport) Close() error {
	t.once.Do(t.stop)
	return nil
}
