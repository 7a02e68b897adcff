package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// cardChecks are those of the cards that are in the readers now.
func cardChecks() []Check {
	return []Check{
		{ID: "cards", Title: message.Textf("The cards, as a login sees them"), Run: checkCards},
		{ID: "card-pin", Title: message.Textf("The PIN of the cards"), Run: checkPINs},
		{ID: "card-certificates", Title: message.Textf("The certificates on the cards"), Run: checkCertificates},
	}
}

// cards looks at the cards, once for all checks, in a child process. why says why there is nothing to look at.
func (m *Machine) cards(ctx context.Context) (slots []probe.Slot, why diagnosis.Findings) {
	const subject = "cards"
	switch {
	case m.Config == nil:
		return nil, list(noConfiguration(subject))
	case !m.Live():
		return nil, list(otherRoot(subject))
	}

	m.probing.Do(func() { m.probed, m.probeError = probe.Cards(ctx, m.ConfigFile) })
	var ended *probe.Ended
	switch a := m.probed; {
	case errors.As(m.probeError, &ended):
		return nil, list(refuse("cards-not-read", subject, message.Textf("the cards cannot be read: %v", ended),
			message.Textf("run: pam-pkcs11 doctor pkcs11-load daemon")))
	case m.probeError != nil:
		return nil, list(notLooked(subject, message.Textf("the cards could not be looked at: %v", m.probeError)))
	case a.Failure != nil && a.Failure.Kind == probe.KindInUse:
		return nil, list(refuse("readers-held", subject, message.Textf("another program has the readers: %s", printable(a.Failure.Text)),
			message.Textf("end that program, or let it use the daemon (scdaemon: put disable-ccid into ~/.gnupg/scdaemon.conf)")))
	case a.Failure != nil && a.Failure.Kind == probe.KindNoService:
		return nil, list(notLooked(subject, message.Textf("no daemon for card readers can be used: %s", printable(a.Failure.Text))))
	case a.Failure != nil:
		return nil, list(refuse("cards-not-read", subject, message.Textf("the cards cannot be read: %s", printable(a.Failure.Text)),
			message.Textf("run: pam-pkcs11 doctor pkcs11-load daemon")))
	}
	return m.probed.Slots, nil
}

// usable are the cards that a login would take.
func (m *Machine) usable(ctx context.Context) (slots []probe.Slot, why diagnosis.Findings) {
	all, why := m.cards(ctx)
	for _, s := range all {
		if s.Fit == token.Fits && s.Card != nil {
			slots = append(slots, s)
		}
	}
	if len(slots) == 0 && len(why) == 0 {
		why = list(note("card-none", "cards", message.Textf("there is no card now that a login would use")))
	}
	return slots, why
}

// subjectOf names a slot.
func subjectOf(s *probe.Slot) string {
	if s.Description == "" {
		return fmt.Sprintf("slot %d", s.Index)
	}
	return printable(s.Description)
}

// checkCards says of each slot whether its card would be used, and why not.
func checkCards(ctx context.Context, m *Machine) diagnosis.Findings {
	slots, found := m.cards(ctx)
	for i := range slots {
		found.Add(slotFinding(&slots[i])...)
	}
	if len(found) == 0 {
		found.Add(note("card-none", "cards", message.Textf("the source of cards shows no reader and no slot")))
	}
	return found
}

// slotFinding says whether the card of a slot would be used.
func slotFinding(s *probe.Slot) diagnosis.Findings {
	subject := subjectOf(s)
	switch {
	case s.Fit == token.Fits && s.Card != nil:
		return list(good("card", subject, message.Textf("card %q, serial number %q, of %s", printable(s.Card.Label),
			printable(s.Card.Serial), printable(s.Card.Manufacturer))))
	case s.Failure != nil && s.Failure.Kind == probe.KindForeign:
		return list(warn("card-no-driver", subject, message.Textf("the card is of a kind that this source of cards does not know: %s",
			printable(s.Failure.Text)),
			message.Textf("name the card's own PKCS#11 library in the configuration; pam-pkcs11 atr tells what kind of card it is")))
	case s.Failure != nil && s.Failure.Kind == probe.KindInUse:
		return list(warn("card-held", subject, message.Textf("another program keeps the card for itself: %s", printable(s.Failure.Text)),
			message.Textf("end that program")))
	case s.Fit == token.Unreadable:
		return list(warn("card-unreadable", subject, message.Textf("the card cannot be read: %s", printable(s.Why)),
			message.Textf("take the card out, put it in again, and run: pam-pkcs11 doctor cards")))
	case s.Fit == token.Blank:
		return list(note("card-blank", subject, message.Textf("the token is not initialised: it counts as no card")))
	case s.Fit == token.Another:
		return list(warn("card-excluded", subject, message.Textf("the configuration leaves this card out: %s", printable(s.Why)),
			message.Textf("change slot_num, slot_description, token_label or token_uri in the configuration")))
	}

	return list(note("reader-empty", subject, message.Textf("there is no card in the reader")))
}

// checkPINs looks at what cards say of their PINs. No try is spent.
func checkPINs(ctx context.Context, m *Machine) diagnosis.Findings {
	slots, found := m.usable(ctx)
	for i := range slots {
		found.Add(pinFindings(&slots[i])...)
	}
	return found
}

// pinFindings are those of one card.
func pinFindings(s *probe.Slot) diagnosis.Findings {
	subject, pin := subjectOf(s)+": "+printable(s.Card.Label), s.Card.PIN
	change := message.Textf("run: pam-pkcs11 pin change")
	var found diagnosis.Findings
	switch {
	case !pin.Set && !pin.Required:
		found.Add(note("pin-none", subject, message.Textf("the card has no PIN, and needs none")))
	case !pin.Set:
		found.Add(refuse("pin-not-set", subject, message.Textf("no PIN has been set on the card yet"),
			message.Textf("set one with the tool of the card's maker (YubiKey: ykman piv access change-pin)")))
	case pin.Tries.Level == token.Locked:
		found.Add(refuse("pin-locked", subject, message.Textf("the PIN is locked after too many wrong tries"), unblocking(s.Card)))
	case pin.Tries.Level == token.Last, pin.Tries.Counted && pin.Tries.Left == 1:
		found.Add(warn("pin-last-try", subject, message.Textf("one try is left before the PIN is locked"),
			message.Textf("type the right PIN once, at a login; it gives the tries back")))
	case pin.Tries.Counted:
		found.Add(good("pin", subject, message.Textf("%d tries are left before the PIN is locked", pin.Tries.Left)))
	default:
		found.Add(good("pin", subject, message.Textf("the card tells of no PIN that is nearly locked")))
	}

	if pin.Set && pin.Default {
		found.Add(warn("pin-default", subject, message.Textf("the PIN is the one that the card's maker has set, which everybody knows"), change))
	}

	if pin.Set && pin.ToBeChanged {
		found.Add(warn("pin-to-be-changed", subject, message.Textf("the PIN must be changed, or has expired"), change))
	}

	return found
}

// unblocking says how a locked PIN is unblocked.
func unblocking(c *probe.Card) message.Text {
	if c.NoPUK == "" {
		return message.Textf("run: pam-pkcs11 pin unblock, with the card's PUK")
	}
	return message.Textf("it is not unblocked here (%s): use the tool of the card's maker (YubiKey: ykman piv access unblock-pin), "+
		"or give the card to whoever issued it", printable(c.NoPUK))
}

// endsSoon is how long before its end a certificate is named.
const endsSoon = 30 * 24 * time.Hour

// checkCertificates judges the certificates of the cards as a login does, revocation too.
func checkCertificates(ctx context.Context, m *Machine) diagnosis.Findings {
	slots, found := m.usable(ctx)
	for i := range slots {
		found.Add(m.judgeCard(ctx, &slots[i])...)
	}
	return found
}

// judgeCard judges the certificates of one card. One that is good is enough.
func (m *Machine) judgeCard(ctx context.Context, s *probe.Slot) diagnosis.Findings {
	subject := subjectOf(s) + ": " + printable(s.Card.Label)
	if f := s.Card.Failure; f != nil {
		return list(warn("card-unreadable", subject, message.Textf("the certificates cannot be read: %s", printable(f.Text)),
			message.Textf("take the card out, put it in again, and run: pam-pkcs11 doctor card-certificates")))
	}
	if len(s.Card.Certificates) == 0 {
		return list(warn("certificates-hidden", subject, message.Textf("the card shows no certificate without its PIN"),
			message.Textf("a card without a certificate needs one from its issuer; where it only hides them, a login reads them after the PIN (certificates_after_pin)")))
	}
	auth := &login.Authenticator{}
	checker, err := auth.NewChecker(m.Config.Block(s.Block))
	if err != nil {
		return list(notLooked(subject, message.Textf("certificates cannot be judged: %v", err)))
	}

	var certs []*certinfo.Certificate
	var bad diagnosis.Findings
	for _, c := range s.Card.Certificates {
		cert, err := certinfo.ParsePadded(c.DER)
		if c.Error != "" || err != nil {
			bad.Add(warn("certificate-broken", subject, message.Textf("a certificate on the card cannot be used: %s", printable(c.Error+errText(err))),
				message.Textf("have the card's issuer write it anew")))
			continue
		}
		certs = append(certs, cert)
	}
	return judgeAll(ctx, checker, subject, certs, bad)
}

// errText is the text of an error, "" of none.
func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// judgeAll judges certificates; bad are the findings of those that could not be read.
func judgeAll(
	ctx context.Context, checker *login.Checker, subject string, certs []*certinfo.Certificate, bad diagnosis.Findings,
) diagnosis.Findings {
	var fine diagnosis.Findings
	for _, cert := range certs {
		name := printable(cert.Subject.RFC4514())
		_, err := checker.Check(ctx, cert, certs)
		switch until := time.Until(cert.NotAfter); {
		case err != nil:
			bad.Add(certificateFault(subject, name, err))
		case until < endsSoon:
			fine.Add(warn("certificate-ends-soon", subject, message.Textf("the certificate %q ends on %s, in %d days", name,
				cert.NotAfter.Format(time.DateOnly), int(until.Hours()/24)), message.Textf("have the card's issuer renew it before that day")))
		default:
			fine.Add(good("certificate", subject, message.Textf("the certificate %q is good until %s", name, cert.NotAfter.Format(time.DateOnly))))
		}
	}

	if len(fine) == 0 {
		return bad
	}

	for i := range bad { // one good certificate is enough, and cards have others that are for other things
		bad[i].Severity, bad[i].Remedy = diagnosis.Note, message.Text{}
	}

	return append(fine, bad...)
}

// certificateFault says why a certificate is refused.
func certificateFault(subject, name string, err error) diagnosis.Finding {
	reason := verify.ReasonOf(err)
	if reason == "" {
		return notLooked(subject, message.Textf("the certificate %q could not be judged in time: %v", name, err))
	}

	id := "certificate-" + strings.ReplaceAll(string(reason), "_", "-")
	remedy := message.Textf("run: pam-pkcs11 explain, which shows the decision step by step")
	if cause := (causes.Evidence{Check: string(reason), Detail: err.Error()}).Cause(); cause.ID != 0 {
		remedy = cause.Cure
	}
	switch reason {
	case verify.ReasonExpired:
		remedy = message.Textf("have the card's issuer renew it")
	case verify.ReasonNotYetValid:
		remedy = message.Textf("set the clock, if it is wrong: timedatectl set-ntp true")
	case verify.ReasonIssuerUnknown:
		remedy = message.Textf("put the certificate of its authority into ca_dir, if you trust it")
	case verify.ReasonRevocationUnknown:
		remedy = message.Textf("run: pam-pkcs11 crl update; revocation = soft goes on without an answer")
	}
	return refuse(id, subject, message.Textf("the certificate %q is refused: %v", name, err), remedy)
}
