package crl

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Lists that another key of the issuer's name signed. A CA may have a key for its lists alone, or
// sign with its new key for all that it issued; then such a list is all there is. But a CA that was
// renewed may as well sign with each key for the certificates of that key alone, and then the list
// of one does not cover the certificates of the other. So an entry of such a list counts at any
// time, and the absence of one only where there is no trace of a list of the certificate's own key:
// none that is known, whatever its dates, none that was seen before, and no place that might have
// it and could not be asked.

// otherKey is what such lists say of one certificate.
type otherKey struct {
	covered certinfo.ReasonFlags
	lists   []*Head
	deltas  []List                        // of all keys
	points  []*certinfo.DistributionPoint // that one of the lists names as its own
	doubts  []string                      // why they may prove nothing
}

// maxDoubts bounds the reasons that are named in one message.
const maxDoubts = 3

// covers records that a list does not have the certificate.
func (o *otherKey) covers(h *Head, point *certinfo.DistributionPoint, reasons certinfo.ReasonFlags) {
	o.covered |= reasons
	o.lists = append(o.lists, h)
	// The list says that it is of this point: the point has answered, whatever its address.
	if h.Point != nil && h.Point.name != nil {
		o.points = append(o.points, point)
	}
}

// delta records a delta of any key.
func (o *otherKey) delta(l List) {
	if !slices.Contains(o.deltas, l) {
		o.deltas = append(o.deltas, l)
	}
}

// doubt records why such lists may prove nothing.
func (o *otherKey) doubt(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(o.doubts, text) {
		o.doubts = append(o.doubts, text)
	}
}

// otherKeyDoubts gives all reasons why lists of other keys prove nothing; none means that they
// count.
func (c *status) otherKeyDoubts() []string {
	// The own key has had a list, so it may have a newer one that was not found.
	for _, h := range c.other.lists {
		if note := c.seenOf(h); note != "" {
			c.other.doubt("a list of the certificate's own key was seen before (%s; remove that file if the CA has given up the key)", note)
		}
	}

	// A delta needs a base: where there is a delta of the own key there is a list of it as well.
	for _, d := range c.other.deltas {
		if h := d.Head(); c.direct(h) && !c.signedByOther(d) {
			c.other.doubt("the delta of %s may be of the certificate's own key", Describe(h))
		}
	}

	// A place that was not asked may hold the list.
	points := c.cert.CRLDistributionPoints
	for i := range points {
		if why := c.notAsked(&points[i]); why != "" {
			c.other.doubt("%s", why)
		}
	}

	if e := rules.Unusable(c.cert, certinfo.OIDCRLDistributionPoints); e != nil {
		c.other.doubt("its distribution points cannot be read: %s", e.Unusable)
	}

	return c.other.doubts
}

// seenOf names the note of a list of the issuer's own key that was seen before, "" where there is
// none.
func (c *status) seenOf(other *Head) string {
	if c.run.r.Notes == nil {
		return ""
	}
	return c.run.r.Notes.SeenOf(c.issuer, other)
}

// signedByOther reports whether another certificate that is known than those of the issuer's key
// signed a list.
func (c *status) signedByOther(l List) bool {
	return l.SignedBy(c.issuer, c.key) != nil &&
		slices.ContainsFunc(c.run.issuers.Named(c.issuer.Subject), func(ca *certinfo.Certificate) bool {
			return SignedWith(l, ca)
		})
}

// notAsked says why a distribution point that the certificate names with an address could not be
// asked.
func (c *status) notAsked(point *certinfo.DistributionPoint) string {
	address := firstURI(point)
	if address == "" || c.run.r.Network != nil && len(WebURLs([]certinfo.DistributionPoint{*point})) > 0 {
		return ""
	}

	// An answer from the point by any way will do: its list names the point as its own.
	answered := slices.ContainsFunc(c.other.points, func(p *certinfo.DistributionPoint) bool {
		return firstURI(p) == address
	})
	if answered {
		return ""
	}

	why := "cannot be asked"
	if c.run.r.Network == nil {
		why = "is not asked (cert_policy has crl_offline; crl_auto asks it)"
	}
	return "its distribution point " + refusal.Clip(address) + " " + why
}

// firstURI is the first address of a distribution point, "" when it names none.
func firstURI(point *certinfo.DistributionPoint) string {
	if point.Name == nil {
		return ""
	}
	for _, n := range point.Name.FullName {
		if n.Tag == certinfo.TagURI {
			return n.Text
		}
	}
	return ""
}

// forgery notes a list that bears the issuer's name and that no known key signed, so that
// silence cannot pass for it (`revocation = soft`). A list that lies in a directory and names
// another key belongs to another CA of that name, and is no forgery.
func (c *status) forgery(l List) {
	h := l.Head()
	_, fetched := l.(Fetched)
	known := c.direct(h) || len(c.run.issuers.Named(h.Issuer)) > 0
	if known && (fetched || !namesOtherKey(h, c.issuer)) {
		c.forged = Describe(h) + " " + notSigned
	}
}

// namesOtherKey reports whether a list says by its authorityKeyIdentifier that another key than the
// CA's signed it.
func namesOtherKey(h *Head, ca *certinfo.Certificate) bool {
	s := cryptobyte.String(h.authorityKeyID)
	var seq, id cryptobyte.String
	var present bool
	ok := s.ReadASN1(&seq, asn1.SEQUENCE) && seq.ReadOptionalASN1(&id, &present, asn1.Tag(0).ContextSpecific())
	return ok && present && len(ca.SubjectKeyID) > 0 && !bytes.Equal(id, ca.SubjectKeyID)
}

// short joins the first of several reasons.
func short(reasons []string) string {
	if len(reasons) > maxDoubts {
		return strings.Join(reasons[:maxDoubts], "; ") + "; and more"
	}
	return strings.Join(reasons, "; ")
}
