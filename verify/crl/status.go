package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// status is the reasons_mask of one certificate (RFC 5280, 6.3.2), and the problems on the way.
type status struct {
	ctx    context.Context
	run    *Run
	cert   *certinfo.Certificate
	issuer *certinfo.Certificate
	key    any // of issuer, with inherited parameters

	covered certinfo.ReasonFlags // by lists of the key that signed cert, and of CRL issuers that it names
	newest  map[string]*Head     // the newest list of each key and scope that was used
	signers map[List]*listSigner
	good    map[string]List // lists whose signature is good, by its octets

	asked      map[string]bool // addresses
	other      otherKey
	forged     string   // a list of the issuer's name that none of its keys signed
	problems   []string // what kept lists from being used, in the order in which it was found
	ownProblem string   // the latest of a list of the key that signed cert
	cure       string   // what helps without a weaker rule, "" for nothing known
}

func newStatus(ctx context.Context, r *Run, cert, issuer *certinfo.Certificate, key any) *status {
	return &status{
		ctx:     ctx,
		run:     r,
		cert:    cert,
		issuer:  issuer,
		key:     key,
		newest:  map[string]*Head{},
		signers: map[List]*listSigner{},
		good:    map[string]List{},
		asked:   map[string]bool{},
	}
}

// settled reports whether the lists cover all reasons, so that no address need be waited for.
func (c *status) settled() bool { return c.covered == certinfo.AllReasons }

// direct reports whether a list is of the issuer's name, and not of a CRL issuer that the
// certificate names.
func (c *status) direct(h *Head) bool { return h.Issuer.Equal(c.issuer.Subject) }

// point uses the lists of one distribution point. The error is final: the certificate is revoked,
// or the work is too much.
func (c *status) point(point *certinfo.DistributionPoint) *refusal.Error {
	lists, err := c.run.r.Source.Lists(c.ctx, c.query(point))
	return c.evaluate(point, lists, err)
}

// query is what a source is asked.
func (c *status) query(point *certinfo.DistributionPoint) *Query {
	return &Query{
		Cert:    c.cert,
		Issuer:  c.issuer,
		Point:   point,
		Settled: c.settled(),
		Asked:   c.asked,
		Doubt:   c.other.doubt,
	}
}

// rest asks the configured addresses that were not asked yet, where the other lists do not cover
// enough. The lists of the implicit point are used with theirs: a delta belongs to its base.
func (c *status) rest() *refusal.Error {
	if c.settled() || c.run.r.Network == nil {
		return nil
	}

	point := ImplicitPoint(c.cert)
	lists, err := c.run.r.Network.Rest(c.ctx, c.query(point))
	if len(lists) > 0 {
		before, _ := c.run.r.Source.Lists(c.ctx, c.query(point)) // its error is known
		lists = append(lists, before...)
	}

	return c.evaluate(point, lists, err)
}

// evaluate uses the lists that there are for a distribution point; err is why there are no more.
func (c *status) evaluate(point *certinfo.DistributionPoint, lists []List, err error) *refusal.Error {
	if err != nil && !c.settled() {
		c.addProblem(err.Error())
	}

	var bases, deltas []List
	for _, l := range lists {
		if l.Head().DeltaBase != nil {
			deltas = append(deltas, l)
			c.other.delta(l)
		} else {
			bases = append(bases, l)
		}
	}

	// The newest list of a scope decides, so the older ones need not even be read.
	newestFirst(bases)
	newestFirst(deltas)

	for _, base := range bases {
		if err := c.list(point, base, deltas); err != nil {
			return err
		}
	}

	return nil
}

// newestFirst sorts lists by age and leaves lists of the same age in their order.
func newestFirst(lists []List) {
	slices.SortStableFunc(lists, func(a, b List) int { return compareAge(b.Head(), a.Head()) })
}

// compareAge is below 0 when a is the older list of the two, 0 when neither is: thisUpdate decides,
// then the number.
func compareAge(a, b *Head) int {
	// The number is optional, and may start anew at a CA; thisUpdate has to be there.
	if n := a.ThisUpdate.Compare(b.ThisUpdate); n != 0 || a.Number == nil || b.Number == nil {
		return n
	}
	return a.Number.Cmp(b.Number)
}

// list is RFC 5280, 6.3.3 (b) to (l), for one complete CRL.
func (c *status) list(point *certinfo.DistributionPoint, base List, deltas []List) *refusal.Error {
	base = c.sameList(base)
	if ok, why := inScope(base.Head(), c.cert, point); !ok {
		c.note(base.Head(), why)
		return nil
	}
	if c.irrelevant(base.Head()) {
		return nil
	}

	// No entry is used before the signature is checked.
	signer, err := c.signer(base)
	if signer == nil {
		return err
	}

	// The head may have changed: the list has been read to its end for its signature.
	h := base.Head()
	if len(h.signature) > 0 {
		c.good[string(h.signature)] = base
	}
	if signer.own {
		c.other.doubt("the list of %s is signed with the certificate's own key", refusal.Stamp(h.ThisUpdate))
	}
	if why := h.Hindrance(c.run.at, false); why != "" {
		c.noteOf(signer, h, why)
		return nil
	}
	if c.superseded(signer, h) {
		return nil
	}
	return c.consult(point, base, signer, deltas)
}

// sameList returns the list that was read before when this one has the same signature: then it is
// the same, or not signed.
func (c *status) sameList(l List) List {
	if before := c.good[string(l.Head().signature)]; before != nil && len(l.Head().signature) > 0 {
		return before
	}
	return l
}

// irrelevant reports whether a list need not be read: a newer one of its scope was used that the
// certificate's own key signed, and no certificate that is known has another key of its issuer's
// name.
func (c *status) irrelevant(h *Head) bool {
	newest := c.newest[keyAndScope(c.issuer, h)]
	if newest == nil || compareAge(h, newest) >= 0 {
		return false
	}
	// Lists are compared within one key: one of another key of that name is not older.
	return !slices.ContainsFunc(c.run.issuers.Named(h.Issuer), func(ca *certinfo.Certificate) bool {
		return !bytes.Equal(ca.RawSPKI, c.issuer.RawSPKI)
	})
}

// superseded reports whether a newer list of the same key and scope was used. Where neither is
// newer, both are used.
func (c *status) superseded(signer *listSigner, h *Head) bool {
	id := keyAndScope(signer.cert, h)
	newest := c.newest[id]
	if newest != nil && compareAge(h, newest) < 0 {
		return true
	}
	c.newest[id] = h
	return false
}

// keyAndScope is the same for lists of which only the newest is used.
func keyAndScope(signer *certinfo.Certificate, h *Head) string {
	return string(signer.RawSPKI) + h.Issuer.Key() + "\x00" + string(h.RawPoint)
}

// consult looks the certificate up in a list that is signed and in scope.
func (c *status) consult(point *certinfo.DistributionPoint, base List, signer *listSigner, deltas []List) *refusal.Error {
	h := base.Head()
	delta, err := c.delta(h, deltas, signer)
	if err != nil {
		return err
	}
	// A delta of today renews a complete list whose time is over (RFC 5280, 5.2.4).
	why := h.Hindrance(c.run.at, true)
	if delta != nil {
		why = ""
	}
	if why == "" {
		why = c.rollback(signer.cert, h)
	}

	if why != "" {
		// Its time is over, so it proves no certificate good; but when the newest list names a
		// certificate, that still counts.
		if _, err := c.look(base, nil); err != nil {
			return err
		}
		c.noteOf(signer, h, why)
		return nil
	}

	looked, err := c.look(base, delta)
	if err != nil {
		return err
	}

	switch reasons := reasonsCovered(h, point); {
	// Which entry would have been there is not known, so other keys' lists prove nothing either.
	case !looked && c.direct(h):
		c.other.doubt("the list of %s cannot be read", refusal.Stamp(h.ThisUpdate))
	case !looked:
	case signer.own || !c.direct(h):
		c.covered |= reasons
	default:
		c.other.covers(h, point, reasons)
	}
	return nil
}

// rollback returns why a list does not count when a newer one of the same key and scope was seen
// before.
func (c *status) rollback(signer *certinfo.Certificate, h *Head) string {
	if c.run.r.Notes == nil {
		return ""
	}

	err := c.run.r.Notes.Rollback(signer.RawSPKI, h)
	if err == nil {
		return ""
	}

	if errors.Is(err, ErrOlder) {
		c.cure = fmt.Sprintf("pam-pkcs11 crl accept %q, if the CA counts its lists anew", refusal.Clip(h.Issuer.RFC4514()))
	}
	return err.Error()
}

// note records why a list does not help.
func (c *status) note(h *Head, why string) { c.addProblem(Describe(h) + " " + why) }

// addProblem records what kept the status from being found out, once.
func (c *status) addProblem(why string) {
	if !slices.Contains(c.problems, why) {
		c.problems = append(c.problems, why)
	}
}

// noteOf is note for a list whose signature is good.
func (c *status) noteOf(signer *listSigner, h *Head, why string) {
	c.note(h, why)
	if signer.own {
		c.ownProblem = Describe(h) + " " + why
	}
}

// unusable is note for a list that the issuer's own key may have signed, for it cannot be ruled
// out.
func (c *status) unusable(h *Head, why string) {
	c.note(h, why)
	if c.direct(h) {
		c.other.doubt("%s %s", Describe(h), why)
	}
}

// Describe names a list in messages.
func Describe(h *Head) string {
	return "the CRL of " + refusal.Clip(h.Issuer.RFC4514()) + " of " + refusal.Stamp(h.ThisUpdate)
}

// delta finds the newest delta CRL that fits the complete one and is signed with the same key. One
// whose time is over renews nothing, but the error is that it lists the certificate.
func (c *status) delta(base *Head, deltas []List, signer *listSigner) (List, *refusal.Error) {
	for _, d := range deltas {
		// RFC 5280, 6.3.3 (c): the delta has to be of the scope and the signer of its base.
		h := d.Head()
		if !deltaFits(h, base) || h.Hindrance(c.run.at, false) != "" {
			continue
		}
		if _, err := c.run.r.Rules.CheckScheme(signer.cert, h.Algorithm); err != nil {
			continue
		}
		if d.SignedBy(signer.cert, signer.key) != nil {
			continue
		}

		h = d.Head() // read to its end by now
		if h.Hindrance(c.run.at, false) != "" {
			continue
		}

		if h.Hindrance(c.run.at, true) == "" && c.rollback(signer.cert, h) == "" {
			return d, nil
		}
		// What it lists counts all the same, as with a complete list whose time is over.
		_, err := c.look(d, nil)
		return nil, err
	}
	return nil, nil
}

// look is RFC 5280, 6.3.3 (i) to (k). It reports whether the lists could be read; the error is that
// the certificate is revoked.
func (c *status) look(base, delta List) (bool, *refusal.Error) {
	// The delta goes first: it may take back what the base lists (removeFromCRL).
	for _, l := range []List{delta, base} {
		if l == nil {
			continue
		}

		entry, found, err := l.Lookup(c.cert.Issuer, c.cert.SerialBytes)
		switch {
		case err != nil:
			c.note(l.Head(), "cannot be read: "+err.Error())
			return false, nil
		case found && entry.Reason == certinfo.CRLReasonRemoveFromCRL:
			return true, nil
		case found:
			return true, refusal.New(c.cert, refusal.ReasonRevoked, "revoked at %s (%s)", refusal.Stamp(entry.when), certinfo.CRLReasonText(entry.Reason))
		}
	}
	return true, nil
}

// verdict is what the lists leave when none of them lists the certificate.
func (c *status) verdict() *refusal.Error {
	if c.settled() {
		return nil
	}

	c.passedOver()
	all := c.covered | c.other.covered
	// Other keys' lists fill the gap only while nothing hints at a list of the own key.
	if all == certinfo.AllReasons {
		doubts := c.otherKeyDoubts()
		if len(doubts) == 0 {
			return nil
		}

		c.cure = "the list of the certificate's own key in crl_dir, or cert_policy with crl_auto"
		return c.unknown("the lists at hand are signed with another key of its issuer's name, and so prove nothing: " + short(doubts))
	}

	if all != 0 {
		return c.unknown("the available CRLs do not cover every revocation reason")
	}
	return c.unknown("no usable CRL: " + c.problemText())
}

// passedOver records which distribution points were not asked, with their cures.
func (c *status) passedOver() {
	if c.run.r.PassedOver == nil {
		return
	}

	whys, cures := c.run.r.PassedOver(c.cert, c.run.r.Network != nil)
	for _, why := range whys {
		c.addProblem(why)
	}

	if c.cure == "" {
		c.cure = strings.Join(cures, ", or ")
	}
}

// problemText names the most telling problem first: that of the certificate's own key, then what
// came last.
func (c *status) problemText() string {
	var all []string
	if c.ownProblem != "" {
		all = append(all, c.ownProblem)
	}
	for _, why := range slices.Backward(c.problems) {
		if why != c.ownProblem {
			all = append(all, why)
		}
	}

	if len(all) == 0 {
		return "there is none of its issuer"
	}
	return short(all)
}

// unknown is the refusal for a status that is not known. A forged list makes it more than silence.
func (c *status) unknown(why string) *refusal.Error {
	if c.forged != "" && !strings.Contains(why, c.forged) {
		why += "; " + c.forged
	}

	err := refusal.New(c.cert, refusal.ReasonRevocationUnknown, "%s", why)
	err.Spoken = c.forged != ""
	err.Restore = c.cure
	return err
}
