package logintest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// session implements token.Session and token.PINless.
type session struct {
	module   *module
	reader   *reader
	card     *Card
	info     *token.Info
	loggedIn bool
	changed  bool // its PIN: only Info, Refresh and Close are left then
	anew     bool // what was remembered of the card is known to be out of date
	closed   bool
}

var (
	_ token.PINless   = (*session)(nil)
	_ token.PUKTeller = (*session)(nil)
	_ token.Doubter   = (*session)(nil)
)

// What a session says that was used after its end.
var (
	errClosed  = errors.New("the session is closed")
	errChanged = errors.New("the PIN was changed in this session")
)

// call begins a call to the card, and reports where that is not the card any more.
func (s *session) call(ctx context.Context, name string) (leave func(), err error) {
	switch {
	case s.closed:
		return func() {}, errClosed
	case s.changed && name != "C_GetTokenInfo":
		return func() {}, errChanged
	}

	if err := s.here(); err != nil {
		return func() {}, err // nothing reaches another card
	}
	leave, err = s.module.enter(ctx, name)
	if err != nil {
		return leave, err
	}
	return leave, s.here() // Before may have changed that
}

// here reports whether the card is the one that was opened.
func (s *session) here() error {
	r := s.module.readers
	r.mu.Lock()
	defer r.mu.Unlock()

	switch c := s.reader.card; {
	case c == nil:
		return &token.Error{Kind: token.ErrRemoved}
	case c != s.card:
		fresh, was := c.info(), s.info
		return &token.Error{
			Kind: token.ErrOtherCard,
			Err: fmt.Errorf("another card is in the reader: %q with serial %q, not %q with serial %q",
				fresh.Label, fresh.Serial, was.Label, was.Serial),
		}
	}
	return s.reader.err
}

// Info implements token.Session.
func (s *session) Info() *token.Info { return s.info }

// Refresh implements token.Session.
func (s *session) Refresh(ctx context.Context) (*token.Info, error) {
	leave, err := s.call(ctx, "C_GetTokenInfo")
	defer leave()
	if err != nil {
		return nil, err
	}

	s.locked(func() { s.info = s.card.info() })
	return s.info, nil
}

// locked runs f while nobody else looks at the card.
func (s *session) locked(f func()) {
	s.module.readers.mu.Lock()
	defer s.module.readers.mu.Unlock()
	f()
}

// Certificates implements token.Session. There is one call for each certificate.
func (s *session) Certificates(ctx context.Context) iter.Seq2[token.Object, error] {
	return func(yield func(token.Object, error) bool) {
		for i := 0; ; i++ {
			o, more, err := s.certificate(ctx, i)
			if err != nil {
				yield(token.Object{}, err)
				return
			}
			if !more || !yield(o, nil) {
				return
			}
		}
	}
}

// certificate is the ith of those that the card shows now.
func (s *session) certificate(ctx context.Context, i int) (o token.Object, more bool, err error) {
	leave, err := s.call(ctx, "C_FindObjects")
	defer leave()
	if err != nil {
		return token.Object{}, false, err
	}

	s.locked(func() {
		objects := s.objects()
		// A card that hides its certificates shows an empty list before its log-in.
		if s.card.Hides && !s.loggedIn {
			objects = nil
		}
		if more = i < len(objects); more {
			o = object(objects, i)
			// What comes from memory is not read from the card.
			if !s.remembers() {
				s.card.Reads++
			}
		}
	})
	return o, more, nil
}

// remembers reports whether certificates are shown from memory.
func (s *session) remembers() bool { return s.card.Remembered != nil && !s.anew }

// objects are the certificates that the session shows.
func (s *session) objects() []Object {
	if s.remembers() {
		return s.card.Remembered
	}
	return s.card.Objects
}

// logIn sends one PIN, or has it typed at the reader.
func (s *session) logIn(ctx context.Context, pin *secret.PIN) error {
	leave, err := s.call(ctx, "C_Login")
	defer leave()
	if err != nil {
		return err
	}

	s.locked(func() {
		// Without a PIN the entry at the reader's keypad counts.
		entry := string(pin.Bytes())
		switch {
		case pin == nil && !s.card.AtReader:
			err = errors.New("there is no keypad for the PIN")
		case pin == nil:
			entry, err = s.card.typed()
		}
		if err == nil {
			err = s.card.verify(entry)
		}
	})
	return err
}

// ChangePIN implements token.Session.
func (s *session) ChangePIN(ctx context.Context, old, fresh *secret.PIN) error {
	// A PIN is changed with the card locked: C_SetPIN takes the old PIN for itself.
	if err := s.logOut(); err != nil {
		return err
	}

	leave, err := s.call(ctx, "C_SetPIN")
	defer leave()
	if err != nil {
		return err
	}

	s.changed = true
	s.locked(func() { err = s.card.changePIN(old, fresh) })
	return err
}

// changePIN takes both PINs, or has them typed at the reader: the new one twice.
func (c *Card) changePIN(old, fresh *secret.PIN) error {
	was, is := string(old.Bytes()), string(fresh.Bytes())
	if old == nil && fresh == nil {
		var entries [3]string
		for i := range entries {
			entry, err := c.typed()
			if err != nil {
				return err
			}
			entries[i] = entry
		}
		was, is = entries[0], entries[1]
		// The reader compares the two new ones, and sends nothing where they differ.
		if entries[1] != entries[2] {
			return &token.Error{Kind: token.ErrCancelled}
		}
	}

	if err := c.verify(was); err != nil {
		return err
	}
	if !c.fits(is) {
		return &token.Error{Kind: token.ErrPINFormat}
	}
	c.PIN = is
	return nil
}

// Unblock implements token.Session.
func (s *session) Unblock(ctx context.Context, puk, fresh *secret.PIN) error {
	leave, err := s.call(ctx, "C_InitPIN")
	defer leave()
	if err != nil {
		return err
	}

	s.locked(func() { err = s.card.unblock(string(puk.Bytes()), string(fresh.Bytes())) })
	return err
}

// PUK implements token.PUKTeller.
func (s *session) PUK(ctx context.Context) (token.PUK, error) {
	leave, err := s.call(ctx, "C_GetTokenInfo")
	defer leave()
	if err != nil {
		return token.PUK{}, err
	}

	puk, err := token.PUK{}, error(nil)
	s.locked(func() {
		if s.card.PUK == "" {
			err = &token.Error{Kind: token.ErrNotSupported, Err: errors.New("this card has no PUK")}
			return
		}
		puk = token.PUK{Default: s.card.DefaultPUK, Tries: s.card.triesOfPUK()}
	})
	return puk, err
}

// WhyUnproved implements token.Doubter.
func (s *session) WhyUnproved() string { return s.card.Unproved }

// logOut locks the card where this session has unlocked it.
func (s *session) logOut() error {
	if !s.loggedIn {
		return nil
	}

	s.loggedIn = false
	leave, err := s.module.enter(context.Background(), "C_Logout")
	leave()
	return err
}

// Close implements token.Session.
func (s *session) Close() error {
	if s.closed {
		return nil
	}

	out := s.logOut()
	leave, err := s.module.enter(context.Background(), "C_CloseSession")
	leave()
	s.closed = true
	s.locked(func() { s.module.readers.open-- })
	return errors.Join(out, err)
}
