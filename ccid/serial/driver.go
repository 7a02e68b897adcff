package serial

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/plan"
)

// Driver drives one serial reader: it looks for the reader until it answers, and again when it has
// gone. It implements pcsc.Driver.
type Driver struct {
	Device  string // "/dev/ttyS0"
	Model   string // see Models; "" is GemPCTwin
	Options plan.Options
	Log     *slog.Logger  // nil is silent
	Retry   time.Duration // between attempts to find the reader; 0 is 5 s
}

// Parse reads "DEVICE" or "DEVICE:MODEL".
func Parse(text string) (device, model string, err error) {
	device, model, _ = strings.Cut(text, ":")
	if device == "" || device[0] != '/' {
		return "", "", fmt.Errorf(
			"%q is not the path of a serial line, which may be followed by a colon and a model", text)
	}
	_, err = modelOf(model)
	return device, model, err
}

// Run reports the reader until ctx ends.
func (d *Driver) Run(
	ctx context.Context,
	attach func(id, product, iface, serial string, slots []*ccid.Slot), detach func(id string),
	settled func(),
) error {
	log, retry := d.Log, d.Retry
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if retry <= 0 {
		retry = 5 * time.Second
	}
	log = log.With("device", d.Device)

	var complaint string // the error that was logged last: each is logged once
	for {
		r, line, err := open(ctx, d.Device, d.Model, d.Options, log)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if err.Error() != complaint {
				complaint = err.Error()
				log.Warn("no serial reader", "err", err)
			}
		default:
			complaint = ""
			attach(d.Device, r.Info().Name, "", "", r.Slots())
		}

		// After the first try, whatever came of it; once, as pcsc.Driver has it.
		settled()
		settled = func() {}

		if r != nil {
			select {
			case <-ctx.Done():
			case <-line.gone:
				log.Warn("the serial line is gone")
			}

			// Before detach, after which calls in flight have to end by themselves.
			r.Gone()
			detach(d.Device)
			if err := r.Close(); err != nil {
				log.Debug("closing the serial line", "err", err)
			}
		}

		if err := link.Pause(ctx, retry); err != nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
