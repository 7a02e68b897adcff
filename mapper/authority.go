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
	Cert  *certinfo.Certificate
	Chain []*certinfo.Certificate // Cert first, its anchor last; nil where no chain to a CA of ca_dir was built

	// Alone: a chain was asked for, or its dates were, and it has none; it counts because its key
	// is enrolled. Only the mapper that enrolled it is asked.
	Alone bool
}

// issuer returns the certificate of the CA whose key signed Cert; nil where no chain was built.
func (c Checked) issuer() *certinfo.Certificate {
	if len(c.Chain) == 0 {
		return nil
	}
	return c.Chain[min(1, len(c.Chain)-1)] // of a chain of one, the certificate is its own issuer
}

func (c Checked) anchor() *certinfo.Certificate { return c.Chain[len(c.Chain)-1] }

// authorities are the CAs of ca_dir.
type authorities struct {
	all     []*certinfo.Certificate
	partial bool // every CA of ca_dir ends a chain, not only the roots
}

// of tells the standing of a certificate's issuer. With CAs of its name in ca_dir their keys are
// meant, and every key of that name below the anchor of one of them: so renewed keys count, and
// another anchor's CAs do not.
func (a authorities) of(c Checked) mapping.Standing {
	issuer := c.issuer()
	if issuer == nil {
		return mapping.StandingUnknown
	}
	known := a.named(c.Cert.Issuer)
	switch {
	case len(known) == 0 && len(a.roots()) > 1:
		return mapping.StandingNamed
	case len(known) == 0:
		return mapping.StandingBound
	}
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
		if a.isRoot(c) && !slices.ContainsFunc(list, func(r *certinfo.Certificate) bool { return sameKey(r, c) }) {
			list = append(list, c)
		}
	}
	return list
}

func (a authorities) isRoot(c *certinfo.Certificate) bool { return a.partial || isSelfSigned(c) }

// isSelfSigned goes by names and key identifiers, which can be believed in ca_dir.
func isSelfSigned(c *certinfo.Certificate) bool {
	return c.SelfIssued() && (len(c.AuthorityKeyID) == 0 || len(c.SubjectKeyID) == 0 || bytes.Equal(c.AuthorityKeyID, c.SubjectKeyID))
}

// maxBelow is how many certificates lie between a CA of ca_dir and its root at most.
const maxBelow = 16

// isBelow tells whether a CA of ca_dir is an anchor or lies below it, by the certificates of ca_dir
// alone. Where more than one of these may be its issuer, nobody knows and the answer is no.
func (a authorities) isBelow(c, anchor *certinfo.Certificate) bool {
	for range maxBelow {
		if sameKey(c, anchor) {
			return true
		}
		above := a.issuersOf(c)
		if isSelfSigned(c) || len(above) == 0 || slices.ContainsFunc(above, func(x *certinfo.Certificate) bool { return !sameKey(x, above[0]) }) {
			return false
		}
		c = above[0]
	}
	return false
}

// issuersOf returns the CAs of ca_dir that may have issued a certificate: of the issuer's name and,
// where it is said, of the key identifier. Nobody but the administrator writes ca_dir, so that
// these can be believed.
func (a authorities) issuersOf(c *certinfo.Certificate) []*certinfo.Certificate {
	return slices.DeleteFunc(a.named(c.Issuer), func(x *certinfo.Certificate) bool {
		differ := len(c.AuthorityKeyID) > 0 && len(x.SubjectKeyID) > 0 && !bytes.Equal(c.AuthorityKeyID, x.SubjectKeyID)
		return differ || sameKey(x, c)
	})
}

func sameKey(a, b *certinfo.Certificate) bool { return bytes.Equal(a.RawSPKI, b.RawSPKI) }

// keySum is the SHA-256 of a certificate's key with its algorithm (SubjectPublicKeyInfo, RFC 5280,
// 4.1.2.7).
func keySum(c *certinfo.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSPKI) }

// keyText is how a block names the key of a CA.
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
	sum := sha1.Sum(key.Bits.Bytes)
	return sum[:]
}
