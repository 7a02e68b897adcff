package mapper

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"slices"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// Checked is a certificate with what its check found.
type Checked struct {
	Cert *certinfo.Certificate

	// Chain has Cert first and its anchor last; nil where no chain to a CA of ca_dir was built.
	Chain []*certinfo.Certificate

	// Alone is set for a certificate that should have a chain or valid dates and has not: it counts
	// because its key is enrolled. Only the mapper that enrolled it is asked.
	Alone bool
}

// issuer returns the certificate of the CA whose key signed Cert; nil where no chain was built.
func (c Checked) issuer() *certinfo.Certificate {
	if len(c.Chain) == 0 {
		return nil
	}

	// In a chain of one, the certificate is its own issuer.
	return c.Chain[min(1, len(c.Chain)-1)]
}

func (c Checked) anchor() *certinfo.Certificate { return c.Chain[len(c.Chain)-1] }

// authorities is the set of CAs of ca_dir.
type authorities struct {
	all     []*certinfo.Certificate
	partial bool // every CA of ca_dir ends a chain, not only the roots
}

// of returns the standing of a certificate's issuer. With CAs of its name in ca_dir their keys are
// meant, and every key of that name below the anchor of one of them: renewed keys count, and the
// CAs of another anchor do not.
func (a authorities) of(c Checked) mapping.Standing {
	issuer := c.issuer()
	if issuer == nil {
		return mapping.StandingUnknown
	}

	// One root alone can have certified a CA that ca_dir does not name; with several, any of them
	// can have certified another CA of that name.
	known := a.named(c.Cert.Issuer)
	switch {
	case len(known) == 0 && len(a.roots()) > 1:
		return mapping.StandingNamed
	case len(known) == 0:
		return mapping.StandingBound
	}

	// A renewed key is not in ca_dir. It counts where its chain ends at the anchor above the known
	// CA of that name.
	for _, k := range known {
		if sameKey(k, issuer) || a.isBelow(k, c.anchor()) {
			return mapping.StandingBound
		}
	}
	return mapping.StandingForeign
}

// named returns the CAs of a name.
func (a authorities) named(n certinfo.Name) []*certinfo.Certificate {
	var list []*certinfo.Certificate
	for _, c := range a.all {
		if c.Subject.Equal(n) {
			list = append(list, c)
		}
	}
	return list
}

// roots returns the CAs that can end a chain, one for each key.
func (a authorities) roots() []*certinfo.Certificate {
	var list []*certinfo.Certificate
	for _, c := range a.all {
		hasKeyOf := func(r *certinfo.Certificate) bool { return sameKey(r, c) }
		if a.isRoot(c) && !slices.ContainsFunc(list, hasKeyOf) {
			list = append(list, c)
		}
	}
	return list
}

func (a authorities) isRoot(c *certinfo.Certificate) bool { return a.partial || isSelfSigned(c) }

// isSelfSigned goes by names and key identifiers, without a signature check: only the administrator
// writes ca_dir.
func isSelfSigned(c *certinfo.Certificate) bool {
	if !c.SelfIssued() {
		return false
	}

	// A CA that certified its own new key with the old one is self-issued and not self-signed
	// (RFC 5280, 3.2): its identifiers differ.
	unsaid := len(c.AuthorityKeyID) == 0 || len(c.SubjectKeyID) == 0
	return unsaid || bytes.Equal(c.AuthorityKeyID, c.SubjectKeyID)
}

// maxBelow bounds the certificates between a CA of ca_dir and its root: cross certificates can make
// a circle.
const maxBelow = 16

// isBelow reports whether a CA of ca_dir is an anchor or lies below it, by the certificates of
// ca_dir alone. Where more than one of these may be its issuer, the answer is no.
func (a authorities) isBelow(c, anchor *certinfo.Certificate) bool {
	for range maxBelow {
		if sameKey(c, anchor) {
			return true
		}

		above := a.issuersOf(c)
		if isSelfSigned(c) || len(above) == 0 {
			return false
		}

		// Several certificates of one key are one issuer; several keys are an open question.
		isOtherKey := func(x *certinfo.Certificate) bool { return !sameKey(x, above[0]) }
		if slices.ContainsFunc(above, isOtherKey) {
			return false
		}
		c = above[0]
	}
	return false
}

// issuersOf returns the CAs of ca_dir that may have issued a certificate: of the issuer's name and,
// where it is given, of the key identifier. Only the administrator writes ca_dir, so their
// identifiers can be trusted.
func (a authorities) issuersOf(c *certinfo.Certificate) []*certinfo.Certificate {
	return slices.DeleteFunc(a.named(c.Issuer), func(x *certinfo.Certificate) bool {
		bothSay := len(c.AuthorityKeyID) > 0 && len(x.SubjectKeyID) > 0
		differ := bothSay && !bytes.Equal(c.AuthorityKeyID, x.SubjectKeyID)
		return differ || sameKey(x, c)
	})
}

func sameKey(a, b *certinfo.Certificate) bool { return bytes.Equal(a.RawSPKI, b.RawSPKI) }

// keySum is the SHA-256 of a certificate's key with its algorithm (SubjectPublicKeyInfo, RFC 5280,
// 4.1.2.7).
func keySum(c *certinfo.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSPKI) }

// keyText writes the key of a CA as the key issuer of a block has it.
func keyText(c *certinfo.Certificate) string {
	sum := keySum(c)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// keyIdentifier is the identifier that follows from the key (RFC 5280, 4.2.1.2, method 1); nil
// where it cannot be read.
func keyIdentifier(c *certinfo.Certificate) []byte {
	var key struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSPKI, &key); err != nil || len(rest) > 0 {
		return nil
	}

	// Method 1 is SHA-1 of the bit string without tag, length and unused bits. It finds a key that
	// the administrator named; nothing rests on its resistance to collisions.
	sum := sha1.Sum(key.Bits.Bytes)
	return sum[:]
}
