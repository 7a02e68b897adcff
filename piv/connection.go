package piv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// grace is how much longer than its context a call may take once the PIN has been sent: a card that
// is about to answer can then be locked.
const grace = time.Second

// endTime bounds what is done to leave a card as it was found, also after the context's end.
const endTime = 5 * time.Second

// connection is a connection to the card in one reader, with a PC/SC context of its own: what hangs
// in one reader hangs in no other.
type connection struct {
	module  *Module
	reader  string
	context *pcsc.Context
	card    *pcsc.Card
	moves   uint16 // the reader's count of cards that came and went
	busy    *busy  // tells whoever looks at several readers what this one waits for

	lost   error // why nothing can be asked any more
	closed bool
	began  bool // in a transaction
	dirty  bool // the card may have taken a PIN since, and nothing has locked it
	fresh  bool // nothing was sent to the card since it took the PIN
}

// dial connects to the card in a reader.
func (m *Module) dial(ctx context.Context, reader string, moves uint16, b *busy) (*connection, error) {
	c := &connection{module: m, reader: reader, moves: moves, busy: b}
	pc, err := await(ctx, c, "SCardEstablishContext", func() (*pcsc.Context, error) {
		return pcsc.NewContext(m.service)
	})
	if err != nil {
		return nil, err
	}
	c.context = pc

	for {
		card, err := await(ctx, c, "SCardConnect", func() (*pcsc.Card, error) {
			return pc.ConnectContext(ctx, reader, pcsc.ShareShared, pcsc.ProtocolAny)
		})
		if err == nil {
			c.card = card
			return c, nil
		}
		// Another program may have the reader for itself for a moment only.
		if !errors.Is(err, pcsc.ErrSharingViolation) || pause(ctx) != nil {
			c.close()
			return nil, err
		}
	}
}

// pause waits a little before a reader that is taken is asked again.
func pause(ctx context.Context) error {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await makes a call to the service that cannot be taken back. The context's end ends the wait for
// it: the connection is lost then, and what is left to do happens when the call returns.
func await[T any](ctx context.Context, c *connection, name string, call func() (T, error)) (T, error) {
	if err := c.ready(ctx); err != nil {
		var none T
		return none, err
	}
	return start(ctx, c, name, call)
}

// ready is nil while something can be asked of the card.
func (c *connection) ready(ctx context.Context) error {
	if c.lost != nil {
		return c.lost
	}
	return ctx.Err()
}

// start is await of a connection that is ready: call is begun in any case.
func start[T any](ctx context.Context, c *connection, name string, call func() (T, error)) (T, error) {
	c.busy.begin()
	defer c.busy.end()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- result{err: fmt.Errorf("panic: %v", p)}
			}
		}()
		v, err := call()
		done <- result{v, err}
	}()

	select {
	case r := <-done:
		return r.value, c.judge(ctx, name, r.err)
	case <-ctx.Done():
	}
	if c.dirty {
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case r := <-done:
			return r.value, c.judge(ctx, name, r.err)
		case <-late.C:
		}
	}

	var none T
	err := ctx.Err()
	c.lost = &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("%s was given up: %w", name, err)}
	left := *c
	c.closed = true
	go func() {
		<-done
		left.close()
	}()
	return none, err
}

// close ends the connection, and a transaction that is still open: with a reset where the card may
// have taken a PIN. Nobody waits for it longer than endTime.
func (c *connection) close() {
	if c.context == nil || c.closed {
		return
	}
	c.closed = true
	if c.lost == nil {
		c.lost = errClosed
	}

	ended := make(chan struct{})
	card, pc, began, dirty := c.card, c.context, c.began, c.dirty
	go func() {
		defer close(ended)
		d := pcsc.LeaveCard
		if dirty {
			d = pcsc.ResetCard
		}
		if began {
			_ = card.EndTransaction(d)
		}
		if card != nil {
			ctx, cancel := context.WithTimeout(context.Background(), endTime)
			defer cancel()
			_ = card.DisconnectContext(ctx, d)
		}
		_ = pc.Release()
	}()
	t := time.NewTimer(endTime)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
	}
}

// begin begins a transaction. W_RESET_CARD comes before anything was sent.
func (c *connection) begin(ctx context.Context) error {
	_, err := await(ctx, c, "SCardBeginTransaction", func() (struct{}, error) {
		return struct{}{}, c.card.BeginTransactionContext(ctx)
	})
	if err != nil {
		return err
	}
	c.began, c.fresh = true, false
	return nil
}

// end ends the transaction.
func (c *connection) end(ctx context.Context, d pcsc.Disposition) error {
	if !c.began {
		return nil
	}
	_, err := await(ctx, c, "SCardEndTransaction", func() (struct{}, error) {
		return struct{}{}, c.card.EndTransaction(d)
	})
	if c.lost == nil {
		c.began = false
	}
	if err == nil && d == pcsc.ResetCard {
		c.dirty = false
	}
	return err
}

// takeUp takes the connection up again after another program has reset the card, unless a card has
// come or gone: then nobody knows which it is.
func (c *connection) takeUp(ctx context.Context) error {
	_, err := await(ctx, c, "SCardReconnect", func() (struct{}, error) {
		return struct{}{}, c.card.ReconnectContext(ctx, pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
	})
	if err != nil {
		return err
	}
	status, err := await(ctx, c, "SCardStatus", func() (*pcsc.CardStatus, error) {
		return c.card.StatusContext(ctx)
	})
	if err != nil {
		return err
	}
	if status.EventCounter != c.moves {
		return c.giveUp(&token.Error{Kind: token.ErrRemoved, Err: errors.New("a card came or went in the reader")})
	}
	return nil
}

// giveUp ends a connection whose card is not the one that was looked at any more.
func (c *connection) giveUp(err error) error {
	if c.lost == nil {
		c.lost = err
	}
	c.close()
	return err
}

// isT0 reports whether the card speaks T=0.
func (c *connection) isT0() bool { return c.card.ActiveProtocol() == pcsc.ProtocolT0 }
