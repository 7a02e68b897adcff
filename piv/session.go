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
	channel *channel.Channel // the reader's
	card    *card.Card
	info    *token.Info
	lock    LockMode
	options *channel.Options

	inside bool // in the transaction of LogInAndSign
}

// Info returns what Slots or Refresh has found.
func (s *session) Info() *token.Info { return s.info }

// Refresh asks the card whether it is still there, and for the tries that are left. It is SELECT
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
	if errors.Is(err, token.ErrRemoved) && s.exchanged(ctx) {
		text := fmt.Errorf("another card is in the reader: %v", err)
		err = &token.Error{Kind: token.ErrOtherCard, Err: text}
	}
	if err != nil {
		return nil, mean(err)
	}
	return s.info, nil
}

// exchangedTime bounds the look at the card that may have taken this one's place.
const exchangedTime = 2 * time.Second

// exchanged reports whether there is another card in the reader now. One that shows the same
// certificate may be another one, too, but nobody can tell.
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

	other := false
	err = ch.Transaction(ctx, func(ctx context.Context, _ channel.Answer) error {
		r := card.Reader{Settings: s.reader.Settings, Channel: ch}
		k, err := r.Key(ctx, s.card.First.Ref, true)
		other = err == nil && string(k.Piece) != string(s.card.First.Piece)
		return err
	})
	return other || errors.Is(err, token.ErrForeign) || errors.Is(err, card.ErrNotPIV)
}

// mean is an error in the words of a session: the card was one of PIV, and must answer as one.
func mean(err error) error {
	if errors.Is(err, token.ErrForeign) || errors.Is(err, card.ErrNotPIV) {
		err := fmt.Errorf("the card is none of PIV any more: %v", err)
		return &token.Error{Kind: token.ErrFault, Err: err}
	}
	return err
}

// Certificates reads the certificates of the keys that are configured, each when the loop asks for
// it, and once in a session. After LogInAndSign has found that the cache was wrong, or where there
// was none before, the card is asked again.
func (s *session) Certificates(ctx context.Context) iter.Seq2[token.Object, error] {
	return func(yield func(token.Object, error) bool) {
		places := unasked
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

// Numbers of retired keys with a certificate that are none.
const (
	unasked = -1
	untold  = -2
)

// key is what the session knows of a key, and reads what it does not.
func (s *session) key(ctx context.Context, ref byte, places *int) (*card.Key, error) {
	k := s.card.Keys[ref]
	if k != nil && (k.Object.Cert != nil || !s.inside) {
		return k, nil
	}

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
		return nil, mean(fmt.Errorf("reading the certificate of key %02X: %w", ref, err))
	}
	s.card.Keys[ref] = k
	return k, nil
}

// readKey reads a key inside a transaction. Retired ones are not asked for where the card's history
// knows of none.
func (s *session) readKey(ctx context.Context, ref byte, places *int) (*card.Key, error) {
	if data.IsRetired(ref) && *places == unasked {
		n, known, err := s.reader.RetiredPlaces(ctx)
		if err != nil {
			return nil, err
		}
		if *places = n; !known {
			*places = untold
		}
	}
	if data.IsRetired(ref) && *places == 0 {
		return &card.Key{Ref: ref}, nil
	}

	k, err := s.reader.Key(ctx, ref, s.card.Anew)
	if err != nil {
		return nil, err
	}
	return k, s.reader.Finish(ctx, s.card, k)
}

// noteTries takes over what an answer of the card tells of the PIN.
func (s *session) noteTries(a data.PINAnswer) {
	s.card.PIN = a
	tries, said := s.card.Tries()
	s.setTries(tries, said)
}

// setTries makes a new Info: one that was given away is never changed.
func (s *session) setTries(tries token.Tries, said string) {
	info := *s.info
	info.PIN.Tries, info.PIN.Said = tries, said
	s.info = &info
}

// LogInAndSign is one transaction: SELECT, VERIFY, GENERAL AUTHENTICATE, and VERIFY with P1 = FF,
// which locks the card again before the signature is returned.
func (s *session) LogInAndSign(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	return logInAndSign(ctx, s, pin, choose)
}

// ChangePIN is one CHANGE REFERENCE DATA. The old PIN is not verified before: that would be two
// tries.
func (s *session) ChangePIN(ctx context.Context, old, fresh *secret.PIN) error {
	return changePIN(ctx, s, old, fresh)
}

// Unblock is one RESET RETRY COUNTER, with the PUK. There is no such way for the global PIN.
func (s *session) Unblock(ctx context.Context, puk, fresh *secret.PIN) error {
	return unblock(ctx, s, puk, fresh)
}

// PUK is GET METADATA of the PUK, where the card may have that.
func (s *session) PUK(ctx context.Context) (token.PUK, error) { return stateOfPUK(ctx, s) }

// Close ends the session. Nothing is left to be locked, but after a call that was given up: the
// card is then reset when that returns.
func (s *session) Close() error {
	s.channel.Close()
	return nil
}
