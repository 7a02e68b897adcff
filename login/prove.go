package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// challengeSize is the number of random bytes that the card signs.
const challengeSize = 128

// proof is one log-in to a card and the signature after it.
type proof struct {
	t *attempt
	s *assessment
	c *card

	asked     bool   // the card was ready to sign
	challenge []byte // what the last key was to sign
	endPad    func() // ends the wait for the reader's keypad; nil without one
}

// prove logs in to the card with the PIN and lets it sign a fresh challenge of this machine's
// (never of the card's: a card that picks its own challenge can replay an old answer) with the key
// of each certificate that qualified, in order, until one does. A certificate without a usable key
// does not end the login; an answer that does not verify does, because the card then holds a copied
// certificate. It returns the certificate whose key was proved.
func (t *attempt) prove(ctx context.Context, s *assessment, c *card, pin *secret.PIN) (candidate, *Refusal) {
	p := &proof{t: t, s: s, c: c}
	if c.noPIN {
		return p.withoutPIN(ctx, pin)
	}

	t.at(stepPIN)
	sent := pin
	if c.token.PIN.AtReader {
		done, r := t.startPad(ctx, typeOnPad.text(c.token.PIN.Tries.Level), 1)
		if r != nil {
			return candidate{}, r
		}
		sent = nil
		p.endPad = sync.OnceFunc(done)
		defer p.endPad()
	}
	sig, err := c.session.LogInAndSign(ctx, sent, func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
		p.loggedIn(ctx)
		return p.choose(ctx, shown)
	})
	switch {
	case err == nil:
		return p.check(sig)
	case c.loggedIn:
		return candidate{}, p.signRefusal(ctx, err)
	}
	if r := p.logInRefusal(ctx, err); r != nil {
		return candidate{}, r
	}
	return p.withoutPIN(ctx, pin)
}

// withoutPIN lets a card prove its key that cannot verify a PIN, or has none.
func (p *proof) withoutPIN(ctx context.Context, pin *secret.PIN) (candidate, *Refusal) {
	if p.endPad != nil {
		p.endPad()
	}

	session, ok := p.c.session.(token.PINless)
	if !ok {
		return candidate{}, refuse(PINNotVerifiable, errors.New("this kind of card is not used without its PIN"))
	}
	sig, err := session.SignWithoutPIN(ctx, pin, func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
		return p.choose(ctx, shown)
	})
	if err != nil {
		return candidate{}, p.signRefusal(ctx, err)
	}
	return p.check(sig)
}

// logInRefusal names the failure of the log-in; nil is none.
func (p *proof) logInRefusal(ctx context.Context, err error) *Refusal {
	switch {
	case isDeadline(ctx, err):
		return refuse(DeadlinePassed, err)
	case isWrongPIN(err):
		return p.t.wrongPIN(ctx, p.c, err)
	}
	return p.t.loginRefusal(p.c.token, err)
}

// loggedIn notes that the card has taken the PIN.
func (p *proof) loggedIn(ctx context.Context) {
	p.c.loggedIn = true
	if p.c.token.PIN.ToBeChanged {
		p.t.info(ctx, MsgMustChangePIN)
	}
	if p.endPad != nil {
		p.endPad()
	}
}

// choose says which certificates the card is to prove: those that qualified, also among what it
// shows only now.
func (p *proof) choose(ctx context.Context, shown iter.Seq2[token.Object, error]) (token.Choice, error) {
	t, c := p.t, p.c
	if c.hidden {
		if r := t.assessHidden(ctx, p.s, c, shown); r != nil {
			return token.Choice{}, r
		}
	}
	t.at(stepProve)
	p.asked = true
	if !c.conf.Module.Policy.Signature {
		return token.Choice{}, nil
	}

	t.info(ctx, MsgSigning)
	choice := token.Choice{
		Message: p.newChallenge,
		Signing: func(u token.KeyUse) func() {
			return t.hintTouch(ctx, u.PINAgain || t.discreet).stop
		},
		PINAgain: func() (func(), error) {
			done, r := t.startPad(ctx, MsgPINPadAgain, 1)
			if r != nil {
				return nil, r
			}
			return done, nil
		},
		Passed: func(o token.Object, err error) {
			t.log.Info("certificate without usable key", "subject", subjectOf(o), "detail", err)
		},
	}
	for _, q := range c.qualified {
		choice.Objects = append(choice.Objects, q.object)
	}
	return choice, nil
}

// newChallenge makes what the next key is to sign.
func (p *proof) newChallenge() ([]byte, error) {
	challenge := make([]byte, challengeSize)
	if _, err := io.ReadFull(p.t.a.random(), challenge); err != nil {
		return nil, refuse(NoRandom, err)
	}
	p.challenge = challenge
	return slices.Clone(challenge), nil
}

// check verifies the signature, and returns the certificate of its key.
func (p *proof) check(sig token.Signature) (candidate, *Refusal) {
	qualified := p.c.qualified
	if !p.asked || len(qualified) == 0 {
		return candidate{}, refuse(InternalFault, errors.New("the card was used without the login's choice"))
	}
	if !p.c.conf.Module.Policy.Signature {
		return qualified[0], nil
	}
	if p.challenge == nil || sig.Object < 0 || sig.Object >= len(qualified) {
		return candidate{}, refuse(InternalFault, errors.New("a signature that was not asked for"))
	}

	q := qualified[sig.Object]
	if err := verify.CheckSignature(q.object.Cert, sig.Scheme, p.challenge, sig.Bytes); err != nil {
		return candidate{}, refuse(ProofFailed, fmt.Errorf("the signature does not belong to the certificate's key: %w", err))
	}
	return q, nil
}

// signRefusal names the failure of a signature, and of the PIN for it.
func (p *proof) signRefusal(ctx context.Context, err error) *Refusal {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r
	case isDeadline(ctx, err):
		return refuse(DeadlinePassed, err)
	case isRemoved(err):
		return refuse(CardRemoved, err)
	case isWrongPIN(err):
		return p.t.wrongPIN(ctx, p.c, err)
	case errors.Is(err, token.ErrPINLocked):
		return refuse(PINLocked, err)
	case isFault(err):
		return refuse(TokenFault, err)
	case errors.Is(err, token.ErrNoKey):
		return refuse(NoPrivateKey, err)
	case p.c.token.PIN.AtReader && errors.Is(err, token.ErrCancelled):
		return refuse(PINNotRead, err)
	}
	return refuse(SigningFailed, err)
}

// touchHintAfter is how long a signature may take before the user is told that the token may wait
// for a touch. PKCS#11 does not tell; a card that is only slow has signed by then, most of the
// time.
const touchHintAfter = 2 * time.Second

// touchHint is the pending advice to touch the token.
type touchHint struct {
	timer *time.Timer
	ended chan struct{} // closed once the advice was given
}

// hintTouch gives the advice unless the signature is there before. With silent, for a
// user who is busy at the reader's keypad, there is none. Call stop in any case.
func (t *attempt) hintTouch(ctx context.Context, silent bool) *touchHint {
	if silent {
		return &touchHint{}
	}
	h := &touchHint{ended: make(chan struct{})}
	h.timer = time.AfterFunc(touchHintAfter, func() {
		var fault error
		defer close(h.ended)
		defer recoverInto(&fault)
		t.instruct(ctx, MsgTouch)
	})
	return h
}

// stop takes the advice back, or waits until it was given: nothing is said behind it.
func (h *touchHint) stop() {
	if h.timer != nil && !h.timer.Stop() {
		<-h.ended
	}
}
