package piv

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// login is one call of LogInAndSign after the card has taken the PIN.
type login struct {
	*session
	pin    *secret.PIN // nil: typed at the reader
	choice token.Choice
}

// errStale: the certificate that was chosen is not on the card any more.
var errStale = &token.Error{
	Kind: token.ErrNoKey,
	Err:  errors.New("the certificate was known from before, and the card has another one by now"),
}

// sign lets the keys of the chosen objects sign, in order, until one has. A choice that was made from
// what the card does not hold any more is made anew, once.
func (l *login) sign(ctx context.Context, choose token.Choose) (token.Signature, error) {
	for again := false; ; again = true {
		var err error
		if l.choice, err = choose(l.Certificates(ctx)); err != nil {
			return token.Signature{}, err
		}
		sig, err := l.first(ctx)
		if err != errStale || again || l.choice.Anew == nil {
			return sig, err
		}
		choose = l.choice.Anew
	}
}

// first returns the signature of the first object whose key signs.
func (l *login) first(ctx context.Context) (token.Signature, error) {
	var first error
	for i, o := range l.choice.Objects {
		if err := ctx.Err(); err != nil {
			return token.Signature{}, err
		}
		sig, err := l.one(ctx, o)
		var callers *callersError
		switch {
		case err == nil:
			sig.Object = i
			return sig, nil
		case err == errStale && l.choice.Anew != nil, token.EndsSigning(err), errors.Is(err, token.ErrCancelled):
			return token.Signature{}, err
		case ctx.Err() != nil, errors.As(err, &callers):
			return token.Signature{}, err
		}
		if l.choice.Passed != nil {
			l.choice.Passed(o, err)
		}
		if first == nil {
			first = err
		}
	}
	return token.Signature{}, first
}

// callersError is one of a function of the caller's.
type callersError struct{ err error }

func (e *callersError) Error() string { return e.err.Error() }
func (e *callersError) Unwrap() error { return e.err }

// one lets the key of one object sign.
func (l *login) one(ctx context.Context, o token.Object) (token.Signature, error) {
	k := l.card.keys[KeyRef(o.Handle)]
	if o.Handle > 0xFF || o.Cert == nil || k == nil || !k.shown() || k.object.Cert == nil || !k.object.Cert.Equal(o.Cert) {
		return token.Signature{}, errors.New("the object is none of this session")
	}
	s, err := schemeFor(o.Cert.PublicKey, l.card)
	if err != nil {
		return token.Signature{}, err
	}
	message, err := l.choice.Message()
	if err != nil {
		return token.Signature{}, &callersError{err}
	}
	if len(message) > maxMessage {
		return token.Signature{}, &callersError{fmt.Errorf("a message of %d bytes, more than %d", len(message), maxMessage)}
	}

	raw, err := l.use(ctx, k, s, message)
	if k.cached && (doubtful(err) || err == nil && !s.verify(message, raw)) {
		stale, failed := l.stale(ctx, k)
		if failed != nil {
			return token.Signature{}, failed
		}
		if stale {
			return token.Signature{}, errStale
		}
	}
	if err != nil {
		return token.Signature{}, err
	}
	return token.Signature{Scheme: s.scheme, Bytes: raw}, nil
}

// maxMessage is the longest message that is signed, in bytes.
const maxMessage = 2000

// doubtful reports whether the card has refused to sign in a way that another key would explain.
func doubtful(err error) bool {
	var sw iso7816.Status
	return errors.As(err, &sw) && sw != iso7816.StatusSecurity
}

// use has a key make a signature, with the algorithm numbers that may be meant, in order.
func (l *login) use(ctx context.Context, k *key, s *scheme, message []byte) ([]byte, error) {
	input, err := s.input(message)
	if err != nil {
		return nil, err
	}
	again := k.always() && !l.conn.fresh && l.pin == nil
	if l.choice.Signing != nil {
		done := l.choice.Signing(token.KeyUse{Object: k.object, PINAgain: again, Touch: k.touch()})
		defer done()
	}

	for i, algorithm := range s.algorithms {
		if err := l.verifyAgain(ctx, k); err != nil {
			return nil, err
		}
		raw, err := l.generalAuthenticate(ctx, k, algorithm, input)
		var sw iso7816.Status
		other := errors.As(err, &sw) && (sw == iso7816.StatusWrongP1P2 || sw == iso7816.StatusWrongData)
		if other && i < len(s.algorithms)-1 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return raw, s.check(raw)
	}
	return nil, errors.New("no algorithm")
}

// verifyAgain has the PIN verified once more for a key that wants it right before it signs, where
// something else was sent since. The card has taken this PIN in this transaction.
func (l *login) verifyAgain(ctx context.Context, k *key) error {
	if !k.always() || l.conn.fresh {
		return nil
	}
	if l.pin == nil && l.choice.PINAgain != nil {
		done, err := l.choice.PINAgain()
		if err != nil {
			return &callersError{err}
		}
		defer done()
	}
	return l.verify(ctx, l.pin)
}

// Tags of the dynamic authentication template (SP 800-73-4 part 2, table 7).
const (
	tagTemplate  = 0x7C
	tagChallenge = 0x81
	tagResponse  = 0x82
)

// generalAuthenticate is GENERAL AUTHENTICATE (SP 800-73-4 part 2, section 3.2.4) for a signature.
func (l *login) generalAuthenticate(ctx context.Context, k *key, algorithm byte, input []byte) ([]byte, error) {
	name := "GENERAL AUTHENTICATE " + k.ref.String()
	tlv := iso7816.AppendTLV
	a, err := l.conn.send(ctx, command{
		name:    name,
		ins:     0x87,
		p1:      algorithm,
		p2:      byte(k.ref),
		data:    tlv(nil, tagTemplate, tlv(tlv(nil, tagResponse), tagChallenge, input)),
		answers: true,
	})
	if err != nil {
		return nil, err
	}
	if a.sw != iso7816.StatusOK {
		return nil, refused(l.meaning(k, a.sw), name, a.sw)
	}

	tag, body, _, ok := iso7816.ReadTLV(a.data)
	if !ok || tag != tagTemplate {
		return nil, malformed(name, "the answer has no template 7C")
	}
	tag, raw, _, ok := iso7816.ReadTLV(body)
	if !ok || tag != tagResponse || len(raw) == 0 {
		return nil, malformed(name, "the answer has no signature")
	}
	return raw, nil
}

// meaning is what a refusal to sign means; nil is nothing special.
func (l *login) meaning(k *key, sw iso7816.Status) error {
	switch sw {
	case iso7816.StatusSecurity:
		if t := k.touch(); t == token.TouchAlways || t == token.TouchCached {
			return token.ErrTouch
		}
	case iso7816.StatusNoReference, iso7816.StatusConditions, iso7816.StatusWrongP1P2,
		iso7816.StatusWrongData, iso7816.StatusWrongLength, iso7816.StatusUnknown:
		return token.ErrNoKey // cards differ in how they say that there is none, or another one
	case iso7816.StatusWrongINS, iso7816.StatusWrongCLA, iso7816.StatusMemoryFailure:
		return token.ErrFault
	}
	return nil
}

// stale reads the certificate of a key that was known from the cache as the card has it, and reports
// whether it is another one. Then all that was known from the cache is forgotten.
func (l *login) stale(ctx context.Context, k *key) (bool, error) {
	fresh, err := l.conn.readKey(ctx, k.ref, true)
	if err != nil {
		return false, err
	}
	if fresh.object.Cert != nil && fresh.object.Cert.Equal(k.object.Cert) {
		k.cached = false
		return false, nil
	}

	l.module.log.Info("card has another certificate than it had when it was seen before", "reader", l.conn.reader, "key", k.ref.String())
	for ref, other := range l.card.keys {
		if other.cached {
			l.module.forget(other)
			delete(l.card.keys, ref)
		}
	}
	l.card.anew = true
	l.card.keys[k.ref] = fresh
	return true, l.finish(ctx, fresh)
}

// Certificates reads the certificates of the keys that are configured, each when the loop asks for
// it, and once in a session.
func (s *session) Certificates(ctx context.Context) iter.Seq2[token.Object, error] {
	return func(yield func(token.Object, error) bool) {
		places := -1 // of retired keys, once they are asked for
		for _, ref := range s.module.keys {
			k, err := s.key(ctx, ref, &places)
			if err != nil {
				yield(token.Object{}, err)
				return
			}
			if k.shown() && !yield(k.object, nil) {
				return
			}
		}
	}
}
