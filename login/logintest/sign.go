package logintest

import (
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
	return s.sign(ctx, pin, choose)
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

// sign lets the keys of the chosen certificates sign, in order, until one has.
func (s *session) sign(
	ctx context.Context, pin *secret.PIN, choose token.Choose,
) (token.Signature, error) {
	choice, err := choose(s.Certificates(ctx))
	if err != nil {
		return token.Signature{}, err
	}

	var first error
	for i, o := range choice.Objects {
		if err := ctx.Err(); err != nil {
			return token.Signature{}, err
		}
		sig, ends, err := s.signWith(ctx, o, pin, choice)
		if err == nil {
			sig.Object = i
			return sig, nil
		}
		if ends || token.EndsSigning(err) {
			return token.Signature{}, err
		}
		if choice.Passed != nil {
			choice.Passed(o, err)
		}
		if first == nil {
			first = err
		}
	}
	return token.Signature{}, first
}

// signWith lets the key of one certificate sign. ends reports whether after its error no other is
// tried.
func (s *session) signWith(
	ctx context.Context, o token.Object, pin *secret.PIN, choice token.Choice,
) (sig token.Signature, ends bool, err error) {
	i := int(o.Handle) - 1
	if i < 0 || i >= len(s.card.Objects) || o.Cert == nil {
		return token.Signature{}, true, errors.New("the object is none of this session")
	}
	object := &s.card.Objects[i]
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
		done := choice.Signing(token.KeyUse{Object: o, PINAgain: again})
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
	_, sig.Bytes = key.Sign(testca.Scheme{}, message)
	sig.Scheme = schemeOf(key)
	return sig, false, nil
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
