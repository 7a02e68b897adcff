package mapper

import (
	"context"
	"errors"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapfile"
	"pam_pkcs11/mapper/internal/mapping"
)

// serialMapper knows certificates by issuer and serial number, through a mapfile: a number is no
// login. A serial number is one of its issuer, so it counts alone only where the block is bound to
// one issuer; everywhere else the mapfile has the number, a blank, and the issuer's name.
type serialMapper struct {
	mapfile *mapfile.File
	alone   bool
}

var _ mapping.IssuerReader = (*serialMapper)(nil) // the chain finds it by a type assertion

func newSerial(s mappers.Serial, o Options) (mapping.Mapper, error) {
	file, err := mapfile.New(s.Mapfile, o, true)
	return &serialMapper{mapfile: file, alone: s.Alone}, err
}

// Binds implements mapping.Mapper.
func (m *serialMapper) Binds() bool { return false }

// IssuerUse implements mapping.IssuerReader: a serial number means nothing without its issuer.
func (m *serialMapper) IssuerUse(*certinfo.Certificate) mapping.IssuerUse {
	return mapping.RestsOnIssuer
}

// Find implements mapping.Mapper.
func (m *serialMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers returns the answers about a person, or about anybody where user is nil.
func (m *serialMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) ([]mapping.Answer, error) {
	var keys []string
	for _, number := range certtext.SerialTexts(cert) {
		if m.alone {
			keys = append(keys, number)
		}

		// Lines written with openssl have its one-line form, which says less than the name has:
		// it counts only where no other name can look the same.
		keys = append(keys,
			number+" "+cert.Issuer.RFC4514(),
			number+" "+certtext.Spaced(cert.Issuer.RFC4514()))
		if certtext.OneLineIsSure(cert.Issuer) {
			keys = append(keys, number+" "+cert.Issuer.OneLine())
		}
	}

	mapping.TellRead(ctx, keys...)
	if m.mapfile == nil {
		return nil, errors.New("mapfile is not set, and a serial number is no login")
	}
	return m.mapfile.LookupFor(ctx, keys, user)
}

// Match implements mapping.Mapper.
func (m *serialMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := mapping.Pick(found, user, false)
	return a, a.User != "" && err == nil, err
}

// serialItem is the serial number in the form of the generic mapper: pairs of hexadecimal digits
// joined by colons.
func serialItem(cert *certinfo.Certificate) []certinfo.Text {
	return []certinfo.Text{{Value: cert.SerialHex(":"), OK: true}}
}
