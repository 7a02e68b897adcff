package ccid

import (
	"context"
	"errors"
)

// watched tells when the device below has gone.
type watched struct {
	Transport
	failed func()
}

func (w *watched) look(err error) error {
	if errors.Is(err, ErrGone) {
		w.failed()
	}
	return err
}

// BulkOut is that of the Transport.
func (w *watched) BulkOut(ctx context.Context, m []byte) error {
	return w.look(w.Transport.BulkOut(ctx, m))
}

// BulkIn is that of the Transport.
func (w *watched) BulkIn(ctx context.Context, p []byte) (int, error) {
	n, err := w.Transport.BulkIn(ctx, p)
	return n, w.look(err)
}

// Interrupt is that of the Transport.
func (w *watched) Interrupt(ctx context.Context, p []byte) (int, error) {
	n, err := w.Transport.Interrupt(ctx, p)
	return n, w.look(err)
}

// Control is that of the Transport.
func (w *watched) Control(ctx context.Context, s Setup, data []byte) (int, error) {
	n, err := w.Transport.Control(ctx, s, data)
	return n, w.look(err)
}

// Reclaim is that of the Transport.
func (w *watched) Reclaim(ctx context.Context) error {
	r, ok := w.Transport.(Reclaimer)
	if !ok {
		return errors.ErrUnsupported
	}
	return w.look(r.Reclaim(ctx))
}

// Reset is that of the Transport.
func (w *watched) Reset(ctx context.Context) error {
	r, ok := w.Transport.(Reclaimer)
	if !ok {
		return errors.ErrUnsupported
	}
	return w.look(r.Reset(ctx))
}
