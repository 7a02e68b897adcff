package link

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
)

// StatusTimeout is how long a reader may take to report the state of a slot.
const StatusTimeout = 3 * time.Second

const abortTimeout = time.Second

// recover brings a reader back that has not answered a command: it aborts the command; if that
// fails, it claims the interface again; if that fails, it resets the device. After each step the
// reader must answer with the right number. A late answer is dropped on the way. Commands of other
// slots that were in flight end with a timeout of their own.
func (b *Bulk) recover(ctx context.Context, slot int, sequence byte) error {
	// The mildest way first: it costs no card its power.
	err := b.abort(ctx, slot, sequence)
	if err == nil || device.IsGone(err) || ctx.Err() != nil {
		return err
	}

	// Without a way to start anew all that is left is that the reader may answer after all.
	again, ok := b.t.(device.Reclaimer)
	if !ok {
		return errors.Join(err, b.answers(ctx, slot))
	}

	b.Log.Info("starting the interface afresh", "why", err)
	if err = again.Reclaim(ctx); err == nil {
		err = b.answers(ctx, slot)
	}
	if err == nil || device.IsGone(err) || ctx.Err() != nil {
		return err
	}

	b.Log.Warn("resetting the device", "why", err)
	if err = again.Reset(ctx); err == nil {
		err = b.answers(ctx, slot)
	}

	// The cards have lost their power even where the reader does not answer after the reset.
	if !device.IsGone(err) {
		b.Reset()
	}
	return err
}

// abort tells the reader to drop a command, by control transfer and by message as CCID requires
// (1.1, section 5.3.1), and drops everything up to the answer to that. A reader that does not know
// the request may know the message.
func (b *Bulk) abort(ctx context.Context, slot int, sequence byte) error {
	b.empty(slot)

	short, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	setup := device.Setup{
		RequestType: 0x21,
		Request:     device.RequestAbort,
		Value:       uint16(sequence)<<8 | uint16(slot),
		Index:       uint16(b.Number),
	}
	// A stall of the control transfer is no reason to stop: see above.
	_, err := b.t.Control(short, setup, nil)
	if err != nil && (device.IsGone(err) || ctx.Err() != nil) {
		return ifd.TransportError("aborting", err)
	}

	b.sending.Lock()
	err = b.write(short, slot, sequence, message.Abort{})
	b.sending.Unlock()
	if err != nil {
		return err
	}

	_, err = b.await(ctx, slot, sequence, message.TypeAbort, abortTimeout)
	var failed *message.Error
	if errors.As(err, &failed) {
		// It does not know Abort, but it answers again.
		return nil
	}
	return err
}

// answers returns nil when the reader answers a request for the slot's state, whatever it says.
func (b *Bulk) answers(ctx context.Context, slot int) error {
	_, _, err := b.Once(ctx, slot, message.GetSlotStatus{}, StatusTimeout)
	var failed *message.Error
	if errors.As(err, &failed) {
		return nil
	}
	return err
}
