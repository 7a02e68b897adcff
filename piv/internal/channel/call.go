package channel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// grace is the time that a call has beyond its context once a PIN has been sent: a card that
// answers in it can still be locked.
const grace = time.Second

// result is the result of a call to the service.
type result[T any] struct {
	value T
	err   error
}

// begin makes a call, which cannot be cancelled, on a goroutine of its own.
func begin[T any](call func() (T, error)) <-chan result[T] {
	done := make(chan result[T], 1)
	go func() {
		// A panic there would end the whole process, with the card unlocked.
		defer func() {
			if p := recover(); p != nil {
				done <- result[T]{err: fmt.Errorf("panic: %v", p)}
			}
		}()

		v, err := call()
		done <- result[T]{v, err}
	}()
	return done
}

// Call makes a call to the service that belongs to no card. When the context ends it returns, and
// the call is left behind. name is the function of winscard.h, for the error.
func Call[T any](ctx context.Context, name string, call func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case r := <-begin(call):
		return r.value, serviceError(ctx, name, r.err)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// await makes a call to the service. When the context ends it returns: the channel is lost then,
// and is cleaned up when the call returns.
func await[T any](ctx context.Context, c *Channel, name string, call func() (T, error)) (T, error) {
	if err := c.ready(ctx); err != nil {
		var none T
		return none, err
	}
	return start(ctx, c, name, call)
}

// start is await for a channel that is ready: the call begins in any case.
func start[T any](ctx context.Context, c *Channel, name string, call func() (T, error)) (T, error) {
	c.busy.begin()
	defer c.busy.end()

	done := begin(call)

	select {
	case r := <-done:
		return r.value, c.callError(ctx, name, r.err)
	case <-ctx.Done():
	}

	// A card that may have taken a PIN gets a little longer: then it can be locked by command.
	if c.Dirty {
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case r := <-done:
			return r.value, c.callError(ctx, name, r.err)
		case <-late.C:
		}
	}

	// The call may still use the connection. A copy of the channel cleans up once it has returned;
	// this one is not used again.
	c.abandon(name, ctx.Err())
	left := *c
	go func() {
		r := <-done
		if card, connected := any(r.value).(*pcsc.Card); connected && r.err == nil {
			left.card = card // a card that is not disconnected would be reset by pcscd
		}
		if left.context != nil {
			left.cleanUp()
		}
	}()

	var none T
	return none, ctx.Err()
}

// abandon marks a channel as lost, whose last call has not returned.
func (c *Channel) abandon(name string, why error) {
	err := fmt.Errorf("%s was given up: %w", name, why)
	c.lost = &token.Error{Kind: token.ErrFault, Err: err}
	c.closed = true
}

// callError is serviceError for a call about the channel's card. Where a wait was cancelled, the
// client of the service has lost its connection.
func (c *Channel) callError(ctx context.Context, name string, err error) error {
	cancelled := errors.Is(err, pcsc.ErrCancelled) && ctx.Err() != nil
	if cancelled && c.lost == nil {
		c.lost = &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("%s was given up", name)}
	}
	return serviceError(ctx, name, err)
}
