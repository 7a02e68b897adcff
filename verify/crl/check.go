package crl

import (
	"context"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/sig"
)

// maxAgeWithoutNext is how long after its thisUpdate a CRL without nextUpdate counts.
const maxAgeWithoutNext = 30 * 24 * time.Hour

// maxSignerDepth bounds how often the signer of a CRL has to be looked up to check the signer of
// another.
const maxSignerDepth = 6

// Checker checks every certificate of the path below its anchor against CRLs (RFC 5280, 6.3).
type Checker struct {
	Source   Source
	Network  Network       // nil for crl_offline
	Notes    Notes         // may be nil
	Rules    rules.Rules   // for keys, algorithms and clocks
	LeafOnly bool          // crl_scope = leaf
	Grace    time.Duration // after nextUpdate

	// PassedOver says which addresses of a certificate are not followed as they are written, and
	// what cures that; may be nil.
	PassedOver func(cert *certinfo.Certificate, network bool) (whys, cures []string)
}

// Run prepares the checking of the certificates of one path, the anchor first.
func (r *Checker) Run(now time.Time, certs []*certinfo.Certificate, issuers Issuers) *Run {
	if r.Network != nil {
		r.Network.MayBeSignedBy(certs[:len(certs)-1])
	}
	return &Run{
		r:       r,
		at:      Moment{Now: now, Skew: r.Rules.ClockSkew, Grace: r.Grace},
		issuers: issuers,
		anchor:  certs[0],
		busy:    map[string]bool{},
		signers: map[*certinfo.Certificate]signerAnswer{},
	}
}

// Run is the checking of one path and of the CRL issuers that it leads to.
type Run struct {
	r       *Checker
	at      Moment
	issuers Issuers
	anchor  *certinfo.Certificate
	// busy holds the certificates whose status is being found out. The issuer of an indirect CRL
	// may list itself in it, so only a list that it signed can tell its status: meanwhile it is
	// taken as a good signer, and its own list then says whether it is revoked.
	busy  map[string]bool
	depth int
	// signers remembers what signerKey found out about certificates that signed lists.
	signers map[*certinfo.Certificate]signerAnswer
}

// Path checks the certificates of a path, the anchor first.
func (r *Run) Path(ctx context.Context, certs []*certinfo.Certificate) *refusal.Error {
	keys := sig.WorkingKeys(certs)
	from := 1
	if r.r.LeafOnly {
		from = max(1, len(certs)-1)
	}

	for i := from; i < len(certs); i++ {
		if err := r.Certificate(ctx, certs[i], certs[i-1], keys[i-1]); err != nil {
			return err
		}
	}
	return nil
}

// Certificate is RFC 5280, 6.3.3, for one certificate. key is the issuer's, with inherited
// parameters.
//
// Of each key and scope the newest list that counts is used, with its delta. What one of them lists
// is revoked. That the certificate is good follows only from lists of the key that signed it, and
// of the CRL issuers that it names. See otherkey.go for lists of other keys of its issuer's name.
func (r *Run) Certificate(ctx context.Context, cert, issuer *certinfo.Certificate, key any) *refusal.Error {
	id := string(cert.Raw)
	// Without this the issuer of an indirect CRL would be checked by its own list for ever.
	if r.busy[id] {
		return nil
	}
	r.busy[id] = true
	defer delete(r.busy, id)

	status := newStatus(ctx, r, cert, issuer, key)
	r.Announce(ctx, cert, issuer)
	points := append(slices.Clone(cert.CRLDistributionPoints), *ImplicitPoint(cert))

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

// Announce starts fetching what certificate will ask for.
func (r *Run) Announce(ctx context.Context, cert, issuer *certinfo.Certificate) {
	if r.r.Network != nil {
		r.r.Network.Announce(ctx, cert, issuer)
	}
}

// Moment is the time at which a CRL is used.
type Moment struct {
	Now   time.Time
	Skew  time.Duration // how far clocks may differ
	Grace time.Duration // how long after its nextUpdate a CRL still counts
}

// Hindrance says what forbids the use of a CRL at a moment; the end of its time only when asked,
// for a delta may renew it.
func (h *Head) Hindrance(at Moment, end bool) string {
	// The skew is for a clock that is fast, the grace for a CA that is late.
	expired := at.Now.Add(-at.Skew - at.Grace)
	switch {
	case h.UnknownCritical != "":
		return "has the critical extension " + h.UnknownCritical + ", which is not known"
	case at.Now.Add(at.Skew).Before(h.ThisUpdate):
		return "is not valid yet"
	case !end:
		return ""
	// RFC 5280, 5.1.2.5, wants nextUpdate; for lists without it the age alone is left to go by.
	case h.NextUpdate.IsZero() && expired.After(h.ThisUpdate.Add(maxAgeWithoutNext)):
		return "has no nextUpdate and is too old"
	case !h.NextUpdate.IsZero() && expired.After(h.NextUpdate):
		return "has expired at " + refusal.Stamp(h.NextUpdate)
	}
	return ""
}

// InDate reports whether the time of a CRL is not over, by our own clock.
func (h *Head) InDate(now time.Time) bool {
	if h.NextUpdate.IsZero() {
		return !now.After(h.ThisUpdate.Add(maxAgeWithoutNext))
	}
	return !now.After(h.NextUpdate)
}
