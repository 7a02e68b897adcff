package login

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// card is one token under work: its open session, what it shows, and which certificates on it may log
// the user in.
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
	judged    []judgement // of its certificates, written by the assessment
	qualified []candidate // written by the assessment, read after it
	rejected  *Refusal    // why nothing qualified
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
	case nearness(k.PIN.Tries) == tellLocked:
		return refuse(PINLocked, errors.New(k.PIN.Said))
	case k.PIN.Required && !k.PIN.Set:
		return refuse(PINNotInitialised, errors.New(k.PIN.Said))
	}
	return nil
}

// mayAsk refuses, before anything is asked, a card whose PIN cannot succeed. Where there is another way to log in it
// also refuses one that the next wrong PIN locks: sudo asks three times, a locker sends it a password.
func (t *attempt) mayAsk(k *token.Info) *Refusal {
	if r := pinState(k); r != nil {
		return r
	}
	if t.mode() == ModeSkip && nearness(k.PIN.Tries) == tellLast {
		return &Refusal{
			Outcome: PINLastTry,
			Err:     errors.New(k.PIN.Said),
			Restore: "foreign_card = refuse, which asks for the PIN on its last try too",
		}
	}
	return nil
}

// asksHidden reports whether a token that shows no certificate is asked for its PIN, after which it may show some.
func (t *attempt) asksHidden() bool {
	switch t.conf.Global.CertificatesAfterPIN {
	case "yes":
		return true
	case "no":
		return false
	}
	return t.mode() != ModeSkip
}
