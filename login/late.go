package login

import (
	"context"
	"errors"
	"slices"
	"time"

	"pam_pkcs11/token"
)

// A prompt may stay open for long: a screen locker asks in the evening and is answered in the
// morning.
const (
	verdictLasts = 5 * time.Minute // how long a verdict about a card counts; then the card is assessed anew
	cardLasts    = time.Second     // how long a card is taken for the same: hands are slower
)

// afterAnswer makes sure, before the PIN that was asked for at a moment is sent, that what was
// found out before the prompt still holds: the same card is there, its PIN may be tried, and its
// certificates are good and the user's.
func (t *attempt) afterAnswer(ctx context.Context, c *card, asked time.Time) *Refusal {
	// Within a second nobody has changed the card, and asking it would make each login slower.
	if !c.noPIN && elapsed(asked, t.a.now()) > cardLasts {
		if r := t.sameCard(ctx, c); r != nil {
			return r
		}
		if r := t.mayAsk(c.token); r != nil {
			return r
		}
	}
	return t.checkIfOld(ctx, c)
}

// elapsed is the time between two moments by whichever clock shows more: the monotonic one stands
// still while the machine sleeps, the other may be set.
func elapsed(a, b time.Time) time.Duration {
	return max(b.Sub(a).Abs(), b.Round(0).Sub(a.Round(0)).Abs())
}

// sameCard asks for the token's state anew and refuses another one than was looked at.
func (t *attempt) sameCard(ctx context.Context, c *card) *Refusal {
	fresh, err := c.session.Refresh(ctx)
	if err != nil {
		return readRefusal(ctx, err)
	}
	c.token = fresh
	return nil
}

// checkIfOld lets a verdict count for verdictLasts. After that dates, revocation and mapping are
// looked at again, within verify_timeout, by a verifier and mappers that remember nothing. A card
// that hides its certificates is assessed after its login anyhow.
func (t *attempt) checkIfOld(ctx context.Context, c *card) *Refusal {
	age := elapsed(c.checkedAt, t.a.now())
	if age <= verdictLasts {
		return nil
	}

	t.log.Info("the answer came late, the card is judged again", "token", c.token.Label, "after", age.Round(time.Second).String())
	t.verifying(ctx)

	// The old checker holds answers from before the prompt.
	checker, err := t.newChecker(c.conf)
	if err != nil {
		return refuse(ConfigurationInvalid, err)
	}
	// It is assessed after the log-in, which is still to come.
	if c.hidden {
		c.checker, c.checkedAt = checker, t.a.now()
		return nil
	}

	before := *c
	c.forget()
	if r := t.assessRest(ctx, checker, c, c.session.Certificates(ctx)); r != nil {
		return r
	}
	return c.keep(&before)
}

// keep leaves of the certificates that qualify those that did so before the prompt, or were chosen
// there. What was not read then has been refused by nobody.
func (c *card) keep(before *card) *Refusal {
	var kept []candidate
	for _, q := range c.qualified {
		same := func(b token.Object) bool { return b.Cert != nil && q.object.Cert.Equal(b.Cert) }
		chosen := slices.ContainsFunc(before.qualified, func(b candidate) bool { return same(b.object) })
		unread := !before.whole && !slices.ContainsFunc(before.objects, same)
		// What was refused before the prompt stays refused: the user was not asked for its PIN.
		if chosen || unread {
			kept = append(kept, q)
		}
	}

	c.qualified = kept
	if len(kept) == 0 {
		c.rejected = refuse(NoMatchingCertificate, errors.New("the certificate that was chosen is not on the card any more"))
		return c.rejected
	}
	return nil
}
