package login

import (
	"context"
	"errors"
	"fmt"
	"io"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/verify"
)

// challengeSize is the number of random bytes that the card signs.
const challengeSize = 128

// prove lets the card sign a fresh challenge of this machine's (never of the card's: a card that
// picks its own challenge can replay an old answer) with the key of each certificate that qualified,
// in order, until one does. A certificate without a usable key does not end the login; an answer that
// does not verify does, because the card then holds a copied certificate.
func (t *attempt) prove(ctx context.Context, c *card, pin *secret.PIN) (candidate, *Refusal) {
	if !t.conf.Module.Policy.Signature {
		return c.qualified[0], nil
	}
	t.info(ctx, MsgSigning)
	var first *Refusal
	for _, q := range c.qualified {
		if err := ctx.Err(); err != nil {
			return candidate{}, refuse(DeadlinePassed, err)
		}
		r := t.proveOne(c, q, pin)
		if r == nil {
			return q, nil
		}
		if r.Outcome != SigningFailed && r.Outcome != NoPrivateKey {
			return candidate{}, r
		}
		t.log.Info("certificate without usable key", "subject", subjectOf(q.object), "detail", r.Err)
		if first == nil {
			first = r
		}
	}
	return candidate{}, first
}

func (t *attempt) proveOne(c *card, q candidate, pin *secret.PIN) *Refusal {
	key, err := c.session.SigningKey(q.object)
	if err != nil {
		return signRefusal(err)
	}
	challenge := make([]byte, challengeSize)
	if _, err := io.ReadFull(t.a.random(), challenge); err != nil {
		return refuse(NoRandom, err)
	}
	sig, err := c.session.Sign(key, q.object.Cert, challenge, pin)
	if err != nil {
		return signRefusal(err)
	}
	if err := verify.CheckSignature(q.object.Cert, sig.Scheme, challenge, sig.Bytes); err != nil {
		return refuse(ProofFailed, fmt.Errorf("the signature does not belong to the certificate's key: %w", err))
	}
	return nil
}

func signRefusal(err error) *Refusal {
	switch {
	case isRemoved(err):
		return refuse(CardRemoved, err)
	case errors.Is(err, pkcs11.CKR_PIN_INCORRECT):
		return refuse(PINIncorrect, err)
	case errors.Is(err, pkcs11.CKR_PIN_LOCKED):
		return refuse(PINLocked, err)
	case errors.Is(err, pkcs11.ErrNoKey):
		return refuse(NoPrivateKey, err)
	}
	return refuse(SigningFailed, err)
}

var errNoChoice = errors.New("no certificate was chosen")
