package piv

import (
	"context"
	"errors"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Instructions that set a PIN (SP 800-73-4 part 2, sections 3.2.2 and 3.2.3).
const (
	insChange = 0x24
	insReset  = 0x2C

	resetName = "RESET RETRY COUNTER"
)

var errGlobal = errors.New("the card's global PIN is not unblocked in this way")

// notDefault is metadata of a PIN that is not its maker's (see data.Metadata).
var notDefault = []byte{0x05, 0x01, 0x00}

// ChangePIN is one CHANGE REFERENCE DATA. The old PIN is not verified before: that would be two tries.
func (s *session) ChangePIN(ctx context.Context, old, fresh *secret.PIN) error {
	const name = "CHANGE REFERENCE DATA"
	atReader := old == nil && fresh == nil
	switch {
	case atReader && s.card.features.ModifyPIN == 0:
		return noPad("changed")
	case !atReader:
		if err := s.card.checkPIN(old, minPIN); err != nil {
			return err
		}
		if err := s.card.checkPIN(fresh, minNewPIN); err != nil {
			return err
		}
	}

	return s.replace(ctx, name, func(ctx context.Context) (data.PINAnswer, error) {
		if atReader {
			block := data.ModifyPINBlock(s.card.pinRef, s.card.pad)
			return s.conn.enterPIN(ctx, "FEATURE_MODIFY_PIN_DIRECT", s.card.features.ModifyPIN, block)
		}
		return s.conn.sendPIN(ctx, name, insChange, s.card.pinRef, old, fresh)
	})
}

// Unblock is one RESET RETRY COUNTER, with the PUK. There is no such way for the global PIN.
func (s *session) Unblock(ctx context.Context, puk, fresh *secret.PIN) error {
	if s.card.pinRef != data.ApplicationPIN {
		return &token.Error{Kind: token.ErrNotSupported, Err: errGlobal}
	}
	if puk.Len() < minNewPIN || puk.Len() > pinBlock {
		return formatError("a PUK has 6 to 8 characters")
	}
	if err := s.card.checkPIN(fresh, minNewPIN); err != nil {
		return err
	}
	return s.replace(ctx, resetName, func(ctx context.Context) (data.PINAnswer, error) {
		return s.conn.sendPIN(ctx, resetName, insReset, data.ApplicationPIN, puk, fresh)
	})
}

// replace sends the command that sets a PIN, in a transaction of its own, and leaves the card locked:
// some have verified the PIN by it.
func (s *session) replace(ctx context.Context, name string, send func(context.Context) (data.PINAnswer, error)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	err := s.set(ctx, name, send)
	if gone := s.lock(ctx); err == nil {
		err = gone
	}
	return err
}

func (s *session) set(ctx context.Context, name string, send func(context.Context) (data.PINAnswer, error)) error {
	a, err := send(ctx)
	if err != nil {
		return s.lostPIN(ctx, name, err)
	}
	if a.Result == data.PINGood {
		s.changed()
		return nil
	}

	if name == resetName {
		// The tries that it tells are those of the PUK.
		s.conn.dirty = a.Result == data.PINFault
		return pinError(pinKinds[a.Result], name, a)
	}
	return s.refusedPIN(name, a)
}

// changed has what was known of the old PIN forgotten.
func (s *session) changed() {
	info := *s.info
	info.PIN.Default = false
	info.PIN.Tries, info.PIN.Said = token.Tries{Most: info.PIN.Tries.Most}, ""
	s.info = &info
	for _, k := range s.card.keys {
		if k.entry != nil && len(k.entry.PINMetadata) > 0 {
			k.entry.PINMetadata = notDefault
			s.module.remember(k)
		}
	}
}
