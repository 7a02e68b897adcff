package piv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// session is an open card. It implements token.Session.
type session struct {
	module *Module
	conn   *connection
	card   *card
	info   *token.Info
	inside bool // in the transaction of LogInAndSign
}

// Info returns what Slots or Refresh has found.
func (s *session) Info() *token.Info { return s.info }

// Refresh asks the card whether it is still there, and for the tries that are left. It is SELECT and
// an empty VERIFY.
func (s *session) Refresh(ctx context.Context) (*token.Info, error) {
	err := s.conn.transaction(ctx, func(ctx context.Context, _ answer) error {
		if s.card.kind.NoEmptyVerify {
			return nil
		}
		a, err := s.conn.emptyVerify(ctx, s.card.pinRef)
		if err == nil {
			s.noteTries(a)
		}
		return err
	})
	if errors.Is(err, token.ErrRemoved) && s.exchanged(ctx) {
		err = &token.Error{Kind: token.ErrOtherCard, Err: err}
	}
	if err != nil {
		return nil, s.mean(err)
	}
	return s.info, nil
}

// exchanged reports whether there is another card in the reader now. One that shows the same
// certificate may be another one, too, but nobody can tell.
func (s *session) exchanged(ctx context.Context) bool {
	if s.card.first == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, accessTime)
	defer cancel()
	c, err := s.module.dial(ctx, s.conn.reader, 0, nil)
	if err != nil {
		return false
	}
	defer c.close()

	other := false
	err = c.transaction(ctx, func(ctx context.Context, _ answer) error {
		k, err := c.readKey(ctx, s.card.first.ref, true)
		other = err == nil && string(k.piece) != string(s.card.first.piece)
		return err
	})
	return other || errors.Is(err, token.ErrForeign) || errors.Is(err, errNotPIV)
}

// mean is an error in the words of a session: the card was one of PIV, and must answer as one.
func (s *session) mean(err error) error {
	if errors.Is(err, token.ErrForeign) || errors.Is(err, errNotPIV) {
		return &token.Error{Kind: token.ErrFault, Err: fmt.Errorf("the card is none of PIV any more: %v", err)}
	}
	return err
}

// key is what the session knows of a key, and reads what it does not.
func (s *session) key(ctx context.Context, ref KeyRef, places *int) (*key, error) {
	k := s.card.keys[ref]
	if k != nil && (k.object.Cert != nil || !s.inside) {
		return k, nil
	}

	read := func(ctx context.Context, _ answer) error {
		if ref.retired() {
			if err := s.countRetired(ctx, places); err != nil || *places == 0 {
				k = &key{ref: ref}
				return err
			}
		}
		var err error
		if k, err = s.conn.readKey(ctx, ref, s.card.anew); err != nil {
			return err
		}
		return s.finish(ctx, k)
	}
	var err error
	if s.inside {
		err = read(ctx, answer{})
	} else {
		err = s.conn.transaction(ctx, read)
	}
	if err != nil {
		return nil, s.mean(fmt.Errorf("reading the certificate of key %s: %w", ref, err))
	}
	s.card.keys[ref] = k
	return k, nil
}

// countRetired asks, once in a loop, how many retired keys have a certificate on the card. A card
// that does not tell may have all.
func (s *session) countRetired(ctx context.Context, places *int) error {
	if *places >= 0 {
		return nil
	}
	var failed error
	n := s.conn.retiredPlaces(ctx, &failed)
	*places = int(n)
	return failed
}

// finish reads what else there is to know of a key that was just read, and has it remembered.
func (s *session) finish(ctx context.Context, k *key) error {
	if k.cached || k.entry == nil {
		return nil
	}
	if err := s.conn.readMetadata(ctx, s.card, k); err != nil {
		return err
	}
	if first := s.card.first; first != nil && first.entry != nil {
		e := first.entry
		k.entry.APT, k.entry.Discovery, k.entry.PINMetadata = e.APT, e.Discovery, e.PINMetadata
		k.entry.Serial, k.entry.MostTries = e.Serial, e.MostTries
	}
	if s.card.first == nil || s.card.first.ref == k.ref {
		s.card.first = k
	}
	s.module.remember(k)
	return nil
}

// LogInAndSign is one transaction: SELECT, VERIFY, GENERAL AUTHENTICATE, and VERIFY with P1 = FF, which
// locks the card again before the signature is returned.
func (s *session) LogInAndSign(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	if err := ctx.Err(); err != nil {
		return token.Signature{}, err
	}
	if pin != nil {
		if err := s.card.checkPIN(pin, minPIN); err != nil {
			return token.Signature{}, err
		}
	} else if s.card.features.VerifyPIN == 0 {
		return token.Signature{}, noPad("verified")
	}
	if err := s.enter(ctx); err != nil {
		return token.Signature{}, err
	}

	left := false
	defer func() {
		s.inside = false
		if !left { // a function of the caller's has panicked
			s.conn.close()
		}
	}()
	s.inside = true
	sig, err := s.logInAndSign(ctx, pin, choose)
	gone := s.lock(ctx)
	left = true
	switch {
	case err != nil:
		return token.Signature{}, err
	case gone != nil:
		return token.Signature{}, gone
	}
	return sig, nil
}

func (s *session) logInAndSign(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	if err := s.verify(ctx, pin); err != nil {
		return token.Signature{}, err
	}
	s.setTries(token.Tries{Most: s.info.PIN.Tries.Most}, "")
	l := &login{session: s, pin: pin}
	return l.sign(ctx, choose)
}

func noPad(what string) error {
	return &token.Error{Kind: token.ErrNotSupported, Err: fmt.Errorf("no PIN can be %s at this reader", what)}
}

// enterTime bounds the wait for other programs before a PIN is sent. Our daemon lets nobody keep a
// card longer than 10 s from a program of root's.
const enterTime = 15 * time.Second

// enter begins the transaction in which a PIN is sent.
func (s *session) enter(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, enterTime)
	defer cancel()
	_, err := s.conn.enter(within)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		return &token.Error{Kind: token.ErrInUse, Err: fmt.Errorf("another program has kept the card for %s", enterTime)}
	}
	return s.mean(err)
}

// noteTries takes over what an answer of the card tells of the PIN.
func (s *session) noteTries(a data.PINAnswer) {
	s.card.pin = a
	tries, said := s.card.tries()
	s.setTries(tries, said)
}

func (s *session) setTries(tries token.Tries, said string) {
	info := *s.info
	info.PIN.Tries, info.PIN.Said = tries, said
	s.info = &info
}

// Close ends the session. Nothing is left to be locked, but after LogInAndSign has panicked or was
// given up.
func (s *session) Close() error {
	s.conn.close()
	return nil
}
