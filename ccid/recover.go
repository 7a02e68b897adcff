package ccid

import (
	"context"
	"errors"
	"time"
)

// Times of the recovery.
const (
	abortTimeout  = time.Second
	statusTimeout = 3 * time.Second
)

// recover brings a reader back that has not answered a command: abort it; else start the interface afresh; else reset
// the device. After each step it must answer with the right number. An answer that comes late is eaten on the way.
// Other slots' commands that were in flight end with a timeout of their own.
func (b *bulk) recover(ctx context.Context, slot int, sequence byte) error {
	err := b.abort(ctx, slot, sequence)
	if err == nil || IsGone(err) || ctx.Err() != nil {
		return err
	}
	again, ok := b.t.(Reclaimer)
	if !ok {
		return errors.Join(err, b.answers(ctx, slot))
	}
	b.log.Info("starting the interface afresh", "why", err)
	if err = again.Reclaim(ctx); err == nil {
		err = b.answers(ctx, slot)
	}
	if err == nil || IsGone(err) || ctx.Err() != nil {
		return err
	}
	b.log.Warn("resetting the device", "why", err)
	if err = again.Reset(ctx); err == nil {
		err = b.answers(ctx, slot)
	}
	if !IsGone(err) {
		b.reset()
	}
	return err
}

// abort tells the reader to forget a command, on both ways at once, and eats everything up to the answer to that. A
// reader that does not know the request may know the message.
func (b *bulk) abort(ctx context.Context, slot int, sequence byte) error {
	b.empty(slot)
	short, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	setup := Setup{RequestType: 0x21, Request: RequestAbort, Value: uint16(sequence)<<8 | uint16(slot), Index: uint16(b.number)}
	if _, err := b.t.Control(short, setup, nil); err != nil && (IsGone(err) || ctx.Err() != nil) {
		return transportError("aborting", err)
	}
	b.sending.Lock()
	err := b.write(short, slot, sequence, Abort{})
	b.sending.Unlock()
	if err != nil {
		return err
	}
	_, err = b.await(ctx, slot, sequence, TypeAbort, abortTimeout)
	var failed *Error
	if errors.As(err, &failed) { // it does not know Abort, but it is with us again
		return nil
	}
	return err
}

// answers asks for the slot's state: any answer will do.
func (b *bulk) answers(ctx context.Context, slot int) error {
	_, _, err := b.once(ctx, slot, GetSlotStatus{}, statusTimeout)
	var failed *Error
	if errors.As(err, &failed) {
		return nil
	}
	return err
}
