package pkcs11

import (
	"context"
	"errors"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// sign lets the keys of the chosen objects sign, in order, until one has: those of Choose, and
// those of More where none of them could.
func (c *card) sign(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	choice, err := choose(c.Certificates(ctx))
	if err != nil {
		return token.Signature{}, err
	}

	sig, err := c.signFirst(ctx, pin, choice)
	if err == nil || choice.More == nil {
		return sig, err
	}
	// The card is lost, or another key would cost another try of the PIN.
	if ctx.Err() != nil || endsSigning(err) {
		return sig, err
	}

	more, failed := choice.More(c.Certificates(ctx))
	if failed != nil {
		return token.Signature{}, failed
	}
	if len(more.Objects) == 0 {
		return token.Signature{}, err
	}

	sig, failed = c.signFirst(ctx, pin, more)
	if failed == nil || ctx.Err() != nil || endsSigning(failed) {
		return sig, failed
	}

	// The first key's error: it is the one that the caller has chosen first.
	return token.Signature{}, err
}

// signFirst lets the keys of one choice sign. When none has, and none of the errors ends it, the
// error is that of the first.
func (c *card) signFirst(ctx context.Context, pin *secret.PIN, choice token.Choice) (token.Signature, error) {
	var first error
	for i, o := range choice.Objects {
		if err := ctx.Err(); err != nil {
			return token.Signature{}, err
		}

		sig, err := c.signOne(o, pin, &choice)
		if err == nil {
			return token.Signature{Object: i, Scheme: sig.Scheme, Bytes: sig.Bytes}, nil
		}
		// signOne may have sent the PIN once more: after a wrong one no other key is tried.
		if endsSigning(err) {
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

// signOne lets the key of one object sign.
func (c *card) signOne(o token.Object, pin *secret.PIN, choice *token.Choice) (Signature, error) {
	key, err := c.session.SigningKey(o)
	if err != nil {
		return Signature{}, err
	}

	// A fresh message for each key, asked for only once there is one.
	message, err := choice.Message()
	if err != nil {
		return Signature{}, &callersError{err}
	}

	if choice.Signing != nil {
		again := key.AlwaysAuthenticate && c.info.PIN.AtReader
		done := choice.Signing(token.KeyUse{Object: o, PINAgain: again})
		defer done()
	}
	return c.session.Sign(key, o.Cert, message, func() error { return c.logInForKey(pin, choice) })
}

// logInForKey verifies the PIN once more for a key that wants it for each signature
// (CKA_ALWAYS_AUTHENTICATE). At a reader's keypad that is a second entry.
func (c *card) logInForKey(pin *secret.PIN, choice *token.Choice) error {
	if !c.info.PIN.AtReader {
		return c.session.LoginContextSpecific(pin)
	}

	if choice.PINAgain != nil {
		done, err := choice.PINAgain()
		if err != nil {
			return &callersError{err}
		}
		defer done()
	}

	if err := c.session.LoginContextSpecific(nil); err != nil {
		return &padError{err}
	}
	return nil
}

// callersError is one of a function of the caller's.
type callersError struct{ err error }

func (e *callersError) Error() string { return e.err.Error() }
func (e *callersError) Unwrap() error { return e.err }

// padError is the failure of an entry at the reader's keypad.
type padError struct{ err error }

func (e *padError) Error() string { return e.err.Error() }
func (e *padError) Unwrap() error { return e.err }

// endsSigning reports whether after this error no other key is tried.
func endsSigning(err error) bool {
	var callers *callersError
	var pad *padError
	switch {
	case token.EndsSigning(err), errors.As(err, &callers):
		return true
	case errors.As(err, &pad):
		return errors.Is(err, token.ErrCancelled)
	}
	return false
}
