package mapper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/mapping"
)

// issuerName is one value of a block's key issuer: an authority by its name, by its key, or by the
// identifier of its key.
type issuerName struct {
	text string
	name certinfo.Name // of a DN or a file
	sum  []byte        // SHA-256 of the key; nil where the DN is all
	ski  []byte
}

// maxIssuerFile is the size in octets above which a file is not read as one certificate.
const maxIssuerFile = 256 << 10

// newIssuerName reads a value of issuer: a distinguished name, "file:PATH", "ski:HEX" or
// "sha256:HEX".
func newIssuerName(text string, o Options) (issuerName, error) {
	n := issuerName{text: text}
	var err error

	switch kind, rest, _ := strings.Cut(text, ":"); kind {
	case "sha256":
		if n.sum, err = pairsOfHex(rest); err == nil && len(n.sum) != sha256.Size {
			err = fmt.Errorf("%d octets, expected %d", len(n.sum), sha256.Size)
		}
	case "ski":
		n.ski, err = pairsOfHex(rest)
	case "file":
		err = n.readFile(rest, o)
	default:
		n.name, err = certinfo.ParseDN(text)
	}

	if err != nil {
		return n, fmt.Errorf("issuer %q: %w", text, err)
	}
	return n, nil
}

// pairsOfHex reads hexadecimal digits, with or without colons between pairs as openssl prints them.
func pairsOfHex(text string) ([]byte, error) {
	octets, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err == nil && len(octets) == 0 {
		err = errors.New("no octets, expected hexadecimal digits")
	}
	return octets, err
}

// readFile takes the name and the key of the one certificate in a file.
func (n *issuerName) readFile(path string, o Options) error {
	policy := safefile.Data()
	if o.StrictPermissions {
		policy = policy.Strict()
	}
	// A file of unknown size would be held in memory by a process that runs as root.
	policy.MaxSize = maxIssuerFile

	data, resolved, err := safefile.ReadFile(path, policy)
	if err != nil {
		return err
	}

	for _, r := range resolved.Reports {
		o.Logger.Warn("issuer: "+r.Problem, "path", r.Path)
	}

	certs, err := certificatesIn(data)
	if err != nil {
		return err
	}

	// With several, none of them is known to be the one that is meant.
	if len(certs) != 1 {
		return fmt.Errorf("%d certificates, expected one", len(certs))
	}

	sum := keySum(certs[0])
	n.name = certs[0].Subject
	n.sum = sum[:]
	return nil
}

// certificatesIn reads the certificates of a file, PEM or one in DER.
func certificatesIn(data []byte) ([]*certinfo.Certificate, error) {
	ders := [][]byte{data}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		ders = nil
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				ders = append(ders, block.Bytes)
			}
		}
	}

	var certs []*certinfo.Certificate
	for _, der := range ders {
		c, err := certinfo.Parse(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// byNameAlone reports whether any key of the name is meant, as far as ca_dir does not say more.
func (n issuerName) byNameAlone() bool { return n.sum == nil && n.ski == nil }

// may reports whether the certificate's issuer can be this one, before a chain is built.
func (n issuerName) may(cert *certinfo.Certificate, known authorities) bool {
	if n.name != nil {
		return n.name.Equal(cert.Issuer)
	}

	// A value with a key alone has no name to compare: ca_dir must know the CA.
	return slices.ContainsFunc(known.all, func(c *certinfo.Certificate) bool {
		return n.isKeyOf(c, known) && c.Subject.Equal(cert.Issuer)
	})
}

// isKeyOf reports whether the authority with this certificate is the one of this value, by its key.
func (n issuerName) isKeyOf(issuer *certinfo.Certificate, known authorities) bool {
	if n.sum != nil {
		sum := keySum(issuer)
		return bytes.Equal(n.sum, sum[:])
	}

	// The SubjectKeyIdentifier in a certificate was written by its issuer, who may choose any. It
	// counts only in ca_dir; elsewhere the identifier must follow from the key.
	if bytes.Equal(n.ski, keyIdentifier(issuer)) {
		return true
	}

	return slices.ContainsFunc(known.all, func(c *certinfo.Certificate) bool {
		return bytes.Equal(n.ski, c.SubjectKeyID) && sameKey(c, issuer)
	})
}

// errOtherIssuer is returned for a block that is for certificates of other issuers.
var errOtherIssuer = errors.New("the issuer is not one of those of the block")

// issuerStanding returns the standing of the issuer for this block, and why the block is not asked;
// nil when it is.
func (l link) issuerStanding(c Checked, known authorities) (mapping.Standing, error) {
	if len(l.issuers) == 0 {
		return l.standingOfAny(c, known)
	}

	// A value with a key decides at once. One that gives a name only leaves the key to ca_dir.
	issuer := c.issuer()
	named := false    // a value has the issuer's name, and no key
	needsKey := false // a value has a key, and no chain shows the issuer's
	for _, n := range l.issuers {
		switch {
		case n.byNameAlone():
			named = named || n.name.Equal(c.Cert.Issuer)
		case issuer == nil:
			needsKey = true
		case n.isKeyOf(issuer, known):
			return mapping.StandingBound, nil
		}
	}

	switch {
	case named:
		s := known.of(c)
		return s, foreignIssuer(s, c)
	case needsKey:
		return mapping.StandingUnknown, fmt.Errorf(
			"%w, as far as is known: its key is not, because no chain to a CA of ca_dir was built (cert_policy = ca builds one)",
			errOtherIssuer)
	case issuer != nil:
		return mapping.StandingForeign, fmt.Errorf("%w; its key is %s", errOtherIssuer, keyText(issuer))
	}
	return mapping.StandingForeign, errOtherIssuer
}

// standingOfAny is issuerStanding of a block without issuer.
func (l link) standingOfAny(c Checked, known authorities) (mapping.Standing, error) {
	r, ok := l.mapper.(mapping.IssuerReader)
	if !ok {
		return mapping.StandingUnknown, nil
	}

	switch r.IssuerUse(c.Cert) {
	case mapping.UsesNoIssuer:
		return mapping.StandingUnknown, nil
	case mapping.ComparesIssuer:
		return known.of(c), nil
	}

	// Where the answer rests on the name, another CA of that name must not be taken for it.
	s := known.of(c)
	return s, foreignIssuer(s, c)
}

// foreignIssuer returns why a CA of a known name is not the one that is meant; nil where it is.
func foreignIssuer(s mapping.Standing, c Checked) error {
	if s != mapping.StandingForeign {
		return nil
	}
	return mapping.Cure(
		fmt.Errorf("the issuer has the name of a CA of ca_dir, and another key below another anchor, %q",
			c.anchor().Subject.RFC4514()),
		fmt.Sprintf("issuer = %q, or its certificate in ca_dir, if it is meant too", keyText(c.issuer())),
	)
}

// goesByIssuer reports whether the block's answer about the certificate rests on the issuer's name.
func (l link) goesByIssuer(cert *certinfo.Certificate) bool {
	if r, ok := l.mapper.(mapping.IssuerReader); ok && r.IssuerUse(cert) == mapping.RestsOnIssuer {
		return true
	}
	return slices.ContainsFunc(l.issuers, issuerName.byNameAlone)
}

// BoundByName returns a sentence for each block where an authority is known by its name alone
// although several roots of ca_dir could certify a CA of that name.
func (c *Chain) BoundByName() []string {
	roots := len(c.known.roots())
	// A single root is the only one that can have certified them: the name is as good as a key.
	if roots < 2 {
		return nil
	}

	var notes []string
	for _, l := range c.links {
		for _, n := range l.issuers {
			if n.byNameAlone() && len(c.known.named(n.name)) == 0 {
				notes = append(notes, fmt.Sprintf("mapper %s: issuer %q is bound by its name alone: "+
					"ca_dir has no CA of that name, and any of its %d roots can certify one; %s",
					l.name, n.text, roots, mapping.NameTheKey))
			}
		}

		// A block without issuer may go by any issuer's name.
		u, readsIssuer := l.mapper.(mapping.IssuerReader)
		if readsIssuer && len(l.issuers) == 0 && u.IssuerUse(nil) == mapping.RestsOnIssuer {
			notes = append(notes, fmt.Sprintf("mapper %s: goes by the names of issuers; "+
				"those that are not in ca_dir are bound by name alone, and any of its %d roots can certify them; %s",
				l.name, roots, mapping.NameTheKey))
		}
	}
	return notes
}
