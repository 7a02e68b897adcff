package piv

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/token"
)

// logInAndSign verifies the PIN and lets a key sign, in one transaction, after which the card is
// locked.
func logInAndSign(
	ctx context.Context, s *session, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	if err := ctx.Err(); err != nil {
		return token.Signature{}, err
	}

	if pin != nil {
		if err := checkPIN(s.card, pin, card.MinPIN); err != nil {
			return token.Signature{}, err
		}
	} else if s.card.Features.VerifyPIN == 0 {
		return token.Signature{}, noPad("verified")
	}

	if err := s.enter(ctx); err != nil {
		return token.Signature{}, err
	}

	// A panic in a function of the caller's must not leave an unlocked card: closing resets it.
	left := false
	defer func() {
		s.inside = false
		if !left {
			s.channel.Close()
		}
	}()

	s.inside = true
	l := &login{session: s, pin: pin}
	sig, err := l.run(ctx, choose)

	// The card is locked before anything is returned, whatever the result.
	gone := s.leave(ctx)
	left = true

	// Only a signature that was checked proves that the cache would be right.
	if l.proved != nil {
		s.reader.Remember(l.proved)
	}

	switch {
	case err != nil:
		return token.Signature{}, err
	case gone != nil:
		return token.Signature{}, gone
	}
	return sig, nil
}

// login is one call of LogInAndSign, inside its transaction.
type login struct {
	*session
	pin    *secret.PIN // nil: typed at the reader
	choice token.Choice
	proved *card.Key // the key whose signature was checked; nil: none yet
}

// errStale is returned where the certificate that was chosen is no longer on the card.
var errStale = &token.Error{
	Kind: token.ErrNoKey,
	Err:  errors.New("the certificate was known from before, and the card has another one by now"),
}

// run verifies the PIN, and lets the keys of the chosen objects sign, in order, until one has.
// Where the choice was made from the cache, and the card has another certificate, the choice is
// made anew, once.
func (l *login) run(ctx context.Context, choose token.Choose) (token.Signature, error) {
	if l.card.Kind.TouchHangs {
		if err := l.channel.Settle(ctx); err != nil {
			return token.Signature{}, err
		}
	}
	if err := l.verify(ctx, l.pin); err != nil {
		return token.Signature{}, err
	}

	// The card has reset its counter: what was known of the tries is out of date.
	l.setTries(token.Tries{Most: l.info.PIN.Tries.Most}, "")

	for again := false; ; again = true {
		var err error
		if l.choice, err = choose(l.Certificates(ctx)); err != nil {
			return token.Signature{}, err
		}

		sig, err := l.signFirst(ctx)
		switch {
		case err == errStale && !again && l.choice.Anew != nil:
			choose = l.choice.Anew
		case err == nil || err == errStale || l.ends(err) || ctx.Err() != nil || l.choice.More == nil:
			return sig, err
		default:
			return l.signMore(ctx, err)
		}
	}
}

// signMore lets further keys sign, which the caller chooses once it has read on, after none of
// those before has. first is the error of the first of them.
func (l *login) signMore(ctx context.Context, first error) (token.Signature, error) {
	var err error
	if l.choice, err = l.choice.More(l.Certificates(ctx)); err != nil {
		return token.Signature{}, err
	}
	if len(l.choice.Objects) == 0 {
		return token.Signature{}, first
	}

	// A choice is made anew before this one, or not at all.
	l.choice.Anew = nil
	sig, err := l.signFirst(ctx)
	if err == nil || l.ends(err) || ctx.Err() != nil {
		return sig, err
	}
	return token.Signature{}, first
}

// signFirst returns the signature of the first object whose key signs, else the error of the first
// object.
func (l *login) signFirst(ctx context.Context) (token.Signature, error) {
	var first error
	for i, o := range l.choice.Objects {
		if err := ctx.Err(); err != nil {
			return token.Signature{}, err
		}

		sig, err := l.signWith(ctx, o)
		if err == nil {
			sig.Object = i
			return sig, nil
		}

		if l.ends(err) || ctx.Err() != nil {
			return token.Signature{}, err
		}

		if l.choice.Passed != nil {
			l.choice.Passed(o, err)
		}
		// The first object is the one that the caller prefers: its error is the one to report.
		if first == nil {
			first = err
		}
	}
	return token.Signature{}, first
}

// callersError is an error of a function of the caller's.
type callersError struct{ err error }

// Error implements error.
func (e *callersError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *callersError) Unwrap() error { return e.err }

// ends reports whether no other key is tried after this error of a key.
func (l *login) ends(err error) bool {
	var callers *callersError
	switch {
	case err == errStale && l.choice.Anew != nil:
		return true
	case token.EndsSigning(err), errors.Is(err, token.ErrCancelled):
		return true
	}
	return errors.As(err, &callers)
}

// maxMessage is the longest message that is signed, in bytes.
const maxMessage = 2000

// signWith lets the key of one object sign. What the cache has said counts only where the signature
// confirms it.
func (l *login) signWith(ctx context.Context, o token.Object) (token.Signature, error) {
	k := l.keyOf(o)
	if k == nil {
		return token.Signature{}, errors.New("the object is none that this session has shown")
	}

	s, err := schemeFor(o.Cert.PublicKey, l.card)
	if err != nil {
		return token.Signature{}, err
	}

	message, err := l.choice.Message()
	if err == nil && len(message) > maxMessage {
		err = fmt.Errorf("a message of %d bytes, more than %d", len(message), maxMessage)
	}
	if err != nil {
		return token.Signature{}, &callersError{err}
	}

	raw, err := l.sign(ctx, k, s, message)

	// The check costs no command, and shows whether the certificate is the key's.
	good := err == nil && s.verify(message, raw)
	if good {
		k.Proved = true
		l.proved = k
	}

	// Another key would explain a refusal, or a signature that does not fit.
	misfit := err == nil && !good
	if k.Cached && (mayBeStale(err) || misfit) {
		stale, failed := l.replaceStale(ctx, k)
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

// keyOf returns the key of an object, if this session has shown it as it is; nil where it has not.
func (l *login) keyOf(o token.Object) *card.Key {
	if o.Handle > 0xFF || o.Cert == nil {
		return nil
	}

	k := l.card.Keys[byte(o.Handle)]
	if k == nil || !k.Shown() {
		return nil
	}

	// The certificate may have been read anew since the caller got the object.
	if k.Object.Cert == nil || !k.Object.Cert.Equal(o.Cert) {
		return nil
	}
	return k
}

// mayBeStale reports whether the card has refused to sign in a way that another key would explain.
func mayBeStale(err error) bool {
	var sw iso7816.Status
	return errors.As(err, &sw) && sw != iso7816.StatusSecurity
}

// replaceStale reads the certificate of a key that was known from the cache as the card has it, and
// reports whether it is another one. Then all that was known from the cache is removed.
func (l *login) replaceStale(ctx context.Context, k *card.Key) (bool, error) {
	fresh, err := l.reader.Key(ctx, k.Ref, true)
	if err != nil {
		return false, err
	}

	if fresh.Object.Cert != nil && fresh.Object.Cert.Equal(k.Object.Cert) {
		k.Cached = false
		return false, nil
	}

	l.reader.Log.Info("card has another certificate than it had when it was seen before",
		"reader", l.channel.Reader, "key", fmt.Sprintf("%02X", k.Ref))

	// The entry of the cache goes, too: the next login reads the card.
	l.reader.Replace(l.card, fresh)
	if err := l.reader.Finish(ctx, l.card, fresh); err != nil {
		return true, err
	}
	if err := l.reader.Rename(ctx, l.card); err != nil {
		return true, err
	}

	info := *l.info
	info.Label = l.card.Info().Label
	l.info = &info
	return true, nil
}

// sign lets a key sign, with the algorithm identifiers that it may have, in order.
func (l *login) sign(ctx context.Context, k *card.Key, s *scheme, message []byte) ([]byte, error) {
	input, err := s.input(message)
	if err != nil {
		return nil, err
	}

	if l.choice.Signing != nil {
		// A reader with keys asks for the PIN once more: the user must know that before it blinks.
		again := k.Always() && !l.channel.Fresh && l.pin == nil
		done := l.choice.Signing(token.KeyUse{Object: k.Object, PINAgain: again, Touch: k.Touch()})
		defer done()
	}

	for i, algorithm := range s.algorithms {
		if err := l.verifyAgain(ctx, k); err != nil {
			return nil, err
		}

		raw, err := l.generalAuthenticate(ctx, k, algorithm, input)

		// Makers number some algorithms differently: a card refuses those that it does not know.
		last := i == len(s.algorithms)-1
		other := errors.Is(err, iso7816.StatusWrongP1P2) || errors.Is(err, iso7816.StatusWrongData)
		if other && !last {
			continue
		}
		if err != nil {
			return nil, err
		}
		return raw, s.check(raw)
	}
	return nil, noKey("no algorithm is known for the key")
}

// verifyAgain has the PIN verified once more for a key that wants it right before it signs, where
// something else was sent since. The card has taken this PIN in this transaction: it is no risk to
// send it again.
func (l *login) verifyAgain(ctx context.Context, k *card.Key) error {
	if !k.Always() || l.channel.Fresh {
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

// generalAuthenticate sends GENERAL AUTHENTICATE (SP 800-73-4 part 2, section 3.2.4) for a
// signature.
func (l *login) generalAuthenticate(
	ctx context.Context, k *card.Key, algorithm byte, input []byte,
) ([]byte, error) {
	name := fmt.Sprintf("GENERAL AUTHENTICATE %02X", k.Ref)
	// The empty response 82 asks for the signature of the challenge 81.
	tlv := iso7816.AppendTLV

	a, err := l.channel.Send(ctx, channel.Command{
		Name:    name,
		INS:     0x87,
		P1:      algorithm,
		P2:      k.Ref,
		Data:    tlv(nil, tagTemplate, tlv(tlv(nil, tagResponse), tagChallenge, input)),
		Answers: true,
	})
	if err != nil {
		return nil, err
	}
	if a.SW != iso7816.StatusOK {
		return nil, channel.Refused(meaning(k, a.SW), name, a.SW)
	}

	tag, body, _, ok := iso7816.ReadTLV(a.Data)
	if !ok || tag != tagTemplate {
		return nil, channel.Malformed(name, "the answer has no template 7C")
	}
	tag, raw, _, ok := iso7816.ReadTLV(body)
	if !ok || tag != tagResponse || len(raw) == 0 {
		return nil, channel.Malformed(name, "the answer has no signature")
	}
	return raw, nil
}

// meaning returns what a refusal to sign means; nil where it means nothing special.
func meaning(k *card.Key, sw iso7816.Status) error {
	switch sw {
	case iso7816.StatusSecurity:
		// A key that wants a touch and does not get it refuses with the same word.
		if t := k.Touch(); t == token.TouchAlways || t == token.TouchCached {
			return token.ErrTouch
		}
	case iso7816.StatusNoReference, iso7816.StatusConditions, iso7816.StatusWrongP1P2,
		iso7816.StatusWrongData, iso7816.StatusWrongLength, iso7816.StatusUnknown:
		// Cards differ in how they say that there is no key, or one of another kind.
		return token.ErrNoKey
	case iso7816.StatusWrongINS, iso7816.StatusWrongCLA, iso7816.StatusMemoryFailure:
		return token.ErrFault
	}
	return nil
}
