package logintest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/token"
)

// LogInAndSign implements token.Session.
func (s *session) LogInAndSign(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	if err := s.logIn(ctx, pin); err != nil {
		return token.Signature{}, err
	}
	s.loggedIn = true

	sig, err := s.sign(ctx, pin, choose)
	// Its own error counts more than that the card could not be locked.
	if s.card.LocksAtOnce {
		if out := s.logOut(); err == nil && out != nil {
			return token.Signature{}, out
		}
	}
	return sig, err
}

// SignWithoutPIN implements token.PINless.
func (s *session) SignWithoutPIN(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	if s.info.PIN.Required {
		return token.Signature{}, errors.New("the card wants a log-in")
	}
	return s.sign(ctx, pin, choose)
}

// sign lets the keys of the chosen certificates sign, in order, until one has: of those of Choose,
// of Anew's where they were out of date, and of More's where none of them could.
func (s *session) sign(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	choice, err := choose(s.Certificates(ctx))
	if err != nil {
		return token.Signature{}, err
	}

	sig, ends, err := s.signFirst(ctx, pin, choice)
	// What was remembered of the card is dropped for the rest of the session.
	if errors.Is(err, errStale) {
		s.anew = true
		if choice, err = choice.Anew(s.Certificates(ctx)); err != nil {
			return token.Signature{}, err
		}
		sig, ends, err = s.signFirst(ctx, pin, choice)
	}
	if err == nil || ends || choice.More == nil {
		return sig, err
	}

	more, failed := choice.More(s.Certificates(ctx))
	if failed != nil {
		return token.Signature{}, failed
	}
	if len(more.Objects) == 0 {
		return token.Signature{}, err
	}

	if sig, _, failed = s.signFirst(ctx, pin, more); failed == nil {
		return sig, nil
	}
	// The first key's error stays, unless the second attempt has met one that ends the signing.
	if token.EndsSigning(failed) {
		err = failed
	}
	return token.Signature{}, err
}

// errStale: the card does not hold what was remembered of it.
var errStale = errors.New("the certificate is not the card's any more")

// signFirst lets the keys of one choice sign. ends reports whether after its error no others are
// tried.
func (s *session) signFirst(
	ctx context.Context, pin *secret.PIN, choice token.Choice,
) (sig token.Signature, ends bool, first error) {
	for i, o := range choice.Objects {
		if err := ctx.Err(); err != nil {
			return token.Signature{}, true, err
		}

		sig, ends, err := s.signWith(ctx, o, pin, choice)
		if err == nil {
			sig.Object = i
			return sig, true, nil
		}
		if ends || token.EndsSigning(err) {
			return token.Signature{}, true, err
		}

		if choice.Passed != nil {
			choice.Passed(o, err)
		}
		if first == nil {
			first = err
		}
	}
	return token.Signature{}, false, first
}

// signWith lets the key of one certificate sign. ends reports whether after its error no other is
// tried.
func (s *session) signWith(
	ctx context.Context, o token.Object, pin *secret.PIN, choice token.Choice,
) (sig token.Signature, ends bool, err error) {
	i := int(o.Handle) - 1
	if i < 0 || i >= len(s.objects()) || o.Cert == nil {
		return token.Signature{}, true, errors.New("the object is none of this session")
	}
	object, stale := s.keyObject(i, o)

	key := object.key()
	if key == nil {
		return token.Signature{}, false, token.ErrNoKey
	}

	message, err := choice.Message()
	if err != nil {
		return token.Signature{}, true, err
	}

	again := object.PINAgain && s.card.AtReader
	if choice.Signing != nil {
		done := choice.Signing(token.KeyUse{Object: o, PINAgain: again, Touch: object.Touch})
		defer done()
	}
	if object.PINAgain {
		if ends, err := s.logInForKey(ctx, pin, choice); err != nil {
			return token.Signature{}, ends, err
		}
	}

	leave, err := s.call(ctx, "C_Sign")
	defer leave()
	if err != nil {
		return token.Signature{}, ctx.Err() != nil, err
	}
	if stale { // its key has signed, and not for this certificate
		if choice.Anew == nil {
			return token.Signature{}, false, token.ErrNoKey
		}
		return token.Signature{}, true, errStale
	}
	_, sig.Bytes = key.Sign(testca.Scheme{}, message)
	sig.Scheme = schemeOf(key)
	return sig, false, nil
}

// keyObject is what the card holds in the place of the ith certificate that is shown: its key
// signs. stale reports whether the certificate there is another.
func (s *session) keyObject(i int, o token.Object) (object *Object, stale bool) {
	if i >= len(s.card.Objects) {
		return &Object{}, false
	}
	object = &s.card.Objects[i]
	return object, object.Cert == nil || !bytes.Equal(object.Cert.DER, o.Cert.Raw)
}

// logInForKey verifies the PIN once more. At the reader's keypad that is a second entry.
func (s *session) logInForKey(
	ctx context.Context, pin *secret.PIN, choice token.Choice,
) (ends bool, err error) {
	if s.card.AtReader {
		done, err := choice.PINAgain()
		if err != nil {
			return true, err
		}
		defer done()
		pin = nil
	}
	err = s.logIn(ctx, pin)
	return errors.Is(err, token.ErrCancelled), err
}

// schemeOf is how a key of testca signs when it is not told.
func schemeOf(k *testca.Key) certinfo.SignatureScheme {
	switch public := k.Private.Public().(type) {
	case ed25519.PublicKey:
		return certinfo.SignatureScheme{Kind: certinfo.SchemeEd25519}
	case *ecdsa.PublicKey:
		hash := crypto.SHA256
		if size := public.Curve.Params().BitSize; size > 384 {
			hash = crypto.SHA512
		} else if size == 384 {
			hash = crypto.SHA384
		}
		return certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: hash}
	}
	return certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPKCS1v15, Hash: crypto.SHA256}
}
