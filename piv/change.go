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

var errGlobal = errors.New("the global PIN of a card is not unblocked in this way")

// changePIN is CHANGE REFERENCE DATA; nil and nil has the PINs typed at the reader.
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
			return data.JudgePad(sw), err
		})
	}

	if err := checkPIN(k, old, card.MinPIN); err != nil {
		return err
	}
	if err := checkPIN(k, fresh, card.MinNewPIN); err != nil {
		return err
	}
	return s.replace(ctx, changeName, func(ctx context.Context) (data.PINAnswer, error) {
		sw, err := s.channel.SendPIN(ctx, changeName, insChange, k.PINRef, old, fresh)
		return data.JudgePIN(sw), err
	})
}

// unblock is RESET RETRY COUNTER.
func unblock(ctx context.Context, s *session, puk, fresh *secret.PIN) error {
	if s.card.PINRef != data.ApplicationPIN {
		return &token.Error{Kind: token.ErrNotSupported, Err: errGlobal}
	}
	if n := puk.Len(); n < card.MinNewPIN || n > channel.PINBlock {
		return formatError("a PUK has 6 to 8 characters")
	}
	if err := checkPIN(s.card, fresh, card.MinNewPIN); err != nil {
		return err
	}
	return s.replace(ctx, resetName, func(ctx context.Context) (data.PINAnswer, error) {
		sw, err := s.channel.SendPIN(ctx, resetName, insReset, data.ApplicationPIN, puk, fresh)
		return data.JudgePIN(sw), err
	})
}

// stateOfPUK is what the card tells of its PUK; most tell nothing.
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
		return token.PUK{}, mean(fmt.Errorf("reading the state of the PUK: %w", err))
	}
	if told == nil {
		return token.PUK{}, nil
	}
	return token.PUK{Default: told.Default, Tries: triesOf(told)}, nil
}

// triesOf are the tries in metadata.
func triesOf(m *data.Metadata) token.Tries {
	if !m.TriesKnown {
		return token.Tries{}
	}
	level := card.LevelOf(m.Left, m.Tries)
	return token.Tries{Level: level, Left: m.Left, Most: m.Tries, Counted: true}
}

// replace sends the command that sets a PIN, in a transaction of its own, and leaves the card
// locked: some have verified the PIN by it.
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
	case name == resetName: // what it tells of tries is of the PUK
		s.channel.Dirty = before || a.Result == data.PINFault
		err = pinError(name, a)
	default:
		err = s.refusedPIN(name, a, before)
	}
	if gone := s.leave(ctx); err == nil {
		err = gone
	}
	return err
}

// changed has what was known of the old PIN forgotten.
func (s *session) changed() {
	s.reader.PINChanged(s.card)
	info := *s.info
	info.PIN.Default = false
	info.PIN.Tries, info.PIN.Said = token.Tries{Most: info.PIN.Tries.Most}, ""
	s.info = &info
}
