package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// card is an open session as a login sees it. It implements token.Session, token.PINless,
// token.PUKTeller and token.Doubter.
type card struct {
	module   *Module
	slot     uint
	info     *token.Info
	session  *Session // nil after Close
	loggedIn bool     // by this session, so that Close logs out
}

// Info returns what Slots or Refresh has found.
func (c *card) Info() *token.Info { return c.info }

// Refresh asks for the token's flags, and whether it is the same token. It needs no session, which
// ChangePIN may have failed to open.
func (c *card) Refresh(context.Context) (*token.Info, error) {
	err := c.refresh()
	switch {
	case errors.Is(err, CKR_SLOT_ID_INVALID): // the reader went with its card
		return nil, &token.Error{Kind: token.ErrRemoved, Err: err}
	case err != nil:
		return nil, err
	}
	return c.info, nil
}

func (c *card) refresh() error {
	k, err := c.module.RefreshToken(c.slot)
	if err != nil {
		return err
	}

	// PKCS#11 has no identity of a card: what the issuer and the maker have written must be the
	// same.
	fresh, was := k.info(), c.info
	same := fresh.Serial == was.Serial && fresh.Label == was.Label &&
		fresh.Manufacturer == was.Manufacturer && fresh.Model == was.Model
	if !same {
		other := fmt.Errorf("another card is in the reader: %q with serial %q, not %q with serial %q",
			fresh.Label, fresh.Serial, was.Label, was.Serial)
		return fmt.Errorf("%w: %w", &token.Error{Kind: token.ErrOtherCard, Err: other}, CKR_TOKEN_NOT_PRESENT)
	}
	c.info = fresh
	return nil
}

// Certificates reads the token's certificates, each when it is asked for.
func (c *card) Certificates(context.Context) iter.Seq2[token.Object, error] {
	if c.session == nil {
		return func(yield func(token.Object, error) bool) { yield(token.Object{}, ErrClosed) }
	}
	return c.session.eachCertificate()
}

// LogInAndSign is C_Login, and what Choose asks for between C_FindObjectsInit and C_Sign.
func (c *card) LogInAndSign(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	if err := ctx.Err(); err != nil {
		return token.Signature{}, err
	}

	if c.session == nil {
		return token.Signature{}, ErrClosed
	}

	// Close logs out only what this session has logged in.
	if err := c.logIn(pin); err != nil {
		return token.Signature{}, err
	}
	c.loggedIn = true
	return c.sign(ctx, pin, choose)
}

// logIn verifies the PIN on the card. A card that another program unlocked is locked again first:
// its state is no proof that this user knows the PIN.
func (c *card) logIn(pin *secret.PIN) error {
	err := c.session.Login(pin)
	if errors.Is(err, CKR_USER_ALREADY_LOGGED_IN) {
		c.module.log.Info("card was already unlocked, PIN is verified all the same", "token", c.info.Label)
		return c.session.Relogin(pin)
	}
	return err
}

// SignWithoutPIN is LogInAndSign without C_Login, for a token that asks for none.
func (c *card) SignWithoutPIN(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	switch {
	case c.session == nil:
		return token.Signature{}, ErrClosed
	case c.info.PIN.Required:
		return token.Signature{}, errors.New("the token wants a log-in (CKF_LOGIN_REQUIRED)")
	}
	return c.sign(ctx, pin, choose)
}

// ChangePIN is C_SetPIN, which needs a session that may write.
func (c *card) ChangePIN(_ context.Context, old, fresh *secret.PIN) error {
	if err := c.reopenToWrite(); err != nil {
		return err
	}
	return c.session.SetPIN(old, fresh)
}

// Close logs out and closes the session, once.
func (c *card) Close() error {
	if c.session == nil {
		return nil
	}

	// Both are tried: a card that was not locked is no reason to leave its session open.
	var errs []error
	if c.loggedIn {
		if err := c.session.Logout(); err != nil {
			errs = append(errs, err)
		} else {
			c.tellIfUnlocked()
		}
		c.loggedIn = false
	}

	if err := c.session.Close(); err != nil {
		errs = append(errs, err)
	}

	c.session = nil
	return errors.Join(errs...)
}
