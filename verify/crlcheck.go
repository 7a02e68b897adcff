package verify

import (
	"errors"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
)

// revocation answers whether the certificates of a path that is good otherwise are revoked.
type revocation interface {
	check(s *search, p *path) *Error
}

// maxAgeWithoutNext is how long a CRL without nextUpdate is believed.
const maxAgeWithoutNext = 30 * 24 * time.Hour

// maxSignerDepth bounds how often the signer of a CRL has to be looked up to judge the signer of another.
const maxSignerDepth = 6

// crlRevocation checks every certificate of the path below its anchor against CRLs (RFC 5280, 6.3).
type crlRevocation struct {
	source   crlSource
	network  *crlFetcher   // nil for crl_offline
	store    *crlStore     // may be nil
	leafOnly bool          // crl_scope = leaf
	grace    time.Duration // after nextUpdate
}

// check is the revocation of a whole path.
func (r *crlRevocation) check(s *search, p *path) *Error { return r.run(s, p).path(p) }

// run prepares the checking of the certificates of one path.
func (r *crlRevocation) run(s *search, p *path) *crlRun {
	return &crlRun{r: r, s: s, anchor: p.certs[0], busy: map[string]bool{}}
}

// crlRun is the checking of one path and of the CRL issuers that it leads to.
type crlRun struct {
	r      *crlRevocation
	s      *search
	anchor *certinfo.Certificate
	// busy holds the certificates whose status is being found out. The issuer of an indirect CRL may list itself in
	// it, so its certificate can only be judged by a list that it signed: while it is being judged it is taken as a
	// signer, and its own list then says whether it is revoked.
	busy  map[string]bool
	depth int
}

func (r *crlRun) path(p *path) *Error {
	keys := workingKeys(p)
	from := 1
	if r.r.leafOnly {
		from = max(1, len(p.certs)-1)
	}
	for i := from; i < len(p.certs); i++ {
		if err := r.certificate(p.certs[i], p.certs[i-1], keys[i-1]); err != nil {
			return err
		}
	}
	return nil
}

// workingKeys gives the keys of a path with inherited parameters filled in.
func workingKeys(p *path) []any {
	keys := make([]any, len(p.certs))
	for i, c := range p.certs {
		keys[i] = c.PublicKey
		if i > 0 {
			keys[i] = inherit(c.PublicKey, keys[i-1])
		}
	}
	return keys
}

// certificate is RFC 5280, 6.3.3, for one certificate.
func (r *crlRun) certificate(cert, issuer *certinfo.Certificate, key any) *Error {
	id := string(cert.Raw)
	if r.busy[id] {
		return nil
	}
	r.busy[id] = true
	defer delete(r.busy, id)
	status := &crlStatus{run: r, cert: cert, issuer: issuer, key: key}
	r.announce(cert, issuer)
	points := append(slices.Clone(cert.CRLDistributionPoints), *implicitPoint(cert))
	for i := range points {
		if err := status.point(&points[i]); err != nil {
			return err
		}
		if status.covered == certinfo.AllReasons {
			return nil
		}
	}
	if status.covered != 0 {
		return refuse(cert, ReasonRevocationUnknown, "the CRLs at hand do not speak of all reasons for revocation")
	}
	if status.why == "" {
		status.why = "there is none of its issuer"
	}
	return refuse(cert, ReasonRevocationUnknown, "no usable CRL: %s", status.why)
}

// announce starts fetching what certificate will ask for.
func (r *crlRun) announce(cert, issuer *certinfo.Certificate) {
	if r.r.network != nil {
		r.r.network.announce(r.s.ctx, cert, issuer)
	}
}

// crlStatus is the reasons_mask of one certificate and what went wrong on the way.
type crlStatus struct {
	run     *crlRun
	cert    *certinfo.Certificate
	issuer  *certinfo.Certificate
	key     any
	covered certinfo.ReasonFlags
	why     string // the latest hindrance
}

// point looks at one distribution point. The error is final: the certificate is revoked, or the work is too much.
func (c *crlStatus) point(point *certinfo.DistributionPoint) *Error {
	lists, err := c.run.r.source.lists(c, point)
	if err != nil {
		c.why = err.Error()
	}
	var bases, deltas []crlList
	for _, l := range lists {
		if l.head().deltaBase != nil {
			deltas = append(deltas, l)
		} else {
			bases = append(bases, l)
		}
	}
	newestFirst(bases)
	newestFirst(deltas)
	for _, base := range bases {
		if c.covered == certinfo.AllReasons {
			return nil
		}
		if err := c.list(point, base, deltas); err != nil {
			return err
		}
	}
	return nil
}

func newestFirst(lists []crlList) {
	slices.SortStableFunc(lists, func(a, b crlList) int { return b.head().thisUpdate.Compare(a.head().thisUpdate) })
}

// list is RFC 5280, 6.3.3 (b) to (l), for one complete CRL.
func (c *crlStatus) list(point *certinfo.DistributionPoint, base crlList, deltas []crlList) *Error {
	h := base.head()
	if ok, why := inScope(h, c.cert, point); !ok {
		c.note(h, why)
		return nil
	}
	reasons := reasonsCovered(h, point)
	if reasons&^c.covered == 0 {
		return nil
	}
	if why := c.run.datesAndForm(h, false); why != "" {
		c.note(h, why)
		return nil
	}
	key, signer, err := c.signer(base)
	if err != nil {
		return err
	}
	if signer == nil {
		return nil
	}
	h = base.head() // read to its end by now
	if why := c.run.datesAndForm(h, false); why != "" {
		c.note(h, why)
		return nil
	}
	delta := c.delta(h, deltas, key, signer)
	why := c.run.datesAndForm(h, true)
	if why != "" && delta != nil {
		why = ""
	}
	if why == "" {
		why = c.rollback(signer, h)
	}
	if why != "" {
		// Its time is over, so it proves no certificate good; but the newest list that names a certificate is believed.
		if _, err := c.look(base, nil); err != nil {
			return err
		}
		c.note(h, why)
		return nil
	}
	looked, err := c.look(base, delta)
	if err == nil && looked {
		c.covered |= reasons
	}
	return err
}

// rollback says that a newer list of the same key and scope was seen before.
func (c *crlStatus) rollback(signer *certinfo.Certificate, h *crlHead) string {
	older, err := c.run.r.store.rollback(signer.RawSPKI, h)
	switch {
	case err != nil:
		return "cannot be compared with those seen before: " + err.Error()
	case older:
		return errOlderCRL.Error()
	}
	return ""
}

func (c *crlStatus) note(h *crlHead, why string) {
	c.why = "the CRL of " + clip(h.issuer.RFC4514()) + " of " + stamp(h.thisUpdate) + " " + why
}

// datesAndForm says what forbids the use of a CRL; the end of its time only when asked, for a delta may renew it.
func (r *crlRun) datesAndForm(h *crlHead, end bool) string {
	skew := r.s.v.options.ClockSkew
	expired := r.s.now.Add(-skew - r.r.grace)
	switch {
	case h.unknownCritical != "":
		return "has the critical extension " + h.unknownCritical + ", which is not known"
	case r.s.now.Add(skew).Before(h.thisUpdate):
		return "is not valid yet"
	case !end:
		return ""
	case h.nextUpdate.IsZero() && expired.After(h.thisUpdate.Add(maxAgeWithoutNext)):
		return "has no nextUpdate and is too old"
	case !h.nextUpdate.IsZero() && expired.After(h.nextUpdate):
		return "has expired at " + stamp(h.nextUpdate)
	}
	return ""
}

// delta finds the newest delta CRL that fits the complete one and is signed with the same key.
func (c *crlStatus) delta(base *crlHead, deltas []crlList, key any, signer *certinfo.Certificate) crlList {
	for _, d := range deltas {
		h := d.head()
		if !deltaFits(h, base) {
			continue
		}
		if c.run.datesAndForm(h, true) != "" {
			continue
		}
		if _, err := c.run.s.v.checkScheme(signer, h.algorithm); err == nil && d.signedBy(signer, key) == nil &&
			c.run.datesAndForm(d.head(), true) == "" && c.rollback(signer, d.head()) == "" {
			return d
		}
	}
	return nil
}

// look is RFC 5280, 6.3.3 (i) to (k). It tells whether the lists could be read; the error is that the certificate is
// revoked.
func (c *crlStatus) look(base, delta crlList) (bool, *Error) {
	for _, l := range []crlList{delta, base} {
		if l == nil {
			continue
		}
		entry, found, err := l.lookup(c.cert.Issuer, c.cert.SerialBytes)
		switch {
		case err != nil:
			c.note(l.head(), "cannot be read: "+err.Error())
			return false, nil
		case found && entry.reason == reasonRemoveFromCRL:
			return true, nil
		case found:
			return true, refuse(c.cert, ReasonRevoked, "revoked at %s (%s)", stamp(entry.when), crlReasons[entry.reason])
		}
	}
	return true, nil
}

// signer finds the certificate that signed a CRL (RFC 5280, 6.3.3 (f), (g)): that of the CA itself, or one of its name
// whose path leads to the same anchor. Nil means that there is none; the error is final.
func (c *crlStatus) signer(l crlList) (any, *certinfo.Certificate, *Error) {
	r, h := c.run, l.head()
	if _, err := r.s.v.checkScheme(c.issuer, h.algorithm); err != nil {
		c.note(h, "is "+err.Detail)
		return nil, nil, nil
	}
	c.note(h, "is not signed by a CA of this chain that may sign CRLs")
	if h.issuer.Equal(c.issuer.Subject) && maySignCRLs(c.issuer) {
		switch err := l.signedBy(c.issuer, c.key); {
		case err == nil:
			return c.key, c.issuer, nil
		case !errors.Is(err, errSignature) && !errors.Is(err, errKeyType):
			c.note(h, "cannot be used: "+err.Error())
			return nil, nil, nil
		}
	}
	if r.depth == maxSignerDepth {
		return nil, nil, nil
	}
	for _, candidate := range r.s.named(h.issuer) {
		if !maySignCRLs(candidate) || !inheritsParameters(candidate.PublicKey) && l.signedBy(candidate, candidate.PublicKey) != nil {
			continue
		}
		key, err := r.signerKey(candidate)
		if err != nil && err.Reason == ReasonWork {
			return nil, nil, err
		}
		if err == nil && l.signedBy(candidate, key) == nil {
			return key, candidate, nil
		}
		if err != nil {
			c.note(h, "is signed by a certificate that is not good: "+err.Error())
		}
	}
	return nil, nil, nil
}

// maySignCRLs: without a keyUsage a key may be used for anything.
func maySignCRLs(c *certinfo.Certificate) bool {
	return c.PublicKeyErr == nil && (!c.HasKeyUsage || c.KeyUsage&certinfo.KeyUsageCRLSign != 0)
}

// signerKey validates the path of a CRL issuer to the anchor of the path that is being judged, revocation included.
func (r *crlRun) signerKey(candidate *certinfo.Certificate) (any, *Error) {
	sub := r.s.forSigner()
	var key any
	sub.accept = func(p *path) *Error {
		if !p.certs[0].Equal(r.anchor) {
			return refuse(candidate, ReasonIssuerUnknown, "the CRL issuer belongs to another CA of ca_dir")
		}
		if err := sub.validateChain(p); err != nil {
			return err
		}
		r.depth++
		defer func() { r.depth-- }()
		if err := r.path(p); err != nil {
			return err
		}
		keys := workingKeys(p)
		key = keys[len(keys)-1]
		return nil
	}
	if candidate.Equal(r.anchor) {
		return candidate.PublicKey, nil
	}
	if _, err := sub.find(candidate); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, refuse(candidate, ReasonRevocationUnknown, "no path")
	}
	return key, nil
}
