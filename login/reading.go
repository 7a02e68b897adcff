package login

import (
	"context"
	"iter"
	"time"

	"pam_pkcs11/token"
)

// Certificates are read from a card one by one, each only when none of those before it may log the
// user in: a card may take tenths of a second for one.

const (
	// readOneByOne is how many certificates of a card are read one by one. Whoever reads on passes
	// over what was read before, and that may be read again: on a card with many it would take
	// longer than reading all.
	readOneByOne = 4

	// slowRound is how long the judgement of what was read may take until all that is left is read
	// at once: what waits for the network waits side by side then.
	slowRound = time.Second
)

// readsAll reports whether all certificates are read in any case: where the user may be asked which
// one to use, and where the time must not tell what is on the card.
func (t *attempt) readsAll() bool { return t.discreet || t.asksCertificate() }

// asksCertificate reports whether the user chooses where certificates of several users would do.
func (t *attempt) asksCertificate() bool {
	return t.find() && t.conf.Global.AskCertificate && !t.req.Silent
}

// readOn reads the next certificate that the token shows, or all that are left.
func (c *card) readOn(shown iter.Seq2[token.Object, error], all bool) error {
	known := len(c.objects)
	for o, err := range shown {
		switch {
		case err != nil:
			return err
		case known > 0:
			known--
			continue
		}
		c.objects = append(c.objects, o)
		if !all {
			return nil
		}
	}
	c.whole = true
	return nil
}

// forget drops what was read, and what was found of it.
func (c *card) forget() { c.objects, c.whole, c.owners, c.judged = nil, false, nil, nil }

// settle waits for the assessment, and goes on with it until each card has a certificate that
// qualifies, or has shown all it has.
func (t *attempt) settle(ctx context.Context, s *assessment, cards []*card) *Refusal {
	for {
		if r := t.waitAssessment(ctx, s); r != nil {
			return r
		}
		if !t.goOn(ctx, s, cards) {
			return nil
		}
	}
}

// goOn reads, of each card of which nothing qualifies, the next certificate and has it assessed. It
// reports whether there was any. The assessment must be over.
func (t *attempt) goOn(ctx context.Context, s *assessment, cards []*card) bool {
	more := false
	for _, c := range cards {
		if s.fault(c) != nil || c.hidden || c.whole || len(c.qualified) > 0 {
			continue
		}
		before := len(c.objects)
		err := c.readOn(c.session.Certificates(ctx), s.slow || before >= readOneByOne)
		switch {
		case err != nil:
			c.whole = true
			c.rejected = readRefusal(ctx, err)
			t.log.Warn("card left out", "token", c.token.Label, "reason", c.rejected.Outcome.String(), "error", err)
		case len(c.objects) > before:
			more = true
		default:
			t.logRefused(ctx, c)
		}
	}
	if more {
		t.startRound(s, cards)
	}
	return more
}

// judgeShown reads what the card shows now, and judges it while the user waits; its deadline is
// verify_timeout.
func (t *attempt) judgeShown(ctx context.Context, k *Checker, c *card, shown iter.Seq2[token.Object, error]) *Refusal {
	c.forget()
	for o, err := range shown {
		if err != nil {
			return readRefusal(ctx, err)
		}
		c.objects = append(c.objects, o)
		if t.readsAll() || len(c.objects) > 1 {
			continue
		}
		if t.checkNow(ctx, k, c) == nil {
			return nil
		}
	}
	c.whole = true
	return t.checkNow(ctx, k, c)
}

// judgeRest reads what was not read before, and judges that.
func (t *attempt) judgeRest(ctx context.Context, k *Checker, c *card, shown iter.Seq2[token.Object, error]) *Refusal {
	if err := c.readOn(shown, true); err != nil {
		return readRefusal(ctx, err)
	}
	return t.checkNow(ctx, k, c)
}
