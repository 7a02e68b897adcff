package piv

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// The commands that set a PIN (SP 800-73-4 part 2, sections 3.2.2 and 3.2.3).
const (
	changeName = "CHANGE REFERENCE DATA"
	insChange  = 0x24
	resetName  = "RESET RETRY COUNTER"
	insReset   = 0x2C
)

// errGlobal is returned for a PUK where the user's PIN is the global one: RESET RETRY COUNTER sets
// the application PIN alone.
var errGlobal = errors.New("the global PIN of a card is not unblocked in this way")

// changePIN sends CHANGE REFERENCE DATA. Where both PINs are nil they are typed at the reader.
func changePIN(ctx context.Context, s *session, old, fresh *secret.PIN) error {
	k := s.card

	if old == nil && fresh == nil {
		if k.Features.ModifyPIN == 0 {
			return noPad("changed")
		}

		const feature = "FEATURE_MODIFY_PIN_DIRECT"
		return s.replace(ctx, changeName, func(ctx context.Context) (data.PINAnswer, error) {
			block := data.ModifyPINBlock(k.PINRef, k.Pad)
			sw, err := s.channel.EnterPIN(ctx, feature, k.Features.ModifyPIN, block)
			return data.InterpretPad(sw), err
		})
	}

	// Some cards count a PIN of a wrong form as a try: it is refused here.
	if err := checkPIN(k, old, card.MinPIN); err != nil {
		return err
	}
	if err := checkPIN(k, fresh, card.MinNewPIN); err != nil {
		return err
	}

	return s.replace(ctx, changeName, func(ctx context.Context) (data.PINAnswer, error) {
		sw, err := s.channel.SendPIN(ctx, changeName, insChange, k.PINRef, old, fresh)
		return data.InterpretPIN(sw), err
	})
}

// unblock sends RESET RETRY COUNTER.
func unblock(ctx context.Context, s *session, puk, fresh *secret.PIN) error {
	if s.card.PINRef != data.ApplicationPIN {
		return &token.Error{Kind: token.ErrNotSupported, Err: errGlobal}
	}

	// A PUK has a counter of its own, and a card without tries for it cannot be unblocked.
	if n := puk.Len(); n < card.MinNewPIN || n > channel.PINBlock {
		return formatError("a PUK has 6 to 8 characters")
	}

	if err := checkPIN(s.card, fresh, card.MinNewPIN); err != nil {
		return err
	}

	return s.replace(ctx, resetName, func(ctx context.Context) (data.PINAnswer, error) {
		sw, err := s.channel.SendPIN(ctx, resetName, insReset, data.ApplicationPIN, puk, fresh)
		return data.InterpretPIN(sw), err
	})
}

// stateOfPUK asks the card for the state of its PUK; the zero value where the card does not tell,
// as most do not.
func stateOfPUK(ctx context.Context, s *session) (token.PUK, error) {
	if s.card.PINRef != data.ApplicationPIN {
		return token.PUK{}, &token.Error{Kind: token.ErrNotSupported, Err: errGlobal}
	}

	var told *data.Metadata
	err := s.channel.Transaction(ctx, func(ctx context.Context, _ channel.Answer) (err error) {
		told, err = s.reader.PUK(ctx, s.card)
		return err
	})
	if err != nil {
		return token.PUK{}, sessionError(fmt.Errorf("reading the state of the PUK: %w", err))
	}
	if told == nil {
		return token.PUK{}, nil
	}

	return token.PUK{Default: told.Default, Tries: triesOf(told)}, nil
}

// triesOf returns the tries that metadata has.
func triesOf(m *data.Metadata) token.Tries {
	if !m.TriesKnown {
		return token.Tries{}
	}
	level := card.LevelOf(m.Left, m.Tries)
	return token.Tries{
		Level:   level,
		Left:    m.Left,
		Most:    m.Tries,
		Counted: true,
	}
}

// replace sends the command that sets a PIN, in a transaction of its own, and leaves the card
// locked: with some cards the command verifies the PIN as well.
func (s *session) replace(
	ctx context.Context, name string, send func(context.Context) (data.PINAnswer, error),
) error {
	if err := s.enter(ctx); err != nil {
		return err
	}

	before := s.channel.Dirty
	a, err := send(ctx)
	switch {
	case err != nil:
		err = s.lostPIN(ctx, name, err)
	case a.Result == data.PINGood:
		s.changed()
	case name == resetName:
		// The tries in this answer are those of the PUK, not of the PIN.
		s.channel.Dirty = before || a.Result == data.PINFault
		err = pinError(name, a)
	default:
		err = s.refusedPIN(name, a, before)
	}

	// A card that is gone matters only where there is no error that explains more.
	if gone := s.leave(ctx); err == nil {
		err = gone
	}
	return err
}

// changed removes what was known of the old PIN.
func (s *session) changed() {
	s.reader.PINChanged(s.card)

	// An Info that was handed out is never changed: callers may still read it.
	info := *s.info
	info.PIN.Default = false
	info.PIN.Tries = token.Tries{Most: info.PIN.Tries.Most}
	info.PIN.Said = ""
	s.info = &info
}
