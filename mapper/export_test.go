package mapper

import (
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// What the tests, which are outside of the package, see inside of it.
var (
	KeyText       = keyText
	KeySum        = keySum
	KeyIdentifier = keyIdentifier
	NewMailFor    = newMailFor
)

// People finds accounts as the mapper pwent does.
type People = people

// NewPeople makes one.
func NewPeople(source accounts.Source, ignoreCase bool) People {
	return people{accounts: source, ignoreCase: ignoreCase}
}

// Mappers are those of the chain, in its order.
func (c *Chain) Mappers() []mapping.Mapper {
	var all []mapping.Mapper
	for _, l := range c.links {
		all = append(all, l.mapper)
	}
	return all
}

// IssuerMay reports whether the issuer of a certificate can be the one that text names, with these
// certificates in ca_dir.
func IssuerMay(text string, o Options, cert *certinfo.Certificate, known []*certinfo.Certificate) (bool, error) {
	n, err := newIssuerName(text, o)
	if err != nil {
		return false, err
	}
	return n.may(cert, authorities{all: known}), nil
}

// IssuerIsKeyOf reports whether text names a key, and that of ca, with nothing in ca_dir.
func IssuerIsKeyOf(text string, o Options, ca *certinfo.Certificate) (bool, error) {
	n, err := newIssuerName(text, o)
	if err != nil {
		return false, err
	}
	return !n.byNameAlone() && n.isKeyOf(ca, authorities{}), nil
}
