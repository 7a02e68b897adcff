package login

import (
	"errors"
	"time"

	"pam_pkcs11/pkcs11"
)

// card is one token under work: its open session, what it shows, and which certificates on it may log
// the user in.
type card struct {
	module   *pkcs11.Module
	slot     pkcs11.Slot
	token    *pkcs11.Token
	session  *pkcs11.Session
	objects  []pkcs11.Object
	hidden   bool // no certificate is shown before login
	noPIN    bool // the token has no PIN at all and require_pin = false
	loggedIn bool

	owners    []owner     // of its certificates, written by the assessment before it asks for their status
	qualified []candidate // written by the assessment, read after it
	rejected  *Refusal    // why nothing qualified
	checker   *Checker    // who said so
	checkedAt time.Time   // and when
}

// openCards opens every selected token and reads the certificates it shows. A card that fails is
// reported and left out; only when no card is left is its failure the answer.
func (t *attempt) openCards(m *pkcs11.Module, slots []pkcs11.Slot) ([]*card, *Refusal) {
	var cards []*card
	var first *Refusal
	for _, s := range slots {
		c, r := t.openCard(m, s)
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

func (t *attempt) openCard(m *pkcs11.Module, s pkcs11.Slot) (*card, *Refusal) {
	c := &card{module: m, slot: s, token: s.Token}
	session, err := m.OpenSession(s.ID, false)
	if err != nil {
		return nil, refuse(SessionNotOpened, err)
	}
	c.session = session
	if err := c.read(); err != nil {
		_ = session.Close()
		return nil, readRefusal(err)
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

// read lists the certificates that the token shows now.
func (c *card) read() error {
	objects, err := c.session.Certificates()
	if err != nil {
		return err
	}
	c.objects = objects
	return nil
}

// close logs out and closes the session, once.
func (c *card) close() error {
	if c.session == nil {
		return nil
	}
	var errs []error
	if c.loggedIn {
		if err := c.session.Logout(); err != nil {
			errs = append(errs, err)
		}
		c.loggedIn = false
	}
	if err := c.session.Close(); err != nil {
		errs = append(errs, err)
	}
	c.session = nil
	return errors.Join(errs...)
}

func closeCards(cards []*card) {
	for _, c := range cards {
		_ = c.close()
	}
}

// pinState refuses, before anything is asked, a card whose PIN cannot succeed.
func pinState(k *pkcs11.Token) *Refusal {
	switch {
	case k.Flags.PINLocked():
		return refuse(PINLocked, errors.New("the token says CKF_USER_PIN_LOCKED"))
	case k.Flags.LoginRequired() && !k.Flags.UserPINInitialized():
		return refuse(PINNotInitialised, errors.New("the token does not say CKF_USER_PIN_INITIALIZED"))
	}
	return nil
}

// mayAsk refuses, before anything is asked, a card whose PIN cannot succeed. Where there is another way to log in it
// also refuses one that the next wrong PIN locks: sudo asks three times, a locker sends it a password.
func (t *attempt) mayAsk(k *pkcs11.Token) *Refusal {
	if r := pinState(k); r != nil {
		return r
	}
	if t.mode() == ModeSkip && k.Flags.PINFinalTry() {
		return &Refusal{
			Outcome: PINLastTry,
			Err:     errors.New("the token says CKF_USER_PIN_FINAL_TRY"),
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
