package setup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/pkcs11/find"
	"pam_pkcs11/token"
)

// found is a certificate on a card that could log somebody in.
type found struct {
	library string // "" is the built-in card
	reader  string
	card    *probe.Card
	label   string // of the certificate's object
	cert    *certinfo.Certificate
}

// lookTime bounds the look at one source of cards.
const lookTime = 40 * time.Second

// findCards looks for cards: with the built-in card first, and where that finds none, with the
// libraries. Each is a child of its own. The texts say what was seen that cannot be used.
func (r *run) findCards(ctx context.Context) ([]found, []message.Text, error) {
	sources := []string{""}
	if r.o.Library != "" {
		sources = []string{r.o.Library}
	} else {
		for _, l := range find.Libraries("/") {
			if l.Usable() {
				sources = append(sources, l.Path)
			}
		}
	}

	var all []found
	var notes []message.Text
	for _, library := range sources {
		some, why, err := look(ctx, library)
		if err != nil {
			return nil, nil, err
		}
		all, notes = append(all, some...), append(notes, why...)
		if len(all) > 0 {
			break // a second library for the same card is no other card
		}
	}
	return all, notes, nil
}

// look reads the cards of one source.
func look(ctx context.Context, library string) ([]found, []message.Text, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	file, done, err := lookConfig(library)
	if err != nil {
		return nil, nil, err
	}
	defer done()

	source := library
	if source == "" {
		source = "builtin"
	}
	answer, err := probe.Cards(ctx, file)
	if err != nil {
		return nil, []message.Text{message.Textf("%s: %s", source, err.Error())}, nil
	}
	var notes []message.Text
	switch {
	case answer.Failure != nil:
		notes = append(notes, message.Textf("%s: %s", source, answer.Failure.Text))
	case len(answer.Slots) == 0:
		notes = append(notes, message.Textf("%s: no card reader is connected", source))
	}

	var all []found
	for _, slot := range answer.Slots {
		switch {
		case slot.Failure != nil:
			notes = append(notes, message.Textf("%s: %s", token.Printable(slot.Description), slot.Failure.Text))
		case slot.Card == nil:
			notes = append(notes, message.Textf("%s: no card", token.Printable(slot.Description)))
		case slot.Card.Failure != nil:
			notes = append(notes, message.Textf("%s: %s", token.Printable(slot.Description), slot.Card.Failure.Text))
		case len(slot.Card.Certificates) == 0:
			notes = append(notes, message.Textf("%s: the card %s shows no certificate", token.Printable(slot.Description), token.Printable(slot.Card.Label)))
		}
		if slot.Card == nil {
			continue
		}
		for _, c := range slot.Card.Certificates {
			f := found{library: library, reader: slot.Description, card: slot.Card, label: c.Label}
			why := f.take(c)
			if !why.Empty() {
				notes = append(notes, message.Textf("%s: the certificate %s: %s", token.Printable(slot.Description), token.Printable(c.Label), why))
				continue
			}
			all = append(all, f)
		}
	}
	return all, notes, nil
}

// take reads a certificate; the text says why it cannot log anybody in.
func (f *found) take(c probe.Certificate) message.Text {
	if c.Error != "" {
		return message.Textf("%s", c.Error)
	}
	cert, err := certinfo.ParsePadded(c.DER)
	if err != nil {
		return message.Textf("%s", err.Error())
	}
	f.cert = cert
	switch now := time.Now(); {
	case cert.HasKeyUsage && cert.KeyUsage&certinfo.KeyUsageDigitalSignature == 0:
		return message.Textf("its key is not for signatures")
	case cert.IsCA && !cert.SelfIssued():
		return message.Textf("it is that of an authority")
	case now.After(cert.NotAfter):
		return message.Textf("it has expired on %s", cert.NotAfter.Format(time.DateOnly))
	case now.Before(cert.NotBefore):
		return message.Textf("it is not valid before %s; is the clock right?", cert.NotBefore.Format(time.DateOnly))
	}
	return message.Text{}
}

// lookConfig writes a configuration that says no more than where the cards are.
func lookConfig(library string) (file string, done func(), err error) {
	dir, err := os.MkdirTemp(workDir, "pam-pkcs11-look-")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	text, err := (&settings{Library: library, Mapper: "enrolled", Mode: doctor.ModePassword}).text()
	if err == nil {
		file = filepath.Join(dir, "look.conf")
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		done()
		return "", nil, err
	}
	return file, done, nil
}

// chooseCard takes the one certificate that there is, or asks.
func (r *run) chooseCard(ctx context.Context) error {
	all, notes, err := r.findCards(ctx)
	if err != nil {
		return err
	}
	for _, n := range notes {
		r.note("card-seen", n)
	}
	if len(all) == 0 {
		return refused("no card with a certificate that could log somebody in was found; put it into the reader, or see: pam-pkcs11 list")
	}
	all = forLogins(all)
	if len(all) == 1 {
		r.found = &all[0]
		r.showCard()
		return nil
	}

	var answers []message.Text
	var choices []string
	for _, f := range all {
		answers = append(answers, f.describe())
		choices = append(choices, f.describe().String())
	}
	if r.o.Person == nil {
		return &ChoiceError{Question: message.Textf("There are several certificates: leave one card in the reader, or name its library."), Choices: choices}
	}
	i, err := r.o.Person.Choose(message.Textf("Which certificate is to log %s in?", r.o.User), answers)
	if err != nil {
		return err
	}
	r.found = &all[i]
	r.showCard()
	return nil
}

// forLogins leaves of several certificates of a PIV card the one that PIV has for logins (SP
// 800-73-4, part 1, 3.1.3), where it is there.
func forLogins(all []found) []found {
	const piv = "PIV Authentication"
	best := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return !strings.Contains(f.label, piv) })
	sameCard := !slices.ContainsFunc(all, func(f found) bool { return f.reader != all[0].reader })
	if len(best) == 1 && sameCard {
		return best
	}
	return all
}

// describe is a certificate in one line.
func (f *found) describe() message.Text {
	return message.Textf("%s (card %s in %s, valid until %s)", token.Printable(f.cert.Subject.RFC4514()), token.Printable(f.card.Label),
		token.Printable(f.reader), f.cert.NotAfter.Format(time.DateOnly))
}

// showCard puts the card into the result, and tells the person.
func (r *run) showCard() {
	f := r.found
	source := f.library
	if source == "" {
		source = "builtin"
	}
	shown := showCertificate(f.cert)
	r.result.Card = &CardShown{Source: source, Reader: f.reader, Label: f.card.Label, Serial: f.card.Serial}
	r.result.Certificate = &shown

	r.say("Card: %s in %s", token.Printable(f.card.Label), token.Printable(f.reader))
	r.say("Certificate: %s", token.Printable(shown.Subject))
	r.say("    issued by %s, valid until %s", token.Printable(shown.Issuer), f.cert.NotAfter.Format(time.DateOnly))
	switch tries := f.card.PIN.Tries; {
	case tries.Level == token.Locked:
		r.say("    its PIN is locked: pam-pkcs11 pin unblock sets a new one")
	case tries.Counted:
		r.say("    tries left for its PIN: %d", tries.Left)
	}
}

// showCertificate is a certificate as people compare it.
func showCertificate(c *certinfo.Certificate) CertificateShown {
	return CertificateShown{
		Subject:  c.Subject.RFC4514(),
		Issuer:   c.Issuer.RFC4514(),
		NotAfter: c.NotAfter.UTC().Format(time.RFC3339),
		SHA256:   fmt.Sprintf("%x", c.Fingerprint(sha256Hash)),
		Key:      enrolled.KeyOf(c).String(),
	}
}
