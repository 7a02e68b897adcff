package verify

import (
	"context"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/sig"
)

// maxAgeWithoutNext is how long a CRL without nextUpdate is believed.
const maxAgeWithoutNext = 30 * 24 * time.Hour

// maxSignerDepth bounds how often the signer of a CRL has to be looked up to judge the signer of another.
const maxSignerDepth = 6

// crlRevocation checks every certificate of the path below its anchor against CRLs (RFC 5280, 6.3).
type crlRevocation struct {
	source   crlSource
	network  crlNetwork    // nil for crl_offline
	notes    crlNotes      // may be nil
	rules    rules.Rules   // for keys, algorithms and clocks
	leafOnly bool          // crl_scope = leaf
	grace    time.Duration // after nextUpdate

	// passedOver says which addresses of a certificate are not followed as they are written, and what cures that; may
	// be nil.
	passedOver func(cert *certinfo.Certificate, network bool) (whys, cures []string)
}

// run prepares the checking of the certificates of one path, the anchor first.
func (r *crlRevocation) run(now time.Time, certs []*certinfo.Certificate, issuers crlIssuers) *crlRun {
	if r.network != nil {
		r.network.mayBeSignedBy(certs[:len(certs)-1])
	}
	return &crlRun{
		r:       r,
		at:      moment{now: now, skew: r.rules.ClockSkew, grace: r.grace},
		issuers: issuers,
		anchor:  certs[0],
		busy:    map[string]bool{},
		signers: map[*certinfo.Certificate]signerAnswer{},
	}
}

// crlRun is the checking of one path and of the CRL issuers that it leads to.
type crlRun struct {
	r       *crlRevocation
	at      moment
	issuers crlIssuers
	anchor  *certinfo.Certificate
	// busy holds the certificates whose status is being found out. The issuer of an indirect CRL may list itself in
	// it, so its certificate can only be judged by a list that it signed: while it is being judged it is taken as a
	// signer, and its own list then says whether it is revoked.
	busy  map[string]bool
	depth int
	// signers remembers what signerKey found out about certificates that signed lists.
	signers map[*certinfo.Certificate]signerAnswer
}

// path checks the certificates of a path, the anchor first.
func (r *crlRun) path(ctx context.Context, certs []*certinfo.Certificate) *refusal.Error {
	keys := sig.WorkingKeys(certs)
	from := 1
	if r.r.leafOnly {
		from = max(1, len(certs)-1)
	}
	for i := from; i < len(certs); i++ {
		if err := r.certificate(ctx, certs[i], certs[i-1], keys[i-1]); err != nil {
			return err
		}
	}
	return nil
}

// certificate is RFC 5280, 6.3.3, for one certificate. key is the issuer's, with inherited parameters.
//
// Of each key and scope the newest list that can be believed speaks, with its delta. What one of them lists is revoked.
// That the certificate is good is for the lists of the key that signed it to say, and of the CRL issuers that it names.
// See crlotherkey.go for lists of other keys of its issuer's name.
func (r *crlRun) certificate(ctx context.Context, cert, issuer *certinfo.Certificate, key any) *refusal.Error {
	id := string(cert.Raw)
	if r.busy[id] {
		return nil
	}
	r.busy[id] = true
	defer delete(r.busy, id)

	status := newCRLStatus(ctx, r, cert, issuer, key)
	r.announce(ctx, cert, issuer)
	points := append(slices.Clone(cert.CRLDistributionPoints), *implicitPoint(cert))
	for i := range points {
		if err := status.point(&points[i]); err != nil {
			return err
		}
	}
	if err := status.rest(); err != nil {
		return err
	}
	return status.verdict()
}

// announce starts fetching what certificate will ask for.
func (r *crlRun) announce(ctx context.Context, cert, issuer *certinfo.Certificate) {
	if r.r.network != nil {
		r.r.network.announce(ctx, cert, issuer)
	}
}

// moment is when a CRL is looked at.
type moment struct {
	now   time.Time
	skew  time.Duration // how far clocks may differ
	grace time.Duration // how long after its nextUpdate a CRL still counts
}

// hindrance says what forbids the use of a CRL at a moment; the end of its time only when asked, for a delta may renew
// it.
func (h *crlHead) hindrance(at moment, end bool) string {
	expired := at.now.Add(-at.skew - at.grace)
	switch {
	case h.unknownCritical != "":
		return "has the critical extension " + h.unknownCritical + ", which is not known"
	case at.now.Add(at.skew).Before(h.thisUpdate):
		return "is not valid yet"
	case !end:
		return ""
	case h.nextUpdate.IsZero() && expired.After(h.thisUpdate.Add(maxAgeWithoutNext)):
		return "has no nextUpdate and is too old"
	case !h.nextUpdate.IsZero() && expired.After(h.nextUpdate):
		return "has expired at " + refusal.Stamp(h.nextUpdate)
	}
	return ""
}
