package channel

import (
	"context"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// PINBlock is the length of a PIN or PUK in a command, in bytes; it is filled up with FF (SP
// 800-73-4 part 2, section 2.4.3).
const PINBlock = 8

// SendPIN sends a command with PINs of at most PINBlock bytes, once, and returns the card's status
// word. The copy of the PINs is wiped when the call has returned.
func (c *Channel) SendPIN(
	ctx context.Context, name string, ins, p2 byte, pins ...*secret.PIN,
) (iso7816.Status, error) {
	apdu, err := pinCommand(ins, p2, pins)
	if err != nil {
		return 0, err
	}
	if err := c.ready(ctx); err != nil {
		apdu.Wipe()
		return 0, err
	}

	// Set before it is sent: an answer that is lost may be that of a card that took the PIN.
	c.Dirty = true
	a, err := c.transmit(ctx, name, apdu.Bytes(), apdu)
	return a.SW, err
}

// pinCommand makes a command with PINs in memory that can be wiped.
func pinCommand(ins, p2 byte, pins []*secret.PIN) (*secret.PIN, error) {
	apdu, err := secret.New(make([]byte, 5+len(pins)*PINBlock))
	if err != nil {
		return nil, &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("memory for a PIN: %w", err)}
	}

	b := apdu.Bytes()
	copy(b, []byte{0x00, ins, 0x00, p2, byte(len(pins) * PINBlock)})
	b = b[5:]
	for i := range b {
		b[i] = 0xFF
	}

	for i, pin := range pins {
		copy(b[i*PINBlock:(i+1)*PINBlock], pin.Bytes())
	}
	return apdu, nil
}

// EnterPIN has PINs typed at the reader, which sends them to the card, and returns the status word
// of either. code is the reader's control code for this feature, block its structure (PC/SC part
// 10).
func (c *Channel) EnterPIN(
	ctx context.Context, name string, code uint32, block []byte,
) (iso7816.Status, error) {
	if err := c.ready(ctx); err != nil {
		return 0, err
	}

	c.Dirty = true
	c.Fresh = false
	b, err := c.Control(ctx, name, code, block)
	if err != nil {
		return 0, err
	}

	_, sw, err := iso7816.ParseResponse(b)
	if err != nil {
		return 0, Malformed(name, "%w", err)
	}
	return sw, nil
}
