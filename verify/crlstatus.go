package verify

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

// crlStatus is the reasons_mask of one certificate, and what went wrong on the way.
type crlStatus struct {
	ctx    context.Context
	run    *crlRun
	cert   *certinfo.Certificate
	issuer *certinfo.Certificate
	key    any // of issuer, with inherited parameters

	covered certinfo.ReasonFlags // by lists of the key that signed cert, and of CRL issuers that it names
	spoke   map[string]*crlHead  // the newest list of each key and scope that spoke
	signers map[crlList]*crlSigner
	good    map[string]crlList // lists whose signature is good, by its octets

	asked  map[string]bool // addresses
	other  otherKey
	forged string   // a list of the issuer's name that none of its keys signed
	whys   []string // what hindered, in the order in which it was found
	whyOwn string   // the latest of a list of the key that signed cert
	cure   string   // what helps without a weaker rule, "" for nothing known
}

func newCRLStatus(ctx context.Context, r *crlRun, cert, issuer *certinfo.Certificate, key any) *crlStatus {
	return &crlStatus{
		ctx:     ctx,
		run:     r,
		cert:    cert,
		issuer:  issuer,
		key:     key,
		spoke:   map[string]*crlHead{},
		signers: map[crlList]*crlSigner{},
		good:    map[string]crlList{},
		asked:   map[string]bool{},
	}
}

// settled tells whether the lists say enough, so that no address need be waited for.
func (c *crlStatus) settled() bool { return c.covered == certinfo.AllReasons }

// direct tells whether a list is of the issuer's name, and not of a CRL issuer that the certificate
// names.
func (c *crlStatus) direct(h *crlHead) bool { return h.issuer.Equal(c.issuer.Subject) }

// point looks at one distribution point. The error is final: the certificate is revoked, or the
// work is too much.
func (c *crlStatus) point(point *certinfo.DistributionPoint) *refusal.Error {
	lists, err := c.run.r.source.lists(c.ctx, c.query(point))
	return c.judge(point, lists, err)
}

// query is what a source is asked.
func (c *crlStatus) query(point *certinfo.DistributionPoint) *crlQuery {
	return &crlQuery{
		cert:    c.cert,
		issuer:  c.issuer,
		point:   point,
		settled: c.settled(),
		asked:   c.asked,
		doubt:   c.other.doubt,
	}
}

// rest asks the configured addresses of which nothing is known, where what is known does not say
// enough. The lists of the implicit point are judged with theirs: a delta belongs to its base.
func (c *crlStatus) rest() *refusal.Error {
	if c.settled() || c.run.r.network == nil {
		return nil
	}
	point := implicitPoint(c.cert)
	lists, err := c.run.r.network.rest(c.ctx, c.query(point))
	if len(lists) > 0 {
		before, _ := c.run.r.source.lists(c.ctx, c.query(point)) // its error is known
		lists = append(lists, before...)
	}
	return c.judge(point, lists, err)
}

// judge looks at the lists that there are for a distribution point; err is why there are no more.
func (c *crlStatus) judge(point *certinfo.DistributionPoint, lists []crlList, err error) *refusal.Error {
	if err != nil && !c.settled() {
		c.hindered(err.Error())
	}
	var bases, deltas []crlList
	for _, l := range lists {
		if l.head().deltaBase != nil {
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

func newestFirst(lists []crlList) {
	slices.SortStableFunc(lists, func(a, b crlList) int { return compareAge(b.head(), a.head()) })
}

// compareAge is below 0 when a is the older list of the two, 0 when neither is: thisUpdate counts,
// then the number.
func compareAge(a, b *crlHead) int {
	if n := a.thisUpdate.Compare(b.thisUpdate); n != 0 || a.number == nil || b.number == nil {
		return n
	}
	return a.number.Cmp(b.number)
}

// list is RFC 5280, 6.3.3 (b) to (l), for one complete CRL.
func (c *crlStatus) list(point *certinfo.DistributionPoint, base crlList, deltas []crlList) *refusal.Error {
	base = c.sameList(base)
	if ok, why := inScope(base.head(), c.cert, point); !ok {
		c.note(base.head(), why)
		return nil
	}
	if c.cannotCount(base.head()) {
		return nil
	}
	signer, err := c.signer(base)
	if signer == nil {
		return err
	}

	h := base.head() // read to its end by now
	if len(h.signature) > 0 {
		c.good[string(h.signature)] = base
	}
	if signer.own {
		c.other.doubt("the list of %s is signed with the certificate's own key", refusal.Stamp(h.thisUpdate))
	}
	if why := h.hindrance(c.run.at, false); why != "" {
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
func (c *crlStatus) sameList(l crlList) crlList {
	if before := c.good[string(l.head().signature)]; before != nil && len(l.head().signature) > 0 {
		return before
	}
	return l
}

// cannotCount tells of a list that need not be read: a newer one of its scope has spoken that the
// certificate's own key signed, and no certificate at hand has another key of its issuer's name.
func (c *crlStatus) cannotCount(h *crlHead) bool {
	newest := c.spoke[keyAndScope(c.issuer, h)]
	if newest == nil || compareAge(h, newest) >= 0 {
		return false
	}
	return !slices.ContainsFunc(c.run.issuers.named(h.issuer), func(ca *certinfo.Certificate) bool {
		return !bytes.Equal(ca.RawSPKI, c.issuer.RawSPKI)
	})
}

// outspoken tells whether a newer list of the same key and scope has spoken. Where neither is
// newer, both speak.
func (c *crlStatus) outspoken(signer *crlSigner, h *crlHead) bool {
	id := keyAndScope(signer.cert, h)
	newest := c.spoke[id]
	if newest != nil && compareAge(h, newest) < 0 {
		return true
	}
	c.spoke[id] = h
	return false
}

// keyAndScope is alike for lists of which the newest speaks.
func keyAndScope(signer *certinfo.Certificate, h *crlHead) string {
	return string(signer.RawSPKI) + h.issuer.Key() + "\x00" + string(h.rawPoint)
}

// speaks looks the certificate up in a list that can be believed.
func (c *crlStatus) speaks(point *certinfo.DistributionPoint, base crlList, signer *crlSigner, deltas []crlList) *refusal.Error {
	h := base.head()
	delta, err := c.delta(h, deltas, signer)
	if err != nil {
		return err
	}
	why := h.hindrance(c.run.at, true)
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
		c.other.doubt("the list of %s cannot be read", refusal.Stamp(h.thisUpdate))
	case !looked:
	case signer.own || !c.direct(h):
		c.covered |= reasons
	default:
		c.other.covers(h, point, reasons)
	}
	return nil
}

// rollback says that a newer list of the same key and scope was seen before.
func (c *crlStatus) rollback(signer *certinfo.Certificate, h *crlHead) string {
	if c.run.r.notes == nil {
		return ""
	}
	err := c.run.r.notes.rollback(signer.RawSPKI, h)
	if err == nil {
		return ""
	}
	if errors.Is(err, errOlderCRL) {
		c.cure = fmt.Sprintf("pam-pkcs11 crl accept %q, if the CA counts its lists anew", refusal.Clip(h.issuer.RFC4514()))
	}
	return err.Error()
}

// note takes down why a list does not help.
func (c *crlStatus) note(h *crlHead, why string) { c.hindered(describeCRL(h) + " " + why) }

func (c *crlStatus) hindered(why string) {
	if !slices.Contains(c.whys, why) {
		c.whys = append(c.whys, why)
	}
}

// noteOf is note for a list whose signature is good.
func (c *crlStatus) noteOf(signer *crlSigner, h *crlHead, why string) {
	c.note(h, why)
	if signer.own {
		c.whyOwn = describeCRL(h) + " " + why
	}
}

// unusable is note for a list of which nobody can tell that another key than the issuer's signed
// it.
func (c *crlStatus) unusable(h *crlHead, why string) {
	c.note(h, why)
	if c.direct(h) {
		c.other.doubt("%s %s", describeCRL(h), why)
	}
}

// describeCRL names a list in messages.
func describeCRL(h *crlHead) string {
	return "the CRL of " + refusal.Clip(h.issuer.RFC4514()) + " of " + refusal.Stamp(h.thisUpdate)
}

// delta finds the newest delta CRL that fits the complete one and is signed with the same key. One
// whose time is over renews nothing, but the error is that it lists the certificate.
func (c *crlStatus) delta(base *crlHead, deltas []crlList, signer *crlSigner) (crlList, *refusal.Error) {
	for _, d := range deltas {
		h := d.head()
		if !deltaFits(h, base) || h.hindrance(c.run.at, false) != "" {
			continue
		}
		if _, err := c.run.r.rules.CheckScheme(signer.cert, h.algorithm); err != nil || d.signedBy(signer.cert, signer.key) != nil {
			continue
		}
		h = d.head() // read to its end by now
		if h.hindrance(c.run.at, false) != "" {
			continue
		}
		if h.hindrance(c.run.at, true) == "" && c.rollback(signer.cert, h) == "" {
			return d, nil
		}
		_, err := c.look(d, nil)
		return nil, err
	}
	return nil, nil
}

// look is RFC 5280, 6.3.3 (i) to (k). It tells whether the lists could be read; the error is that
// the certificate is revoked.
func (c *crlStatus) look(base, delta crlList) (bool, *refusal.Error) {
	for _, l := range []crlList{delta, base} {
		if l == nil {
			continue
		}
		entry, found, err := l.lookup(c.cert.Issuer, c.cert.SerialBytes)
		switch {
		case err != nil:
			c.note(l.head(), "cannot be read: "+err.Error())
			return false, nil
		case found && entry.reason == certinfo.CRLReasonRemoveFromCRL:
			return true, nil
		case found:
			return true, refusal.New(c.cert, refusal.ReasonRevoked, "revoked at %s (%s)", refusal.Stamp(entry.when), certinfo.CRLReasonText(entry.reason))
		}
	}
	return true, nil
}

// verdict is what the lists leave when none of them lists the certificate.
func (c *crlStatus) verdict() *refusal.Error {
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
		return c.unknown("the CRLs at hand do not speak of all reasons for revocation")
	}
	return c.unknown("no usable CRL: " + c.hindrances())
}

// passedOver takes down which distribution points were not asked, with their cures.
func (c *crlStatus) passedOver() {
	if c.run.r.passedOver == nil {
		return
	}
	whys, cures := c.run.r.passedOver(c.cert, c.run.r.network != nil)
	for _, why := range whys {
		c.hindered(why)
	}
	if c.cure == "" {
		c.cure = strings.Join(cures, ", or ")
	}
}

// hindrances says what is most telling first: the list of the certificate's own key, then what came
// last.
func (c *crlStatus) hindrances() string {
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

func (c *crlStatus) unknown(why string) *refusal.Error {
	if c.forged != "" && !strings.Contains(why, c.forged) {
		why += "; " + c.forged
	}
	err := refusal.New(c.cert, refusal.ReasonRevocationUnknown, "%s", why)
	err.Spoken, err.Restore = c.forged != "", c.cure
	return err
}
