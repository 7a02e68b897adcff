package channel

import (
	"context"
	"errors"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// Transaction makes body the only user of the card, after SELECT: which application is selected is
// a state that all programs share, and a PIN must not get to another application.
//
// A reset by another program before the transaction is noticed, and everything begins anew, once.
// The card is left as it is. body sends no PIN.
func (c *Channel) Transaction(
	ctx context.Context, body func(ctx context.Context, selected Answer) error,
) error {
	for again := false; ; again = true {
		selected, err := c.Enter(ctx)
		if err != nil {
			return err
		}

		err = body(ctx, selected)
		if err == nil || !wasReset(err) || again {
			return errors.Join(err, c.leave(ctx))
		}

		// body may run a second time because it has sent no PIN.
		_ = c.leave(ctx)
		if err := c.reconnect(ctx); err != nil {
			return err
		}
	}
}

// Enter begins a transaction and selects PIV, and once more after a reset by another program.
func (c *Channel) Enter(ctx context.Context) (Answer, error) {
	for again := false; ; again = true {
		err := c.begin(ctx)

		var selected Answer
		if err == nil {
			c.busy.reach(talking)
			if selected, err = c.SelectPIV(ctx); err == nil {
				return selected, nil
			}
			_ = c.leave(ctx)
		}

		if !wasReset(err) || again {
			return Answer{}, err
		}

		if err := c.reconnect(ctx); err != nil {
			return Answer{}, err
		}
	}
}

// begin begins a transaction. A reset by another program is reported here, before anything was
// sent.
func (c *Channel) begin(ctx context.Context) error {
	_, err := await(ctx, c, "SCardBeginTransaction", func() (struct{}, error) {
		return struct{}{}, c.card.BeginTransactionContext(ctx)
	})
	if err != nil {
		return err
	}
	c.began = true
	c.Fresh = false
	return nil
}

// End ends the transaction, if there is one.
func (c *Channel) End(ctx context.Context, d pcsc.Disposition) error {
	if !c.began {
		return nil
	}
	_, err := await(ctx, c, "SCardEndTransaction", func() (struct{}, error) {
		return struct{}{}, c.card.EndTransaction(d)
	})

	// A call that was given up may still end it: cleanUp must know that it is open.
	if c.lost == nil {
		c.began = false
	}

	if err == nil && d == pcsc.ResetCard {
		c.Dirty = false
	}
	return err
}

// leave ends a transaction in which nothing has unlocked the card. The error is about a card that
// is gone.
func (c *Channel) leave(ctx context.Context) error {
	ctx, cancel := CleanUpContext(ctx)
	defer cancel()
	err := c.End(ctx, pcsc.LeaveCard)
	if errors.Is(err, token.ErrRemoved) {
		return err
	}
	if err != nil {
		c.options.Log.Debug("transaction not ended as it should be", "reader", c.Reader, "error", err)
	}
	return nil
}

// CleanUpContext returns the context of what has to be done although ctx may have ended: it lasts a
// few seconds.
func CleanUpContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), endTime)
}

// application is the identifier of the PIV application without its version (SP 800-73-4 part 1,
// section 2.2): cards of other versions accept it, too.
var application = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00}

// SelectPIV sends SELECT (SP 800-73-4 part 2, section 3.1.1). It does not fetch an answer that the
// card does not send by itself (T=0). The error of a card without the application is
// token.ErrForeign.
func (c *Channel) SelectPIV(ctx context.Context) (Answer, error) {
	const name = "SELECT"
	cmd := Command{
		Name:    name,
		INS:     0xA4,
		P1:      0x04,
		Data:    application,
		Answers: true,
	}
	a, err := c.chain(ctx, cmd)
	if err != nil {
		return Answer{}, err
	}

	switch {
	case a.SW.OK(), a.SW.SW1() == 0x62:
		// 6282 and 6285 are warnings of some cards, which have selected the application all the
		// same.
		c.Unsure = false
		return a, nil
	case a.SW == iso7816.StatusMemoryFailure, a.SW == iso7816.StatusUnknown:
		return Answer{}, Refused(token.ErrFault, name, a.SW)
	}
	return Answer{}, Refused(token.ErrForeign, name, a.SW)
}
