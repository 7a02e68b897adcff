package piv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// checkPIN refuses what cannot be a PIN of the card before it is sent: many cards count it as a
// try. least is the least length. Passwords have letters, and are not sent to cards whose PINs have
// none.
func checkPIN(k *card.Card, pin *secret.PIN, least int) error {
	b := pin.Bytes()
	if len(b) < least || len(b) > card.MaxPIN {
		text := fmt.Sprintf("a PIN of this card has %d to %d characters", least, card.MaxPIN)
		return formatError(text)
	}

	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return formatError("a PIN has no such characters")
		}

		// Some cards allow letters, some count them as a wrong PIN.
		if (c < '0' || c > '9') && !k.Kind.AnyPIN {
			return formatError("a PIN of this card has digits only")
		}
	}
	return nil
}

// formatError is the error of a PIN that was not sent.
func formatError(text string) error {
	err := errors.New(text + "; nothing was sent to the card")
	return &token.Error{Kind: token.ErrPINFormat, Err: err, Unsent: true}
}

// noPad is the error of a reader without the keys that are needed; what is "verified" or "changed".
func noPad(what string) error {
	err := fmt.Errorf("no PIN can be %s at this reader", what)
	return &token.Error{Kind: token.ErrNotSupported, Err: err}
}

// enterTime bounds the wait for other programs before a PIN is sent. Our daemon takes the card from
// a program of root's after 10 s; several may be in the queue.
const enterTime = 30 * time.Second

// enter begins the transaction in which a PIN is sent.
func (s *session) enter(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, enterTime)
	defer cancel()
	_, err := s.channel.Enter(within)

	// Where only our own time is over, another program is the reason.
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		err := fmt.Errorf("another program has kept the card for %s", enterTime)
		return &token.Error{Kind: token.ErrInUse, Err: err}
	}
	return sessionError(err)
}

// verify has the card verify the PIN; where it is nil it is typed at the reader. It is sent once,
// and again only to a card that has no PIN of the first key reference: that answer is no try.
func (s *session) verify(ctx context.Context, pin *secret.PIN) error {
	const name = "VERIFY"
	before := s.channel.Dirty

	a, err := s.verifyAs(ctx, pin, s.card.PINRef)
	if err == nil && a.Result == data.PINNoReference && s.card.MayBeGlobal() {
		// Never after another answer: it would be about a PIN with a counter of its own, and a
		// second command a second try.
		a, err = s.verifyAs(ctx, pin, data.GlobalPIN)
		if err == nil && a.Result != data.PINNoReference {
			s.card.PINRef = data.GlobalPIN
		}
	}

	if err != nil {
		return s.lostPIN(ctx, name, err)
	}

	if a.Result != data.PINGood {
		return s.refusedPIN(name, a, before)
	}

	// A key that wants the PIN before each signature can sign now, if nothing else is sent before.
	s.channel.Fresh = true
	return nil
}

// insVerify is the INS of VERIFY (SP 800-73-4 part 2, section 3.2.1).
const insVerify = 0x20

// verifyAs sends VERIFY with one key reference.
func (s *session) verifyAs(ctx context.Context, pin *secret.PIN, ref byte) (data.PINAnswer, error) {
	if pin != nil {
		sw, err := s.channel.SendPIN(ctx, "VERIFY", insVerify, ref, pin)
		return data.InterpretPIN(sw), err
	}
	const feature = "FEATURE_VERIFY_PIN_DIRECT"
	block := data.VerifyPINBlock(ref, s.card.Pad)
	sw, err := s.channel.EnterPIN(ctx, feature, s.card.Features.VerifyPIN, block)
	return data.InterpretPad(sw), err
}

// pinKinds are the errors of the answers to a PIN, by what they mean.
var pinKinds = map[data.PINResult]error{
	data.PINFault:       token.ErrFault,
	data.PINWrong:       token.ErrPINWrong,
	data.PINLocked:      token.ErrPINLocked,
	data.PINFormat:      token.ErrPINFormat,
	data.PINNoReference: token.ErrPINUnsupported,
	data.PINNotHere:     token.ErrPINNotHere,
	data.PINNotPIV:      token.ErrFault,

	data.PadTimeout:   token.ErrCancelled,
	data.PadCancelled: token.ErrCancelled,
	data.PadMismatch:  token.ErrPINFormat,
	data.PadUnable:    token.ErrNotSupported,
}

// pinError returns an error such as "VERIFY: 63C2, the PIN is wrong, 2 tries left".
func pinError(name string, a data.PINAnswer) error {
	e := &token.Error{Kind: pinKinds[a.Result], Err: fmt.Errorf("%s: %s", name, a)}
	if a.Counted {
		e.Tries = token.Tries{Level: card.LevelOf(a.Left, 0), Left: a.Left, Counted: true}
	}
	return e
}

// refusedPIN returns the error of a PIN that the card has not taken. A card that refuses a PIN is
// locked by that, or stays as it was: before is whether something had to be locked when the PIN was
// sent.
func (s *session) refusedPIN(name string, a data.PINAnswer, before bool) error {
	// After a fault nobody knows what the card did with the PIN: it stays to be locked.
	if a.Result != data.PINFault {
		s.channel.Dirty = before
	}
	if a.Result == data.PINWrong || a.Result == data.PINLocked {
		s.noteTries(a)
	}
	return pinError(name, a)
}

// lostPIN returns the error of a PIN to which no answer came: nobody knows whether it was a try. It
// is not sent again. The card is asked for the tries that are left, after SELECT: a card that has
// lost its power for a moment may have another application selected, where VERIFY without a PIN may
// cost a try.
func (s *session) lostPIN(ctx context.Context, name string, err error) error {
	// There is nobody to ask, or nothing to ask about.
	unsent := !s.channel.Dirty
	if unsent || errors.Is(err, token.ErrRemoved) {
		return err
	}
	if ctx.Err() != nil || s.channel.Lost() {
		return err
	}

	e := &token.Error{
		Kind: token.ErrFault,
		Err:  fmt.Errorf("%s: the answer of the card was lost: %v", name, err),
	}
	if s.card.Kind.NoEmptyVerify {
		return e
	}

	_, asked := s.channel.SelectPIV(ctx)
	var a data.PINAnswer
	if asked == nil {
		a, asked = s.reader.AskTries(ctx, s.card.PINRef)
	}

	if errors.Is(asked, token.ErrRemoved) {
		return asked
	}

	// Fewer tries than before show that the PIN was one of them: the caller reports them.
	if asked != nil || a.Result != data.PINWrong && a.Result != data.PINLocked {
		return e
	}

	s.noteTries(a)
	e.Err = fmt.Errorf("%w; to VERIFY without a PIN it says %s now", e.Err, a.Word)
	e.Tries = s.info.PIN.Tries
	return e
}

// leave locks the card again, where that is wanted, and ends the transaction, with a reset of the
// card if need be. It has its own time, also after ctx has ended. The error is about a card that is
// gone.
func (s *session) leave(ctx context.Context) error {
	ch := s.channel
	if ch.Lost() {
		return nil // the channel cleans up when its last call returns
	}
	ctx, cancel := channel.CleanUpContext(ctx)
	defer cancel()

	end := pcsc.LeaveCard
	var err error

	// A reset locks every card; it also disturbs other programs, and so comes second.
	if ch.Dirty && s.mustLock() {
		if err = s.lockCard(ctx); err != nil {
			end = pcsc.ResetCard
			s.reader.Log.Debug("card is reset to lock it", "reader", ch.Reader, "why", err)
		}
	}

	if !errors.Is(err, token.ErrRemoved) {
		err = ch.End(ctx, end)
	}

	switch {
	case err == nil:
		ch.Dirty = false
		return nil
	case errors.Is(err, token.ErrRemoved):
		return ch.GiveUp(err)
	}
	s.reader.Log.Warn("card may stay unlocked", "reader", ch.Reader, "error", err)
	return nil
}

// mustLock reports whether the card has to be locked. With LockFound it is not where another
// program had unlocked it before.
func (s *session) mustLock() bool {
	switch s.lock {
	case LockAlways:
		return true
	case LockNever:
		return false
	}
	return s.card.PIN.Result != data.PINGood
}

// lockCard locks the card with VERIFY and P1 = FF (SP 800-73-4 part 2, section 3.2.1), or returns
// an error where the card does not know that.
func (s *session) lockCard(ctx context.Context) error {
	const name = "VERIFY (lock)"
	if s.card.Kind.NoForget {
		return fmt.Errorf("a %s knows no other way", s.card.Kind.Name)
	}

	// Another application may count the command as a try.
	if s.channel.Unsure {
		if _, err := s.channel.SelectPIV(ctx); err != nil {
			return err
		}
	}

	cmd := channel.Command{
		Name: name,
		INS:  insVerify,
		P1:   0xFF,
		P2:   s.card.PINRef,
	}
	a, err := s.channel.Send(ctx, cmd)
	if err != nil {
		return err
	}
	if a.SW != iso7816.StatusOK {
		return channel.Refused(nil, name, a.SW)
	}
	return nil
}
