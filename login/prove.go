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

	asked     bool        // the card was ready to sign
	offered   []candidate // whose keys may sign now
	challenge []byte      // what the last key was to sign
	endPad    func()      // ends the wait for the reader's keypad; nil without one
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

	t.setStep(stepPIN)
	sent := pin
	// nil has the PIN typed at the reader. It never passes through this machine.
	if c.token.PIN.AtReader {
		done, r := t.startPad(ctx, t.request(typeOnPad, c.token.PIN.Tries), 1)
		if r != nil {
			return candidate{}, r
		}
		sent = nil
		// Ended as soon as the card has the PIN, and on each other way out of here.
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
	// The card has taken the PIN: what failed is the signature, or what comes before it.
	case c.loggedIn:
		return candidate{}, p.signRefusal(ctx, err)
	}

	// nil: the token cannot verify a PIN, and require_pin = false lets its key count all the same.
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
	case isUnsent(err):
		return refuse(PINDoesNotFit, err)
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
	// Only now does such a card show what it holds.
	if c.hidden {
		if r := t.assessHidden(ctx, p.s, c, shown); r != nil {
			return token.Choice{}, r
		}
	}

	t.setStep(stepProve)
	p.asked = true
	// cert_policy = no_signature: that the certificate is on the card is taken for proof.
	if !c.conf.Module.Policy.Signature {
		return token.Choice{}, nil
	}

	t.info(ctx, MsgSigning)
	return p.offer(ctx, c.qualified), nil
}

// offer has the card prove the first of these certificates that it can.
func (p *proof) offer(ctx context.Context, list []candidate) token.Choice {
	t := p.t
	choice := token.Choice{
		Message: p.newChallenge,
		Signing: func(u token.KeyUse) func() { return t.signing(ctx, u) },
		PINAgain: func() (func(), error) {
			done, r := t.startPad(ctx, t.say(MsgPINPadAgain), 1)
			if r != nil {
				return nil, r
			}
			return done, nil
		},
		Passed: func(o token.Object, err error) {
			t.log.Info("certificate without usable key", "subject", subjectOf(o), "detail", err)
		},
	}

	// What a hidden card has shown was read just now.
	if !p.c.hidden {
		choice.Anew = func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			return p.anew(ctx, shown)
		}
	}

	if !p.c.whole {
		choice.More = func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			return p.more(ctx, shown)
		}
	}

	p.offered = list
	for _, q := range list {
		choice.Objects = append(choice.Objects, q.object)
	}
	return choice
}

// anew chooses once more where the module had shown from memory what the card does not hold:
// nothing that was found out before counts. The user is the same where he was named, or has picked
// his certificate.
func (p *proof) anew(ctx context.Context, shown iter.Seq2[token.Object, error]) (token.Choice, error) {
	t, c := p.t, p.c
	t.log.Info("the card holds other certificates than were remembered of it, it is judged anew", "token", c.token.Label)
	t.verifying(ctx)

	before := p.offered
	p.offered = nil
	// checkNow waits for verify_timeout at most, in the middle of the log-in.
	if r := t.assessShown(ctx, c.checker, c, shown); r != nil {
		return token.Choice{}, r
	}

	// The user has picked a certificate of these accounts: he is not logged in to others.
	if c.picked {
		c.qualified = t.sameAccounts(c.qualified, before)
	}
	if len(c.qualified) == 0 {
		return token.Choice{}, refuse(NoMatchingCertificate,
			errors.New("the certificate that was chosen is not on the card any more, nor another one of its accounts"))
	}
	return p.offer(ctx, c.qualified), nil
}

// sameAccounts returns the candidates that have the accounts of one of those before.
func (t *attempt) sameAccounts(list, before []candidate) []candidate {
	var same []candidate
	for _, q := range list {
		if slices.ContainsFunc(before, func(b candidate) bool { return t.accountKey(b.mapped) == t.accountKey(q.mapped) }) {
			same = append(same, q)
		}
	}
	return same
}

// more chooses among what was not read before, where no key of what was has signed.
func (p *proof) more(ctx context.Context, shown iter.Seq2[token.Object, error]) (token.Choice, error) {
	t := p.t
	c := p.c
	tried := p.offered

	r := t.assessRest(ctx, c.checker, c, shown)
	if r != nil && r.Outcome == TokenFault {
		// Why the first key has not signed says more: it may be what keeps the library from
		// reading.
		t.log.Info("no other certificate of the card can be read", "token", c.token.Label, "detail", r.Err)
		return token.Choice{}, nil
	}

	if r != nil {
		return token.Choice{}, r
	}

	var rest []candidate
	for _, q := range c.qualified {
		// By its handle: the card is the same, and the list of its objects was only continued.
		was := func(b candidate) bool { return b.object.Handle == q.object.Handle }
		if !slices.ContainsFunc(tried, was) {
			rest = append(rest, q)
		}
	}
	return p.offer(ctx, rest), nil
}

// newChallenge makes what the next key is to sign.
func (p *proof) newChallenge() ([]byte, error) {
	challenge := make([]byte, challengeSize)
	if _, err := io.ReadFull(p.t.a.random(), challenge); err != nil {
		return nil, refuse(NoRandom, err)
	}

	// The module gets a copy: the signature is checked against the bytes that were made here.
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
	// No challenge was made, or no such key was offered: a signature must be the answer to ours.
	if p.challenge == nil || sig.Object < 0 || sig.Object >= len(p.offered) {
		return candidate{}, refuse(InternalFault, errors.New("a signature that was not asked for"))
	}

	q := p.offered[sig.Object]
	if err := verify.CheckSignature(q.object.Cert, sig.Scheme, p.challenge, sig.Bytes); err != nil {
		return candidate{}, refuse(ProofFailed, p.unproved(err))
	}
	return q, nil
}

// unproved says that a signature does not fit, and what the cause may be.
func (p *proof) unproved(err error) error {
	why := ""
	if d, ok := p.c.session.(token.Doubter); ok {
		if why = d.WhyUnproved(); why != "" {
			why = " (" + why + ")"
		}
	}
	return fmt.Errorf("the signature does not belong to the certificate's key: %w%s", err, why)
}

// signRefusal names the failure of a signature, and of the PIN for it.
func (p *proof) signRefusal(ctx context.Context, err error) *Refusal {
	var r *Refusal
	switch {
	// A refusal from a callback of ours comes back through the module as its error.
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
		return faultRefusal(TokenFault, err)
	case errors.Is(err, token.ErrTouch):
		return &Refusal{Outcome: SigningFailed, Err: err, sentence: MsgNotTouched}
	case errors.Is(err, token.ErrNoKey):
		return refuse(NoPrivateKey, err)
	case p.c.token.PIN.AtReader && errors.Is(err, token.ErrCancelled):
		return refuse(PINNotRead, err)
	}

	return refuse(SigningFailed, err)
}

// How long a signature may take before the user is told that the token may wait for a touch. A card
// that is only slow has signed by then, most of the time.
const (
	touchHintAfter = 2 * time.Second // where the card does not tell, as PKCS#11 never does
	touchHintSoon  = time.Second     // where it tells that it wants one now and then
)

// touchWait is announced for a signature that waits for a touch: tokens give up before.
const touchWait = time.Minute

// signing tells the user, as far as he has to touch the card, that a key is about to sign. A user
// who is busy at the reader's keypad is told nothing, nor is a discreet request. Call done in any
// case.
func (t *attempt) signing(ctx context.Context, u token.KeyUse) (done func()) {
	switch {
	case u.PINAgain, t.discreet, u.Touch == token.TouchNever:
		return func() {}
	case u.Touch == token.TouchAlways:
		t.instruct(ctx, MsgTouchNow)
		// The host gives up a worker that is silent for longer than it has announced.
		if t.conv.Wait(ctx, touchWait) != nil {
			return func() {}
		}
		return func() { _ = t.conv.Wait(ctx, 0) }
	case u.Touch == token.TouchCached:
		return t.hintTouch(ctx, touchHintSoon).stop
	}
	return t.hintTouch(ctx, touchHintAfter).stop
}

// touchHint is the pending advice to touch the token.
type touchHint struct {
	timer *time.Timer
	ended chan struct{} // closed once the advice was given
}

// hintTouch gives the advice unless the signature is there before. Call stop in any case.
func (t *attempt) hintTouch(ctx context.Context, after time.Duration) *touchHint {
	h := &touchHint{ended: make(chan struct{})}

	h.timer = time.AfterFunc(after, func() {
		var fault error
		// In reverse: a panic is caught before stop is let go.
		defer close(h.ended)
		defer recoverInto(&fault)
		t.instruct(ctx, MsgTouch)
	})
	return h
}

// stop takes the advice back, or waits until it was given: nothing is said behind it.
func (h *touchHint) stop() {
	if !h.timer.Stop() {
		<-h.ended
	}
}
