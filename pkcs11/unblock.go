package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// unblockers are the libraries, by their manufacturer in C_GetInfo, whose documentation says that
// the SO's PIN sets a new PIN for the user (C_Login as SO, C_InitPIN; PKCS#11 2.40, section 5.5).
// For others nobody knows what the SO's PIN is, and whether each guess costs a try.
var unblockers = map[string]bool{
	"SoftHSM": true, // softhsm2-util(1): the SO's PIN is typed when the token is made, and C_InitPIN wants it
}

// PUK reports whether Unblock is possible, and what the flags say of the SO's PIN.
func (c *card) PUK(context.Context) (token.PUK, error) {
	if err := c.unblocks(); err != nil {
		return token.PUK{}, err
	}

	k, err := c.module.RefreshToken(c.slot)
	if err != nil {
		return token.PUK{}, err
	}
	return token.PUK{Tries: k.Flags.triesOfSO()}, nil
}

// unblocks returns why the token's PIN cannot be unblocked, nil where it can.
func (c *card) unblocks() error {
	library, err := c.module.Info()
	switch {
	case err != nil:
		return err
	case unblockers[library.Manufacturer]:
		return nil
	case library.isOpenSC():
		err = errors.New("OpenSC unblocks no PIN through PKCS#11 unless its configuration says how; pkcs15-tool --unblock-pin may")
	default:
		err = fmt.Errorf("the library of %s does not tell how a token's PIN is unblocked", library.Manufacturer)
	}
	return &token.Error{Kind: token.ErrNotSupported, Err: err}
}

// Unblock is C_Login as the SO and C_InitPIN, once each, where the library documents that; else
// nothing is sent.
func (c *card) Unblock(_ context.Context, puk, fresh *secret.PIN) error {
	if err := c.unblocks(); err != nil {
		return err
	}
	// Where an empty PIN means the reader's keypad, the library would ask for the PUK there.
	if puk.Len() == 0 || fresh.Len() == 0 {
		return &token.Error{Kind: token.ErrPINFormat, Err: errors.New("neither PUK nor PIN may be empty")}
	}

	if err := c.reopenToWrite(); err != nil {
		return err
	}
	if err := c.session.login(userSO, puk); err != nil {
		return err
	}
	return errors.Join(c.session.InitPIN(fresh), c.session.Logout())
}

// reopenToWrite opens a session that may write on the card that was opened. It may have been
// exchanged since, and a new session would be one on the other card.
func (c *card) reopenToWrite() error {
	// The SO cannot log in while a session that only reads is open (CKR_SESSION_READ_ONLY_EXISTS).
	if err := c.Close(); err != nil {
		return err
	}

	session, err := c.module.OpenSession(c.slot, true)
	if err != nil {
		return err
	}
	c.session = session
	// A card that came meanwhile must not get the PIN: refresh compares it with the one that was
	// opened.
	return c.refresh()
}

// triesOfSO is what the flags tell of the SO's PIN.
func (f TokenFlags) triesOfSO() token.Tries {
	switch {
	case f&flagSOPINLocked != 0:
		return token.Tries{Level: token.Locked}
	case f&flagSOPINFinalTry != 0:
		return token.Tries{Level: token.Last}
	case f&flagSOPINCountLow != 0:
		return token.Tries{Level: token.Few}
	}
	return token.Tries{}
}
