package login

import (
	"context"
	"errors"
	"iter"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// card is one token under work: its open session, what it shows, and which certificates on it may
// log the user in.
type card struct {
	conf     *config.Config // as it is for the block that the card is of
	block    int            // which that is
	uri      *token.URI     // its token_uri, nil when not set
	token    *token.Info
	session  token.Session
	objects  []token.Object // the certificates that were read
	whole    bool           // there are no others
	hidden   bool           // no certificate is shown before login
	noPIN    bool           // the token has no PIN at all and require_pin = false
	picked   bool           // the user has picked its certificate from a list
	loggedIn bool           // the card has taken the PIN

	owners    []owner     // of its certificates, written by the assessment before it asks for their status
	findings  []finding   // of its certificates, written by the assessment
	qualified []candidate // written by the assessment, read after it
	rejected  *Refusal    // why nothing qualified
	unread    *Refusal    // why it was not read to its end, which says more: what was not read may be the user's
	fault     *Refusal    // why nothing could be checked: its block has no checker
	checker   *Checker    // who said so
	checkedAt time.Time   // and when
}

// openCards opens every selected token and reads the first certificate that it shows. A card that
// fails is reported and left out; only when no card is left is its failure the answer.
func (t *attempt) openCards(ctx context.Context, m token.Module, slots []token.Slot) ([]*card, *Refusal) {
	var cards []*card
	var first *Refusal
	for _, s := range slots {
		c, r := t.openCard(ctx, m, s)
		if r == nil {
			cards = append(cards, c)
			continue
		}

		t.log.Warn("card left out", "slot", s.ID, "token", s.Token.Label, "reason", r.Outcome.String(), "error", r.Err)
		t.observe(func(o Observer) { o.Passed(s.Token, r) })

		if first == nil {
			first = r
		}
	}

	if len(cards) == 0 {
		return nil, first
	}
	return cards, nil
}

func (t *attempt) openCard(ctx context.Context, m token.Module, s token.Slot) (*card, *Refusal) {
	session, err := m.Open(ctx, s)
	if err != nil {
		return nil, cardRefusal(ctx, SessionNotOpened, err)
	}

	c := t.cardOf(s.Block)
	c.token, c.session = session.Info(), session
	if err := c.readOn(session.Certificates(ctx), t.readsAll()); err != nil {
		_ = session.Close()
		return nil, readRefusal(ctx, err)
	}

	// Such a card is assessed after its PIN, which certificates_after_pin has to allow.
	if c.hidden = len(c.objects) == 0; c.hidden && !t.asksHidden() {
		c.rejected = &Refusal{
			Outcome: NoMatchingCertificate,
			Err:     errors.New("the token shows no certificate before its PIN"),
			Restore: "certificates_after_pin = yes",
		}
	}
	return c, nil
}

// cardOf is a card of one block, before it is opened.
func (t *attempt) cardOf(block int) *card {
	return &card{conf: t.conf.Block(block), block: block, uri: t.selection[block].URI}
}

// close locks the card again where the login has unlocked it, and closes the session.
func (c *card) close() error { return c.session.Close() }

func closeCards(cards []*card) {
	for _, c := range cards {
		_ = c.close()
	}
}

// pinState refuses, before anything is asked, a card whose PIN cannot succeed.
func pinState(k *token.Info) *Refusal {
	switch {
	case noticeOf(k.PIN.Tries) == noticeLocked:
		return refuse(PINLocked, errors.New(k.PIN.Said))
	case k.PIN.Required && !k.PIN.Set:
		return refuse(PINNotInitialised, errors.New(k.PIN.Said))
	}
	return nil
}

// mayAsk refuses, before anything is asked, a card whose PIN cannot succeed. Where there is another
// way to log in it also refuses one that the next wrong PIN locks: sudo asks three times, a locker
// sends it a password.
func (t *attempt) mayAsk(k *token.Info) *Refusal {
	if r := pinState(k); r != nil {
		return r
	}
	if t.mode() == ModeSkip && noticeOf(k.PIN.Tries) == noticeLast {
		return &Refusal{
			Outcome: PINLastTry,
			Err:     errors.New(k.PIN.Said),
			Restore: "foreign_card = refuse, which asks for the PIN on its last try too",
		}
	}
	return nil
}

// asksHidden reports whether a token that shows no certificate is asked for its PIN, after which it
// may show some.
func (t *attempt) asksHidden() bool {
	switch t.conf.Global.CertificatesAfterPIN {
	case "yes":
		return true
	case "no":
		return false
	}

	// auto: where there are other ways to log in, the PIN of any card that happens to be in the
	// reader is not asked for.
	return t.mode() != ModeSkip
}

// Certificates are read from a card one by one, each only when none of those before it may log the
// user in: a card may take tenths of a second for one.

const (
	// readOneByOne is how many certificates of a card are read one by one. Whoever reads on passes
	// over what was read before, and that may be read again: on a card with many it would take
	// longer than reading all.
	readOneByOne = 4

	// slowRound is how long the assessment of what was read may take until all that is left is read
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
		// The module shows the certificates from the first on each time.
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
func (c *card) forget() {
	c.objects = nil
	c.whole = false
	c.owners = nil
	c.findings = nil
	c.unread = nil
}

// settle waits for the assessment, and goes on with it until each card has a certificate that
// qualifies, or has shown all it has.
func (t *attempt) settle(ctx context.Context, s *assessment, cards []*card) *Refusal {
	for {
		if r := t.waitAssessment(ctx, s); r != nil {
			return r
		}
		if !t.assessNext(ctx, s, cards) {
			return nil
		}
	}
}

// assessNext reads, of each card of which nothing qualifies, the next certificate and has it
// assessed, with those that wait for it. It reports whether there was any. The assessment must be
// over.
func (t *attempt) assessNext(ctx context.Context, s *assessment, cards []*card) bool {
	more := false
	for _, c := range cards {
		decided := c.hidden || c.whole || len(c.qualified) > 0
		if decided || s.fault(c) != nil {
			continue
		}

		// What waits for the network waits side by side once a round was slow: then all are read.
		before := len(c.objects)
		err := c.readOn(c.session.Certificates(ctx), s.slow || before >= readOneByOne)
		switch {
		case err != nil:
			// It is not read again. c.unread counts more than what the other certificates have
			// shown: what was not read may be the user's.
			c.whole = true
			c.unread = readRefusal(ctx, err)
			t.log.Warn("card left out", "token", c.token.Label, "reason", c.unread.Outcome.String(), "error", err)
			t.observe(func(o Observer) { o.Passed(c.token, c.unread) })
		case len(c.objects) > before, c.undecided():
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

// assessShown reads what the card shows now, and assesses it while the user waits; its deadline is
// verify_timeout.
func (t *attempt) assessShown(ctx context.Context, k *Checker, c *card, shown iter.Seq2[token.Object, error]) *Refusal {
	c.forget()
	for o, err := range shown {
		if err != nil {
			return readRefusal(ctx, err)
		}
		c.objects = append(c.objects, o)
		// The first one is checked by itself: it is the only one of most cards, and reading is
		// slow.
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

// assessRest reads what was not read before, and assesses that.
func (t *attempt) assessRest(ctx context.Context, k *Checker, c *card, shown iter.Seq2[token.Object, error]) *Refusal {
	if err := c.readOn(shown, true); err != nil {
		return readRefusal(ctx, err)
	}
	return t.checkNow(ctx, k, c)
}
