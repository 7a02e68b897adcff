package channel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// grace is how much longer than its context a call may take once a PIN has been sent: a card that
// is about to answer can then be locked.
const grace = time.Second

// result is what a call to the service has returned.
type result[T any] struct {
	value T
	err   error
}

// begin makes a call, which cannot be taken back, on a goroutine of its own.
func begin[T any](call func() (T, error)) <-chan result[T] {
	done := make(chan result[T], 1)
	go func() {
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

// Call makes a call to the service that belongs to no card. The context's end ends the wait for it,
// and leaves the call to itself. name is the function of winscard.h, for the error.
func Call[T any](ctx context.Context, name string, call func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case r := <-begin(call):
		return r.value, judge(ctx, name, r.err)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// await makes a call to the service. The context's end ends the wait for it: the channel is lost
// then, and what is left to do happens when the call returns.
func await[T any](ctx context.Context, c *Channel, name string, call func() (T, error)) (T, error) {
	if err := c.ready(ctx); err != nil {
		var none T
		return none, err
	}
	return start(ctx, c, name, call)
}

// start is await of a channel that is ready: call is begun in any case.
func start[T any](ctx context.Context, c *Channel, name string, call func() (T, error)) (T, error) {
	c.busy.begin()
	defer c.busy.end()
	done := begin(call)
	select {
	case r := <-done:
		return r.value, c.judge(ctx, name, r.err)
	case <-ctx.Done():
	}
	if c.Dirty {
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case r := <-done:
			return r.value, c.judge(ctx, name, r.err)
		case <-late.C:
		}
	}

	c.abandon(name, ctx.Err())
	left := *c
	go func() {
		r := <-done
		if card, connected := any(r.value).(*pcsc.Card); connected && r.err == nil {
			left.card = card // else pcscd would reset it when the context is released
		}
		if left.context != nil {
			left.cleanUp()
		}
	}()
	var none T
	return none, ctx.Err()
}

// abandon marks a channel as lost whose last call is still under way.
func (c *Channel) abandon(name string, why error) {
	err := fmt.Errorf("%s was given up: %w", name, why)
	c.lost = &token.Error{Kind: token.ErrFault, Err: err}
	c.closed = true
}

// judge is judge of a call about the channel's card. Where a wait was taken back, a Client of the
// service has lost its connection.
func (c *Channel) judge(ctx context.Context, name string, err error) error {
	if err != nil && errors.Is(err, pcsc.ErrCancelled) && ctx.Err() != nil && c.lost == nil {
		c.lost = &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("%s was given up", name)}
	}
	return judge(ctx, name, err)
}
