package piv

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// pinBlock is the length of a PIN or PUK on its way to the card; it is filled up with FF (SP 800-73-4
// part 2, section 2.4.3).
const pinBlock = 8

// Lengths of PINs. OpenSC announces four for the sake of old cards; a new one has six at least.
const (
	minPIN    = 4
	minNewPIN = 6
	maxPIN    = pinBlock
)

// checkPIN refuses what cannot be a PIN of the card, before it is sent: many cards count it. least is
// its least length. Passwords have letters, and are kept from cards whose PINs have not.
func (k *card) checkPIN(pin *secret.PIN, least int) error {
	b := pin.Bytes()
	if len(b) < least || len(b) > maxPIN {
		return formatError(fmt.Sprintf("a PIN of this card has %d to %d characters", least, maxPIN))
	}
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return formatError("a PIN has no such characters")
		}
		if (c < '0' || c > '9') && !k.kind.AnyPIN {
			return formatError("a PIN of this card has digits only")
		}
	}
	return nil
}

func formatError(text string) error {
	return &token.Error{Kind: token.ErrPINFormat, Err: errors.New(text + "; nothing was sent to the card")}
}

// pinCommand makes a command with PINs in memory that is wiped.
func pinCommand(ins, p2 byte, pins ...*secret.PIN) (*secret.PIN, error) {
	apdu, err := secret.New(make([]byte, 5+len(pins)*pinBlock))
	if err != nil {
		return nil, &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("memory for a PIN: %w", err)}
	}

	b := apdu.Bytes()
	copy(b, []byte{0x00, ins, 0x00, p2, byte(len(pins) * pinBlock)})
	b = b[5:]
	for i := range b {
		b[i] = 0xFF
	}
	for i, pin := range pins {
		copy(b[i*pinBlock:(i+1)*pinBlock], pin.Bytes())
	}
	return apdu, nil
}

// sendPIN sends a command with PINs, once.
func (c *connection) sendPIN(ctx context.Context, name string, ins, p2 byte, pins ...*secret.PIN) (data.PINAnswer, error) {
	apdu, err := pinCommand(ins, p2, pins...)
	if err != nil {
		return data.PINAnswer{}, err
	}
	if err := c.ready(ctx); err != nil {
		apdu.Wipe()
		return data.PINAnswer{}, err
	}

	c.dirty = true
	a, err := c.transmit(ctx, name, apdu.Bytes(), apdu)
	if err != nil {
		return data.PINAnswer{}, err
	}
	return data.JudgePIN(a.sw), nil
}

// verify has the card verify the PIN; nil has it typed at the reader. It sends it once, but to a card
// that has no such PIN: that is no try.
func (s *session) verify(ctx context.Context, pin *secret.PIN) error {
	const name = "VERIFY"
	a, err := s.verifyAs(ctx, pin, s.card.pinRef)
	if err == nil && a.Result == data.PINNoReference && s.card.discovery == nil && s.card.pinRef == data.ApplicationPIN {
		// SP 800-73-1 knew the global PIN only. Another answer would have been about another PIN,
		// with a counter of its own.
		if a, err = s.verifyAs(ctx, pin, data.GlobalPIN); err == nil && a.Result != data.PINNoReference {
			s.card.pinRef = data.GlobalPIN
		}
	}
	if err != nil {
		return s.lostPIN(ctx, name, err)
	}
	if a.Result != data.PINGood {
		return s.refusedPIN(name, a)
	}
	s.conn.fresh = true
	return nil
}

func (s *session) verifyAs(ctx context.Context, pin *secret.PIN, ref byte) (data.PINAnswer, error) {
	if pin != nil {
		return s.conn.sendPIN(ctx, "VERIFY", 0x20, ref, pin)
	}
	block := data.VerifyPINBlock(ref, s.card.pad)
	return s.conn.enterPIN(ctx, "FEATURE_VERIFY_PIN_DIRECT", s.card.features.VerifyPIN, block)
}

// refusedPIN is the error of a PIN that the card has not taken. A card that refuses a PIN is locked,
// or stays what it was.
func (s *session) refusedPIN(name string, a data.PINAnswer) error {
	if a.Result != data.PINFault {
		s.conn.dirty = false
	}
	if err := padError(name, a); err != nil {
		return err
	}
	s.noteTries(a)
	return pinError(pinKinds[a.Result], name, a)
}

// pinKinds are the errors of the answers to a PIN.
var pinKinds = map[data.PINResult]error{
	data.PINFault:       token.ErrFault,
	data.PINWrong:       token.ErrPINWrong,
	data.PINLocked:      token.ErrPINLocked,
	data.PINFormat:      token.ErrPINFormat,
	data.PINNoReference: token.ErrPINUnsupported,
	data.PINNotHere:     token.ErrPINNotHere,
	data.PINNotPIV:      token.ErrFault,
}

// pinError is "VERIFY: 63C2, the PIN is wrong, 2 tries left". A PIN that is locked by its last try is
// both wrong and locked: what the user has to know is the latter, at the next prompt.
func pinError(kind error, name string, a data.PINAnswer) error {
	e := &token.Error{Kind: kind, Err: fmt.Errorf("%s: %s", name, a)}
	if a.Counted {
		e.Tries = token.Tries{Level: levelOf(a.Left, 0), Left: a.Left, Counted: true}
	}
	return e
}

// lostPIN is the error of a PIN to which no answer came: nobody knows whether it was a try. It is not
// sent again; the card is asked what is left.
func (s *session) lostPIN(ctx context.Context, name string, err error) error {
	if errors.Is(err, token.ErrRemoved) || ctx.Err() != nil || s.conn.lost != nil || !s.conn.dirty {
		return err
	}

	e := &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("%s: the answer of the card was lost: %v", name, err)}
	if s.card.kind.NoEmptyVerify {
		return e
	}
	a, asked := s.conn.emptyVerify(ctx, s.card.pinRef)
	if errors.Is(asked, token.ErrRemoved) {
		return asked
	}
	if asked != nil || a.Result != data.PINWrong && a.Result != data.PINLocked {
		return e
	}
	s.noteTries(a)
	e.Err = fmt.Errorf("%w; VERIFY without a PIN now says %s", e.Err, a.Word)
	e.Tries = s.info.PIN.Tries
	return e
}

// lock takes back that the PIN was verified, where that is wanted, and ends the transaction, if need
// be with a reset of the card. It has its own time. The error is of a card that is gone.
func (s *session) lock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	c := s.conn
	if c.lost != nil {
		return nil // what is left to do is done when the last call returns
	}

	end := pcsc.LeaveCard
	var err error
	if c.dirty && s.locks() {
		if err = s.forget(ctx); err != nil {
			end = pcsc.ResetCard
		}
	}
	if err == nil || !errors.Is(err, token.ErrRemoved) {
		if err != nil {
			c.module.log.Debug("card is reset to lock it", "reader", c.reader, "why", err)
		}
		err = c.end(ctx, end)
	}
	switch {
	case err == nil:
		c.dirty = false
		return nil
	case errors.Is(err, token.ErrRemoved):
		return c.giveUp(err)
	}
	c.module.log.Warn("card may stay unlocked", "reader", c.reader, "error", err)
	return nil
}

// locks reports whether the card is to be locked: not one that another program had unlocked before,
// where it is left as it was found.
func (s *session) locks() bool {
	switch s.module.options.Lock {
	case LockAlways:
		return true
	case LockNever:
		return false
	}
	return s.card.pin.Result != data.PINGood
}

// forget is VERIFY with P1 = FF (SP 800-73-4 part 2, section 3.2.1), or an error where the card does
// not know it.
func (s *session) forget(ctx context.Context) error {
	const name = "VERIFY (lock)"
	if s.card.kind.NoForget {
		return fmt.Errorf("a %s knows no other way", s.card.kind.Name)
	}
	a, err := s.conn.send(ctx, command{name: name, ins: 0x20, p1: 0xFF, p2: s.card.pinRef})
	if err != nil {
		return err
	}
	if a.sw != 0x9000 {
		return refused(nil, name, a.sw)
	}
	return nil
}
