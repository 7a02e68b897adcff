// Package path finds chains from certificates to the anchors of ca_dir, which it reads (RFC 4158),
// and validates them (RFC 5280, section 6). For revocation it asks a Revocation, and knows nothing
// of CRLs and OCSP itself.
package path

import (
	"context"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Finder finds chains from certificates to the anchors of ca_dir.
type Finder struct {
	CADir string // for messages
	Store *Store
	Rules rules.Rules

	EKU          rules.EKU
	PartialChain bool // every CA certificate of ca_dir is an anchor, not only the self-signed ones
	V1Anchors    bool // anchors without basicConstraints are authorities too, see isV1Anchor

	Initial Policies
	Revoked Revocation // nil: nobody is asked
}

// Revocation finds out whether the certificates of a path that is good otherwise are revoked. They
// come with the anchor first; each finding is given to the search as a step.
type Revocation interface {
	Check(ctx context.Context, s *Search, certs []*certinfo.Certificate) *refusal.Error
}

// Decision is one step of a check, for explain and the log.
type Decision struct {
	Cert   *certinfo.Certificate
	Reason refusal.Reason // what the step was about
	OK     bool
	Detail string // English
}

// Reaches reports whether a CA has a good path to one of ca_dir, over others that are no anchors.
// Revocation is not looked at.
func (f *Finder) Reaches(ctx context.Context, c *certinfo.Certificate, others []*certinfo.Certificate, now time.Time) bool {
	if f.Store.Has(c) || !rules.IsCA(c) || c.PublicKeyErr != nil {
		return false
	}
	if f.Rules.CheckKey(c, c.PublicKey) != nil {
		return false
	}

	// The others are candidates between c and ca_dir only: an anchor has to be in the store.
	s := f.Search(ctx, now, nil)
	for _, o := range others {
		key := o.Subject.Key()
		s.extra[key] = append(s.extra[key], o)
	}

	// No policy of the user applies here, and neither does revocation.
	s.initial = Policies{}
	s.accept = s.validateChain
	_, err := s.Find(c)
	return err == nil
}

// Issuance is a certificate and the one whose key signed it.
type Issuance struct{ Cert, Issuer *certinfo.Certificate }

// Issuances pairs the certificates of ca_dir with their issuers there, and apart from them the
// self-signed ones with themselves.
func (f *Finder) Issuances(ctx context.Context, now time.Time) (below, selfMade []Issuance) {
	s := f.Search(ctx, now, nil)
	for _, c := range f.Store.All {
		if selfSigned(c) {
			selfMade = append(selfMade, Issuance{c, c})
			continue
		}

		// The first issuer is enough: a responder is asked about the pair, no path is validated.
		for _, issuer := range s.issuers(c) {
			if issuer.PublicKeyErr == nil && s.signedBy(c, issuer, issuer.PublicKey) == nil {
				below = append(below, Issuance{c, issuer})
				break
			}
		}
	}

	return below, selfMade
}
