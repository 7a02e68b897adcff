package piv

import (
	"context"
	"errors"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// application is the identifier of the PIV application without its version (SP 800-73-4 part 1,
// section 2.2): cards of other versions take it, too.
var application = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00}

// transaction makes body the only user of the card, after SELECT: which application is selected is a
// state that all programs share, and a PIN must not get to another one.
//
// Another program that resets the card before is noticed, and all is begun anew, once. After a PIN
// was sent nothing is. The card is left as it is.
func (c *connection) transaction(ctx context.Context, body func(ctx context.Context, selected answer) error) error {
	selected, err := c.enter(ctx)
	if err != nil {
		return err
	}

	err = body(ctx, selected)
	if err == nil || !wasReset(err) || c.dirty {
		return errors.Join(err, c.leave(ctx))
	}
	_ = c.leave(ctx)
	if err := c.takeUp(ctx); err != nil {
		return err
	}
	if selected, err = c.enter(ctx); err != nil {
		return err
	}
	return errors.Join(body(ctx, selected), c.leave(ctx))
}

// leave ends a transaction in which nothing has unlocked the card.
func (c *connection) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	err := c.end(ctx, pcsc.LeaveCard)
	if errors.Is(err, token.ErrRemoved) {
		return err
	}
	if err != nil {
		c.module.log.Debug("transaction not ended as it should be", "reader", c.reader, "error", err)
	}
	return nil
}

// enter begins a transaction and selects PIV, once more after a reset by another program.
func (c *connection) enter(ctx context.Context) (answer, error) {
	for again := false; ; again = true {
		err := c.begin(ctx)
		var selected answer
		if err == nil {
			c.busy.talk()
			if selected, err = c.selectPIV(ctx); err == nil {
				return selected, nil
			}
			_ = c.leave(ctx)
		}
		if !wasReset(err) || again {
			return answer{}, err
		}
		if err := c.takeUp(ctx); err != nil {
			return answer{}, err
		}
	}
}

// selectPIV is SELECT (SP 800-73-4 part 2, section 3.1.1). Its answer is not fetched where the card
// does not give it by itself (T=0).
func (c *connection) selectPIV(ctx context.Context) (answer, error) {
	const name = "SELECT"
	a, err := c.chain(ctx, command{name: name, ins: 0xA4, p1: 0x04, data: application, answers: true})
	if err != nil {
		return answer{}, err
	}

	switch {
	case a.sw.OK(), a.sw.SW1() == 0x62: // 6282, 6285: some cards say so, and are selected
		return a, nil
	case a.sw == iso7816.StatusMemoryFailure, a.sw == iso7816.StatusUnknown:
		return answer{}, refused(token.ErrFault, name, a.sw)
	}
	return answer{}, refused(token.ErrForeign, name, a.sw)
}
