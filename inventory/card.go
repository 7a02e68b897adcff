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
	session, err := l.module.Open(ctx, *slot)
	if err == nil {
		info = session.Info()
		err = errors.Join(l.certificates(ctx, slot, session, c, subject), session.Close())
	}
	if err != nil {
		c.Problem = token.Printable(err.Error())
		l.cause(slotCause(err), subject, err)
	}
	c.Label, c.Serial, c.Manufacturer, c.Model = info.Label, info.Serial, info.Manufacturer,
		info.Model
	c.PIN = pinOf(info.PIN)
	l.pin(info, subject)
	return c
}

// certificates reads and judges the certificates.
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

	var others []*certinfo.Certificate
	for _, o := range objects {
		if o.Err == nil {
			others = append(others, o.Cert)
		}
	}
	for i := range objects {
		one := Certificate{Place: placeOf(&objects[i], builtin), Label: objects[i].Label}
		l.judge(ctx, slot.Block, &objects[i], others, &one)
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

// judge says of one certificate what it is, whether it is good, and whose, within the time that a
// login would have.
func (l *looking) judge(
	ctx context.Context, block int, o *token.Object, others []*certinfo.Certificate, c *Certificate,
) {
	if o.Err != nil {
		outline := certinfo.ReadOutline(o.Value)
		c.Subject, c.Issuer, c.Serial = outline.Subject, outline.Issuer, outline.Serial
		c.Check = token.Printable("cannot be used: " + o.Err.Error())
		return
	}
	cert := o.Cert
	c.Subject, c.Issuer, c.Serial = cert.Subject.RFC4514(), cert.Issuer.RFC4514(),
		cert.SerialHex(":")
	c.NotBefore, c.NotAfter, c.Key = cert.NotBefore, cert.NotAfter, enrolled.KeyOf(cert).String()
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
	if c.Good = err == nil; err != nil {
		c.Check = token.Printable(err.Error())
	}
	explained, err := checker.Explain(ctx, login.Checked(cert, checked), "")
	if err != nil && c.Good {
		c.Good, c.Check = false, fmt.Sprintf("it could not be found out whose it is: %v", err)
	}
	for _, e := range explained {
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
	if len(c.Accounts) == 1 {
		c.Accounts = nil
	}
}
