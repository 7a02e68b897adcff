package inventory

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/piv"
	"pam_pkcs11/token"
)

// maxCertificates bounds what is read of one card.
const maxCertificates = 100

// card opens a card, and reads what it shows before its PIN.
func (l *looking) card(ctx context.Context, slot *token.Slot, subject string) *Card {
	c := &Card{Block: l.Conf.Modules[slot.Block].Name, Certificates: []Certificate{}}

	info := slot.Token
	// Where it cannot be opened, what its slot says of it is shown all the same.
	session, err := l.module.Open(ctx, *slot)
	if err == nil {
		info = session.Info()
		err = errors.Join(l.certificates(ctx, slot, session, c, subject), session.Close())
	}

	if err != nil {
		c.Problem = token.Printable(err.Error())
		l.cause(slotCause(err), subject, err)
	}

	c.Label = info.Label
	c.Serial = info.Serial
	c.Manufacturer = info.Manufacturer
	c.Model = info.Model
	c.PIN = pinOf(info.PIN)
	l.pin(info, subject)
	return c
}

// certificates reads and checks the certificates.
func (l *looking) certificates(
	ctx context.Context, slot *token.Slot, session token.Session, c *Card, subject string,
) error {
	var objects []token.Object
	for o, err := range session.Certificates(ctx) {
		if err != nil {
			return err
		}
		if objects = append(objects, o); len(objects) == maxCertificates {
			break
		}
	}

	builtin := l.Conf.Modules[slot.Block].Builtin
	switch {
	case len(objects) > 0:
	case builtin:
		l.cause(causes.NoCertificate, subject, nil) // a PIV card hides none
	default:
		l.cause(causes.CertificateHidden, subject, nil)
	}

	// Chains are built from all that the card shows, also where one of them is asked about.
	var others []*certinfo.Certificate
	for _, o := range objects {
		if o.Err == nil {
			others = append(others, o.Cert)
		}
	}

	for i := range objects {
		one := Certificate{Place: placeOf(&objects[i], builtin), Label: objects[i].Label}
		l.check(ctx, slot.Block, &objects[i], others, &one)
		c.Certificates = append(c.Certificates, one)
	}
	return nil
}

// placeOf names where a certificate is on its card.
func placeOf(o *token.Object, builtin bool) string {
	if key, found := piv.KeyOfID(o.ID); found && builtin {
		return key.String()
	}
	return hex.EncodeToString(o.ID)
}

// check says of one certificate what it is, whether it is good, and whose, within the time that a
// login would have.
func (l *looking) check(
	ctx context.Context, block int, o *token.Object, others []*certinfo.Certificate, c *Certificate,
) {
	if o.Err != nil {
		outline := certinfo.ReadOutline(o.Value)
		c.Subject = outline.Subject
		c.Issuer = outline.Issuer
		c.Serial = outline.Serial
		c.Check = token.Printable("cannot be used: " + o.Err.Error())
		return
	}

	cert := o.Cert
	c.Subject = cert.Subject.RFC4514()
	c.Issuer = cert.Issuer.RFC4514()
	c.Serial = cert.SerialHex(":")
	c.NotBefore = cert.NotBefore
	c.NotAfter = cert.NotAfter
	c.Key = enrolled.KeyOf(cert).String()

	if l.ShowOnly {
		c.Check = "there is no configuration to judge it by"
		return
	}

	checker, err := l.checker(block)
	if err != nil {
		c.Check = token.Printable(err.Error())
		return
	}

	ctx, cancel := context.WithTimeout(ctx, l.Conf.Global.VerifyTimeout)
	defer cancel()
	checked, err := checker.Check(ctx, cert, others)
	c.Good = err == nil
	if err != nil {
		c.Check = token.Printable(err.Error())
	}

	// The mappers are asked about a refused one as well: whose it is helps to tell it from others.
	explained, err := checker.Explain(ctx, login.Checked(cert, checked), "")
	if err != nil && c.Good {
		c.Good = false
		c.Check = fmt.Sprintf("it could not be found out whose it is: %v", err)
	}

	for _, e := range explained {
		// The first mapper that names somebody decides, as at a login.
		if c.User == "" {
			c.User, c.Mapper = e.User, e.Mapper
		}
		for _, account := range slices.Concat([]string{e.User}, e.Others, e.ByName) {
			if account != "" && !slices.Contains(c.Accounts, account) {
				c.Accounts = append(c.Accounts, account)
			}
		}
	}

	if c.User == "" {
		c.Mapper = ""
	}
	// One account is User already.
	if len(c.Accounts) == 1 {
		c.Accounts = nil
	}
}
