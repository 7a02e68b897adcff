package pcsc

import "context"

// Card is a connection to a card, or to a reader without one.
type Card struct {
	service Service
	handle  Handle
	active  Protocol
}

// ActiveProtocol is the protocol agreed on at Connect or Reconnect.
func (c *Card) ActiveProtocol() Protocol { return c.active }

// Handle is the number of the connection, for use with the Service itself.
func (c *Card) Handle() Handle { return c.handle }

// Disconnect ends the connection. It waits while another connection holds a transaction,
// unless d is LeaveCard.
func (c *Card) Disconnect(d Disposition) error {
	return c.DisconnectContext(context.Background(), d)
}

// DisconnectContext is Disconnect until ctx ends. A Client then loses the whole Context.
func (c *Card) DisconnectContext(ctx context.Context, d Disposition) error {
	return c.service.Disconnect(ctx, c.handle, d)
}

// Reconnect takes up the connection after a reset, or changes its mode or protocol.
func (c *Card) Reconnect(mode ShareMode, protocols Protocol, initialization Disposition) error {
	return c.ReconnectContext(context.Background(), mode, protocols, initialization)
}

// ReconnectContext is Reconnect, whose wait for another's transaction ends with ctx.
func (c *Card) ReconnectContext(
	ctx context.Context, mode ShareMode, protocols Protocol, initialization Disposition,
) error {
	return c.whenFree(ctx, func() error {
		active, err := c.service.Reconnect(c.handle, mode, protocols, initialization)
		if err == nil {
			c.active = active
		}
		return err
	})
}

// BeginTransaction waits until no other connection uses the card, and keeps them off.
func (c *Card) BeginTransaction() error { return c.BeginTransactionContext(context.Background()) }

// BeginTransactionContext is BeginTransaction until ctx ends. A Client then
// loses the whole Context.
func (c *Card) BeginTransactionContext(ctx context.Context) error {
	return c.service.BeginTransaction(ctx, c.handle)
}

// EndTransaction lets the others in again.
func (c *Card) EndTransaction(d Disposition) error { return c.service.EndTransaction(c.handle, d) }

// Transmit exchanges one APDU. It waits while another connection holds a transaction.
func (c *Card) Transmit(command []byte) (answer []byte, err error) {
	return c.TransmitContext(context.Background(), command)
}

// TransmitContext is Transmit, whose wait for another's transaction ends with ctx. A command that
// is at the card cannot be taken back: its end is waited for.
func (c *Card) TransmitContext(ctx context.Context, command []byte) (answer []byte, err error) {
	err = c.whenFree(ctx, func() error {
		answer, err = c.service.Transmit(c.handle, c.active, command, MaxBufferExtended)
		return err
	})
	return answer, err
}

// Control performs a reader command. It works without a card on a connection made with ShareDirect.
func (c *Card) Control(code uint32, in []byte) ([]byte, error) {
	return c.service.Control(c.handle, code, in, MaxBufferExtended)
}

// Status returns what is in the reader. It waits while another connection holds a transaction.
func (c *Card) Status() (*CardStatus, error) { return c.StatusContext(context.Background()) }

// StatusContext is Status, whose wait for another's transaction ends with ctx.
func (c *Card) StatusContext(ctx context.Context) (status *CardStatus, err error) {
	err = c.whenFree(ctx, func() error {
		status, err = c.service.Status(c.handle)
		return err
	})
	return status, err
}

// GetAttrib reads a reader attribute.
func (c *Card) GetAttrib(id Attrib) ([]byte, error) { return c.service.GetAttrib(c.handle, id) }

// SetAttrib writes a reader attribute.
func (c *Card) SetAttrib(id Attrib, value []byte) error {
	return c.service.SetAttrib(c.handle, id, value)
}

// whenFree makes a call that is refused while another connection holds a transaction. Where
// libpcsclite sleeps 100 ms and asks again, this queues up for a transaction of its own, which is
// granted as soon as the other one ends.
func (c *Card) whenFree(ctx context.Context, call func() error) error {
	if ctx.Err() != nil {
		return ErrCancelled
	}
	err := call()
	if err != ErrSharingViolation {
		return err
	}

	if err := c.service.BeginTransaction(ctx, c.handle); err != nil {
		if ctx.Err() != nil {
			return ErrCancelled
		}
		// The wait may end with the very thing that the call is there to repair or to report (a
		// reset, a removal).
		return call()
	}

	err = call()
	// With the connection the transaction is lost too; other errors of its end
	// do not touch the answer.
	if end := c.service.EndTransaction(c.handle, LeaveCard); err == nil && end == ErrCommError {
		return end
	}
	return err
}
