package login

import (
	"errors"

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

	qualified []candidate // written by the survey, read after it
	rejected  *Refusal    // why nothing qualified
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
		if isRemoved(err) {
			return nil, refuse(CardRemoved, err)
		}
		return nil, refuse(NoCertificate, err)
	}
	c.hidden = len(c.objects) == 0
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

// allowsNextCard tells whether another card may be tried after this refusal: only when no PIN was
// refused, nothing was left unproved and the time is not over.
func (o Outcome) allowsNextCard() bool {
	switch o {
	case NoCertificate, CertificateExpired, CertificateNotYetValid, CertificateSignature, CertificateInvalid,
		CertificateRevoked, IssuerUnknown, RevocationUnknown, DirectoryUnavailable, NoMatchingUser, NoMatchingCertificate,
		ForeignCard, ForeignCardSkipped, SigningFailed, PINNotInitialised, PINNotVerifiable, SessionNotOpened, TokenUnreadable:
		return true
	}
	return false
}
