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

// status is the reasons_mask of one certificate, and what went wrong on the way.
type status struct {
	ctx    context.Context
	run    *Run
	cert   *certinfo.Certificate
	issuer *certinfo.Certificate
	key    any // of issuer, with inherited parameters

	covered certinfo.ReasonFlags // by lists of the key that signed cert, and of CRL issuers that it names
	spoke   map[string]*Head     // the newest list of each key and scope that spoke
	signers map[List]*listSigner
	good    map[string]List // lists whose signature is good, by its octets

	asked  map[string]bool // addresses
	other  otherKey
	forged string   // a list of the issuer's name that none of its keys signed
	whys   []string // what hindered, in the order in which it was found
	whyOwn string   // the latest of a list of the key that signed cert
	cure   string   // what helps without a weaker rule, "" for nothing known
}

func newStatus(ctx context.Context, r *Run, cert, issuer *certinfo.Certificate, key any) *status {
	return &status{
		ctx:     ctx,
		run:     r,
		cert:    cert,
		issuer:  issuer,
		key:     key,
		spoke:   map[string]*Head{},
		signers: map[List]*listSigner{},
		good:    map[string]List{},
		asked:   map[string]bool{},
	}
}

// settled tells whether the lists say enough, so that no address need be waited for.
func (c *status) settled() bool { return c.covered == certinfo.AllReasons }

// direct tells whether a list is of the issuer's name, and not of a CRL issuer that the certificate
// names.
func (c *status) direct(h *Head) bool { return h.Issuer.Equal(c.issuer.Subject) }

// point looks at one distribution point. The error is final: the certificate is revoked, or the
// work is too much.
func (c *status) point(point *certinfo.DistributionPoint) *refusal.Error {
	lists, err := c.run.r.Source.Lists(c.ctx, c.query(point))
	return c.judge(point, lists, err)
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

// rest asks the configured addresses of which nothing is known, where what is known does not say
// enough. The lists of the implicit point are judged with theirs: a delta belongs to its base.
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
	return c.judge(point, lists, err)
}

// judge looks at the lists that there are for a distribution point; err is why there are no more.
func (c *status) judge(point *certinfo.DistributionPoint, lists []List, err error) *refusal.Error {
	if err != nil && !c.settled() {
		c.hindered(err.Error())
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
	newestFirst(bases)
	newestFirst(deltas)
	for _, base := range bases {
		if err := c.list(point, base, deltas); err != nil {
			return err
		}
	}
	return nil
}

func newestFirst(lists []List) {
	slices.SortStableFunc(lists, func(a, b List) int { return compareAge(b.Head(), a.Head()) })
}

// compareAge is below 0 when a is the older list of the two, 0 when neither is: thisUpdate counts,
// then the number.
func compareAge(a, b *Head) int {
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
	if c.cannotCount(base.Head()) {
		return nil
	}
	signer, err := c.signer(base)
	if signer == nil {
		return err
	}

	h := base.Head() // read to its end by now
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
	if c.outspoken(signer, h) {
		return nil
	}
	return c.speaks(point, base, signer, deltas)
}

// sameList gives the list that was read before when this one has its signature: then it is the
// same, or not signed.
func (c *status) sameList(l List) List {
	if before := c.good[string(l.Head().signature)]; before != nil && len(l.Head().signature) > 0 {
		return before
	}
	return l
}

// cannotCount tells of a list that need not be read: a newer one of its scope has spoken that the
// certificate's own key signed, and no certificate at hand has another key of its issuer's name.
func (c *status) cannotCount(h *Head) bool {
	newest := c.spoke[keyAndScope(c.issuer, h)]
	if newest == nil || compareAge(h, newest) >= 0 {
		return false
	}
	return !slices.ContainsFunc(c.run.issuers.Named(h.Issuer), func(ca *certinfo.Certificate) bool {
		return !bytes.Equal(ca.RawSPKI, c.issuer.RawSPKI)
	})
}

// outspoken tells whether a newer list of the same key and scope has spoken. Where neither is
// newer, both speak.
func (c *status) outspoken(signer *listSigner, h *Head) bool {
	id := keyAndScope(signer.cert, h)
	newest := c.spoke[id]
	if newest != nil && compareAge(h, newest) < 0 {
		return true
	}
	c.spoke[id] = h
	return false
}

// keyAndScope is alike for lists of which the newest speaks.
func keyAndScope(signer *certinfo.Certificate, h *Head) string {
	return string(signer.RawSPKI) + h.Issuer.Key() + "\x00" + string(h.RawPoint)
}

// speaks looks the certificate up in a list that can be believed.
func (c *status) speaks(point *certinfo.DistributionPoint, base List, signer *listSigner, deltas []List) *refusal.Error {
	h := base.Head()
	delta, err := c.delta(h, deltas, signer)
	if err != nil {
		return err
	}
	why := h.Hindrance(c.run.at, true)
	if delta != nil {
		why = ""
	}
	if why == "" {
		why = c.rollback(signer.cert, h)
	}
	if why != "" {
		// Its time is over, so it proves no certificate good; but the newest list that names a
		// certificate is believed.
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

// rollback says that a newer list of the same key and scope was seen before.
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

// note takes down why a list does not help.
func (c *status) note(h *Head, why string) { c.hindered(Describe(h) + " " + why) }

func (c *status) hindered(why string) {
	if !slices.Contains(c.whys, why) {
		c.whys = append(c.whys, why)
	}
}

// noteOf is note for a list whose signature is good.
func (c *status) noteOf(signer *listSigner, h *Head, why string) {
	c.note(h, why)
	if signer.own {
		c.whyOwn = Describe(h) + " " + why
	}
}

// unusable is note for a list of which nobody can tell that another key than the issuer's signed
// it.
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
		h := d.Head()
		if !deltaFits(h, base) || h.Hindrance(c.run.at, false) != "" {
			continue
		}
		if _, err := c.run.r.Rules.CheckScheme(signer.cert, h.Algorithm); err != nil || d.SignedBy(signer.cert, signer.key) != nil {
			continue
		}
		h = d.Head() // read to its end by now
		if h.Hindrance(c.run.at, false) != "" {
			continue
		}
		if h.Hindrance(c.run.at, true) == "" && c.rollback(signer.cert, h) == "" {
			return d, nil
		}
		_, err := c.look(d, nil)
		return nil, err
	}
	return nil, nil
}

// look is RFC 5280, 6.3.3 (i) to (k). It tells whether the lists could be read; the error is that
// the certificate is revoked.
func (c *status) look(base, delta List) (bool, *refusal.Error) {
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
	return c.unknown("no usable CRL: " + c.hindrances())
}

// PassedOver takes down which distribution points were not asked, with their cures.
func (c *status) passedOver() {
	if c.run.r.PassedOver == nil {
		return
	}
	whys, cures := c.run.r.PassedOver(c.cert, c.run.r.Network != nil)
	for _, why := range whys {
		c.hindered(why)
	}
	if c.cure == "" {
		c.cure = strings.Join(cures, ", or ")
	}
}

// hindrances says what is most telling first: the list of the certificate's own key, then what came
// last.
func (c *status) hindrances() string {
	var all []string
	if c.whyOwn != "" {
		all = append(all, c.whyOwn)
	}
	for _, why := range slices.Backward(c.whys) {
		if why != c.whyOwn {
			all = append(all, why)
		}
	}
	if len(all) == 0 {
		return "there is none of its issuer"
	}
	return short(all)
}

func (c *status) unknown(why string) *refusal.Error {
	if c.forged != "" && !strings.Contains(why, c.forged) {
		why += "; " + c.forged
	}
	err := refusal.New(c.cert, refusal.ReasonRevocationUnknown, "%s", why)
	err.Spoken, err.Restore = c.forged != "", c.cure
	return err
}
