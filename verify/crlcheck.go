package verify

import (
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/sig"
)

// revocation answers whether the certificates of a path that is good otherwise are revoked.
type revocation interface {
	check(s *search, p *path) *refusal.Error
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
func (r *crlRevocation) check(s *search, p *path) *refusal.Error { return r.run(s, p).path(p) }

// run prepares the checking of the certificates of one path.
func (r *crlRevocation) run(s *search, p *path) *crlRun {
	if r.network != nil {
		r.network.mayBeSignedBy(p.certs[:len(p.certs)-1])
	}
	return &crlRun{
		r: r, s: s,
		anchor:  p.certs[0],
		busy:    map[string]bool{},
		signers: map[*certinfo.Certificate]signerAnswer{},
	}
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
	// signers remembers what signerKey found out about certificates that signed lists.
	signers map[*certinfo.Certificate]signerAnswer
}

func (r *crlRun) path(p *path) *refusal.Error {
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
			keys[i] = sig.Inherit(c.PublicKey, keys[i-1])
		}
	}
	return keys
}

// certificate is RFC 5280, 6.3.3, for one certificate. key is the issuer's, with inherited parameters.
//
// Of each key and scope the newest list that can be believed speaks, with its delta. What one of them lists is revoked.
// That the certificate is good is for the lists of the key that signed it to say, and of the CRL issuers that it names.
// See crlotherkey.go for lists of other keys of its issuer's name.
func (r *crlRun) certificate(cert, issuer *certinfo.Certificate, key any) *refusal.Error {
	id := string(cert.Raw)
	if r.busy[id] {
		return nil
	}
	r.busy[id] = true
	defer delete(r.busy, id)

	status := newCRLStatus(r, cert, issuer, key)
	r.announce(cert, issuer)
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
func (r *crlRun) announce(cert, issuer *certinfo.Certificate) {
	if r.r.network != nil {
		r.r.network.announce(r.s.ctx, cert, issuer)
	}
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
		return "has expired at " + refusal.Stamp(h.nextUpdate)
	}
	return ""
}
