package mapper

import (
	"context"
	"errors"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// serialMapper knows certificates by issuer and serial number, through a mapfile: a number is no login. A serial
// number is one of its issuer, so it counts alone only where the block is bound to one issuer; everywhere else
// the mapfile has the number, a blank, and the issuer's name.
type serialMapper struct {
	mapfile *mapfile
	alone   bool
}

func newSerial(s mappers.Serial, o Options) (mapper, error) {
	file, err := mapfileOf(s.Mapfile, o, true)
	return &serialMapper{mapfile: file, alone: s.Alone}, err
}

func (m *serialMapper) binds() bool { return false }

// issuerUse: a number is one of its issuer.
func (m *serialMapper) issuerUse(*certinfo.Certificate) issuerUse { return restsOnIssuer }

func (m *serialMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers are those about a person, nil is anybody.
func (m *serialMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *person) ([]answer, error) {
	var keys []string
	for _, number := range serialTexts(cert) {
		if m.alone {
			keys = append(keys, number)
		}
		keys = append(keys, number+" "+cert.Issuer.RFC4514(), number+" "+spaced(cert.Issuer.RFC4514()))
		if oneLineIsSure(cert.Issuer) {
			keys = append(keys, number+" "+cert.Issuer.OneLine())
		}
	}
	tellRead(ctx, keys...)
	if m.mapfile == nil {
		return nil, errors.New("mapfile is not set, and a serial number is no login")
	}
	return m.mapfile.lookupFor(ctx, keys, user)
}

func (m *serialMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := pick(found, user, false)
	return a, a.user != "" && err == nil, err
}

// serialTexts returns the ways to write a serial number: decimal; hexadecimal with 0x; in pairs joined by colons,
// as openssl x509 -text prints it; and without either, as openssl x509 -serial does. No two numbers share a text:
// pairs are left out where there is only one, and bare digits where they could be decimal.
func serialTexts(cert *certinfo.Certificate) []string {
	sign, magnitude := "", cert.SerialHex("")
	if rest, negative := strings.CutPrefix(magnitude, "-"); negative {
		sign, magnitude = "-", rest
	}
	texts := []string{cert.Serial.String(), sign + "0x" + magnitude}
	if short := strings.TrimLeft(magnitude, "0"); short != "" && short != magnitude {
		texts = append(texts, sign+"0x"+short)
	}
	if len(magnitude) > 2 {
		pairs := strings.TrimPrefix(cert.SerialHex(":"), "-")
		texts = append(texts, sign+pairs, sign+"0x"+pairs)
	}
	if strings.ContainsAny(magnitude, "ABCDEF") || magnitude[0] == '0' {
		texts = append(texts, sign+magnitude)
	}
	return texts
}

// serialItem is the serial number as the generic mapper always read it: pairs of hexadecimal digits joined by colons.
func serialItem(cert *certinfo.Certificate) []certinfo.Text {
	return []certinfo.Text{{Value: cert.SerialHex(":"), OK: true}}
}
