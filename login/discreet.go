package login

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/internal/secret"
)

// A request is discreet when it comes from another host and remote_login_hides is set: it does not
// tell whose card is in the reader. Prompt, texts, code and times are the same for every user, and
// nothing is sent to the card unless it is this user's. What ends a request before any card is
// opened (no card, no library) depends on no user, and stays as it is.

const (
	// discreetTime is how long a refusal takes, counted from the answer at the prompt. A wrong PIN
	// takes a card some tenths of a second; no PIN at all takes none.
	discreetTime = 5 * time.Second

	// promptCheck is how much of that the assessment may use. One that waits for the network is no
	// longer than verify_timeout, and the refusal then takes that much more whenever the assessment
	// ends.
	promptCheck = 2 * time.Second
)

// isDiscreet reports whether the request must not tell whose card it is. Where nobody can say
// whether it is remote, it is taken to be.
func (t *attempt) isDiscreet(ctx context.Context, a *remoteAnswer) bool {
	if !t.conf.Global.RemoteLoginHides || !a.allowed {
		return false
	}
	// What the transaction itself says needs no answer from logind.
	if t.remoteByItems() != "" {
		return true
	}

	// Without an answer it counts as remote: to hide too much locks nobody out.
	select {
	case <-a.done:
		return !a.asked || a.err != nil || a.remote
	case <-ctx.Done():
		return true
	}
}

// tryDiscreetly asks for a PIN whatever the card is, and decides after that which card may get it.
func (t *attempt) tryDiscreetly(ctx context.Context, ahead *prepared, cards []*card) (*success, *Refusal) {
	s := t.assess(ctx, ahead, cards)
	defer s.end()

	asked := t.a.now()
	pin, r := t.discreetPIN(ctx)
	answered := t.a.now()
	// Counted from the answer, so that a refusal takes the same time for every user.
	t.refuseAt = answered.Add(discreetTime)
	if r != nil {
		return nil, r
	}
	defer pin.Wipe()

	if r := t.waitAssessment(ctx, s); r != nil {
		return nil, r
	}

	// Where the network was waited for, the time to the refusal is the longer one as a whole: how
	// long it was really waited for would tell something.
	if t.a.now().Sub(answered) > promptCheck {
		t.refuseAt = t.refuseAt.Add(t.conf.Global.VerifyTimeout + verdictGrace)
	}

	c, r := t.discreetCard(s, cards)
	if r != nil {
		return nil, r
	}
	if r := t.afterAnswer(ctx, c, asked); r != nil {
		return nil, r
	}
	return t.useDiscreetly(ctx, s, c, pin)
}

// useDiscreetly sends the PIN to this user's card. nil is that of use_first_pass.
func (t *attempt) useDiscreetly(ctx context.Context, s *assessment, c *card, pin *secret.PIN) (*success, *Refusal) {
	switch {
	case c.noPIN:
		// The PIN was asked for all the same: that this card has none must not show.
		pin = nil
	case pin == nil:
		taken, r := t.takeOver(ctx, c)
		if r != nil {
			return nil, r
		}
		pin = taken.secret
		defer pin.Wipe()
	default:
		if r := t.mayBeSent(c.token, pin, t.conf.Global.PINPattern); r != nil {
			return nil, r
		}
	}

	chosen, r := t.prove(ctx, s, c, pin)
	if r != nil {
		return nil, r
	}
	return t.finish(ctx, c, chosen, pin)
}

// discreetPIN asks the one question of a discreet request, which names neither card nor tries. With
// use_first_pass, which never asks, it returns nil. With try_first_pass it asks at once: whether it
// asked later, after a wrong secret, would tell something.
func (t *attempt) discreetPIN(ctx context.Context) (*secret.PIN, *Refusal) {
	if t.conf.Global.UseFirstPass {
		return nil, nil
	}
	pin, err := t.conv.Prompt(ctx, t.say(MsgPINPrompt, t.tokenType(t.conf)))
	if err != nil {
		return nil, refuse(PINNotRead, err)
	}
	return pin, nil
}

// discreetCard returns the first card that may log the user in and get a PIN from another host.
func (t *attempt) discreetCard(s *assessment, cards []*card) (*card, *Refusal) {
	var worst *Refusal
	for _, c := range cards {
		r := t.discreetRefusal(s, c)
		if r == nil {
			return c, nil
		}
		worst = furthest(worst, r)
	}
	return nil, worst
}

func (t *attempt) discreetRefusal(s *assessment, c *card) *Refusal {
	if c.hidden {
		return refuse(NoMatchingCertificate, errors.New("the card shows its certificates only after the PIN, "+
			"which remote_login_hides does not send to what may be another user's card"))
	}

	if r := t.assessed(s, c); r != nil {
		return r
	}
	if r := pinState(c.token); r != nil {
		return r
	}

	// Another host cannot reach the keypad, and must not lock the card.
	switch {
	case c.token.PIN.AtReader:
		return refuse(PINNotRead, errors.New("the PIN would be typed at the reader, and the user is at another host"))
	case noticeOf(c.token.PIN.Tries) == noticeLast:
		return refuse(PINNotRead, errors.New("the last try is not for another host, where remote_login_hides tells nobody of it"))
	}
	return t.tokenWithoutPIN(c)
}

// conceal makes the refusal of a discreet request the same as every other, in time and in words.
// Towards the PAM stack it is a wrong PIN; the log has the reason.
func (t *attempt) conceal(ctx context.Context, r *Refusal) *Refusal {
	wait := t.refuseAt.Sub(t.a.now())
	if wait < 0 {
		// The card was slow. The next multiple of discreetTime shows as little as can be.
		wait = discreetTime - (-wait)%discreetTime
	}

	// A second more than the pause, so that the host does not give up first.
	if t.conv.Wait(ctx, wait+time.Second) == nil {
		t.a.pause(ctx, wait)
		_ = t.conv.Wait(ctx, 0)
	}
	return concealed(r)
}

// concealed is what is told of a refusal that must not show whose card it is.
func concealed(r *Refusal) *Refusal {
	return &Refusal{
		Outcome:  PINIncorrect,
		Err:      r,
		mode:     r.mode,
		sentence: MsgRemoteRefused,
	}
}

// rehearseDiscreetly decides what tryDiscreetly does once it was answered, up to the PIN.
func (t *attempt) rehearseDiscreetly(ctx context.Context, ahead *prepared, cards []*card) *Refusal {
	s := t.assess(ctx, ahead, cards)
	defer s.end()

	// A login would have asked by now: from here on each refusal looks like every other.
	t.refuseAt = t.a.now()
	if r := t.waitAssessment(ctx, s); r != nil {
		return r
	}

	c, r := t.discreetCard(s, cards)
	if r != nil {
		return r
	}
	t.observe(func(o Observer) { o.Asks(c.token) })
	return refuse(PINNotRead, errRehearsed)
}
