package piv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// session is an open card. It implements token.Session.
type session struct {
	reader  *card.Reader
	channel *channel.Channel // that of reader
	card    *card.Card
	info    *token.Info
	lock    LockMode
	options *channel.Options

	inside bool // in the transaction of LogInAndSign
}

// Info returns what Slots or Refresh has found. It is never changed afterwards.
func (s *session) Info() *token.Info { return s.info }

// Refresh asks the card whether it is still there, and for the tries that are left. It sends SELECT
// and an empty VERIFY.
func (s *session) Refresh(ctx context.Context) (*token.Info, error) {
	err := s.channel.Transaction(ctx, func(ctx context.Context, _ channel.Answer) error {
		if s.card.Kind.NoEmptyVerify {
			return nil
		}
		a, err := s.reader.AskTries(ctx, s.card.PINRef)
		if err == nil {
			s.noteTries(a)
		}
		return err
	})

	// For the user "another card" is not "removed": he has to put the right one back.
	if errors.Is(err, token.ErrRemoved) && s.exchanged(ctx) {
		text := fmt.Errorf("another card is in the reader: %v", err)
		err = &token.Error{Kind: token.ErrOtherCard, Err: text}
	}

	if err != nil {
		return nil, sessionError(err)
	}
	return s.info, nil
}

// exchangedTime bounds the look at the card that may have been put in instead.
const exchangedTime = 2 * time.Second

// exchanged reports whether there is another card in the reader now. A card with the same
// certificate cannot be told from this one.
func (s *session) exchanged(ctx context.Context) bool {
	if s.card.First == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, exchangedTime)
	defer cancel()

	ch, err := channel.Dial(ctx, s.options, s.channel.Reader, 0, nil)
	if err != nil {
		return false
	}
	defer ch.Close()

	// The beginning of the first certificate is how a card is known again, here as in the cache.
	other := false
	err = ch.Transaction(ctx, func(ctx context.Context, _ channel.Answer) error {
		r := card.Reader{Settings: s.reader.Settings, Channel: ch}
		k, err := r.Key(ctx, s.card.First.Ref, true)
		other = err == nil && string(k.Piece) != string(s.card.First.Piece)
		return err
	})
	return other || errors.Is(err, token.ErrForeign) || errors.Is(err, card.ErrNotPIV)
}

// sessionError converts an error of the card for a session: the card was one of PIV, and must
// answer as one.
func sessionError(err error) error {
	if errors.Is(err, token.ErrForeign) || errors.Is(err, card.ErrNotPIV) {
		err := fmt.Errorf("the card is none of PIV any more: %v", err)
		return &token.Error{Kind: token.ErrFault, Err: err}
	}
	return err
}

// Certificates reads the certificates of the keys that are configured, each when the loop asks for
// it, and once in a session. After LogInAndSign has found that the cache was wrong, or where there
// was no certificate before, it asks the card again.
func (s *session) Certificates(ctx context.Context) iter.Seq2[token.Object, error] {
	return func(yield func(token.Object, error) bool) {
		// Retired keys cost a command each: the card's history says whether there are any.
		places := placesUnread
		for _, ref := range s.reader.Keys {
			k, err := s.key(ctx, ref, &places)
			if err != nil {
				yield(token.Object{}, err)
				return
			}
			if k.Shown() && !yield(k.Object, nil) {
				return
			}
		}
	}
}

// Numbers of retired keys with a certificate that are none: the history was not read, or there is
// none.
const (
	placesUnread  = -1
	placesUnknown = -2
)

// key returns what the session knows of a key, and reads it where nothing is known.
func (s *session) key(ctx context.Context, ref byte, places *int) (*card.Key, error) {
	k := s.card.Keys[ref]

	// Inside LogInAndSign the card is asked again for a certificate that it did not have: what it
	// has now decides.
	if k != nil && (k.Object.Cert != nil || !s.inside) {
		return k, nil
	}

	// Inside LogInAndSign the transaction is open already.
	read := func(ctx context.Context, _ channel.Answer) (err error) {
		k, err = s.readKey(ctx, ref, places)
		return err
	}

	var err error
	if s.inside {
		err = read(ctx, channel.Answer{})
	} else {
		err = s.channel.Transaction(ctx, read)
	}
	if err != nil {
		return nil, sessionError(fmt.Errorf("reading the certificate of key %02X: %w", ref, err))
	}

	s.card.Keys[ref] = k
	return k, nil
}

// readKey reads a key inside a transaction. Retired keys are not read where the card's history has
// none.
func (s *session) readKey(ctx context.Context, ref byte, places *int) (*card.Key, error) {
	if data.IsRetired(ref) && *places == placesUnread {
		n, known, err := s.reader.RetiredPlaces(ctx)
		if err != nil {
			return nil, err
		}
		*places = n
		if !known {
			*places = placesUnknown
		}
	}
	if data.IsRetired(ref) && *places == 0 {
		return &card.Key{Ref: ref}, nil
	}

	k, err := s.reader.Key(ctx, ref, s.card.Anew)
	if err != nil {
		return nil, err
	}

	// Metadata says whether the key wants a PIN or a touch.
	return k, s.reader.Finish(ctx, s.card, k)
}

// noteTries takes over what an answer of the card says of the PIN.
func (s *session) noteTries(a data.PINAnswer) {
	s.card.PIN = a
	tries, said := s.card.Tries()
	s.setTries(tries, said)
}

// setTries makes a new Info: one that was handed out is never changed.
func (s *session) setTries(tries token.Tries, said string) {
	info := *s.info
	info.PIN.Tries = tries
	info.PIN.Said = said
	s.info = &info
}

// LogInAndSign is one transaction: SELECT, VERIFY, GENERAL AUTHENTICATE, and VERIFY with P1 = FF,
// which locks the card again before the signature is returned.
func (s *session) LogInAndSign(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	return logInAndSign(ctx, s, pin, choose)
}

// ChangePIN sends one CHANGE REFERENCE DATA. The old PIN is not verified before: that would be two
// tries.
func (s *session) ChangePIN(ctx context.Context, old, fresh *secret.PIN) error {
	return changePIN(ctx, s, old, fresh)
}

// Unblock sends one RESET RETRY COUNTER, with the PUK. There is no such way for the global PIN.
func (s *session) Unblock(ctx context.Context, puk, fresh *secret.PIN) error {
	return unblock(ctx, s, puk, fresh)
}

// PUK sends GET METADATA of the PUK, where the card may know that.
func (s *session) PUK(ctx context.Context) (token.PUK, error) { return stateOfPUK(ctx, s) }

// Close ends the session. The card is locked already, but after a call that was given up: then it
// is reset when that call returns.
func (s *session) Close() error {
	s.channel.Close()
	return nil
}
