package path

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/sig"
)

// Path building (RFC 4158): depth first from the certificate upwards, over webs of
// cross-certificates and loops, with a bounded amount of work. Building prunes only what can never
// become good (a signature that does not verify, an issuer that is no CA, a loop); everything else
// is decided by the validation of the whole path, from its anchor down.

// Limits of one search. A real path has 2 to 6 certificates; the largest bridge PKIs need a few
// dozen signature checks.
const (
	MaxPathCerts  = 20
	maxSignatures = 300  // signature checks, each pair of certificates once
	maxSteps      = 5000 // certificates looked at
	MaxPaths      = 60   // whole paths validated
	maxDecisions  = 200
)

// Search is the state of one Check.
type Search struct {
	ctx       context.Context
	f         *Finder
	Now       time.Time
	extra     map[string][]*certinfo.Certificate // intermediates from the card, by subject
	accept    func(*Path) *refusal.Error         // validates a whole path
	verified  map[pair]error
	selfSign  map[*certinfo.Certificate]bool
	Decisions []Decision

	work     *workload
	initial  Policies
	best     *refusal.Error
	bestRank int
}

// workload counts what one Check has done, the search for CRL issuers included.
type workload struct {
	steps, signatures, paths int
	refused                  bool // on one of the paths a signature refused a certificate

	revoked map[issued]*refusal.Error // CA certificates that were found to be revoked
}

// MarkRefused notes that a signature refused a certificate of one of the paths.
func (s *Search) MarkRefused() { s.work.refused = true }

// Refused reports whether a signature refused a certificate of one of the paths.
func (s *Search) Refused() bool { return s.work.refused }

// Paths is how many whole paths were validated.
func (s *Search) Paths() int { return s.work.paths }

// issued is a certificate and the key that signed it.
type issued struct {
	cert *certinfo.Certificate
	key  string // SubjectPublicKeyInfo of the issuer
}

// pair is a certificate and a key that may have signed it.
type pair struct{ child, issuer *certinfo.Certificate }

// Path is a chain from the anchor, which is first, to the certificate.
type Path struct {
	certs    []*certinfo.Certificate
	Policies []asn1.ObjectIdentifier
}

// Chain gives the path the other way round: the certificate first.
func (p *Path) Chain() []*certinfo.Certificate {
	c := slices.Clone(p.certs)
	slices.Reverse(c)
	return c
}

// Search begins a search. The intermediates are those that travel with the certificate; they are
// not trusted.
func (f *Finder) Search(ctx context.Context, now time.Time, intermediates []*certinfo.Certificate) *Search {
	s := &Search{
		ctx:      ctx,
		f:        f,
		Now:      now,
		extra:    map[string][]*certinfo.Certificate{},
		verified: map[pair]error{},
		selfSign: map[*certinfo.Certificate]bool{},
		work:     &workload{revoked: map[issued]*refusal.Error{}},
		initial:  f.Initial,
	}
	s.accept = s.validate

	// The card is not trusted: it must not be able to make a search long. What ca_dir has as well
	// is left out, so that no pair of certificates is looked at twice.
	for i, c := range intermediates {
		if i == MaxFromCard {
			s.note(c, refusal.ReasonWork, fmt.Sprintf("more than %d certificates on the card: the others are not used", MaxFromCard))
			break
		}
		if c != nil && !f.Store.Has(c) {
			key := c.Subject.Key()
			s.extra[key] = append(s.extra[key], c)
		}
	}

	return s
}

// SignerPath looks for a path from an anchor to the issuer of a CRL: with the same certificates and
// the same bound on the work, but no policies of the user, and its failures are no decisions about
// the certificate itself. revoked is called with each path that is good otherwise, the anchor
// first.
func (s *Search) SignerPath(ctx context.Context, signer, anchor *certinfo.Certificate,
	revoked func([]*certinfo.Certificate) *refusal.Error) *refusal.Error {
	// The copy shares the workload and the signatures that were
	// checked, but keeps its own findings.
	sub := *s
	sub.ctx = ctx
	sub.initial = Policies{}
	sub.Decisions = nil
	sub.best = nil
	sub.bestRank = 0
	// RFC 5280, 6.3.3 (f), wants the same anchor as that of the certificate's own path.
	sub.accept = func(p *Path) *refusal.Error {
		if !p.certs[0].Equal(anchor) {
			return refusal.New(signer, refusal.ReasonIssuerUnknown, "the CRL issuer belongs to another CA of ca_dir")
		}

		if err := sub.validateChain(p); err != nil {
			return err
		}
		return revoked(p.certs)
	}

	_, err := sub.Find(signer)
	return err
}

// Named lists the certificates of ca_dir and of the card with a subject.
func (s *Search) Named(subject certinfo.Name) []*certinfo.Certificate {
	return append(slices.Clone(s.f.Store.Named(subject)), s.extra[subject.Key()]...)
}

// Ranks of errors: the one that came furthest is what the administrator wants to read.
const (
	rankNoIssuer = iota + 1
	rankBadLink
	rankBadPath
)

func (s *Search) fail(rank int, err *refusal.Error) {
	s.note(err.Cert, err.Reason, err.Detail)
	if rank > s.bestRank {
		s.best, s.bestRank = err, rank
	}
}

func (s *Search) note(cert *certinfo.Certificate, reason refusal.Reason, detail string) {
	s.Step(cert, reason, false, detail)
}

// Step records what was found out about a certificate, for or against it.
func (s *Search) Step(cert *certinfo.Certificate, reason refusal.Reason, ok bool, detail string) {
	if len(s.Decisions) < maxDecisions {
		s.Decisions = append(s.Decisions, Decision{
			Cert:   cert,
			Reason: reason,
			OK:     ok,
			Detail: detail,
		})
	}
}

// Find searches a path for the certificate and returns the first that is good.
func (s *Search) Find(leaf *certinfo.Certificate) (*Path, *refusal.Error) {
	found, err := s.extend([]*certinfo.Certificate{leaf})
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		return found, nil
	case s.best == nil:
		return nil, refusal.New(leaf, refusal.ReasonIssuerUnknown, "no chain to a CA of %s", s.f.CADir)
	}
	return nil, s.best
}

// extend takes a partial path, the certificate first, one step up. The error ends the search.
func (s *Search) extend(up []*certinfo.Certificate) (*Path, *refusal.Error) {
	top := up[len(up)-1]
	if s.work.steps++; s.work.steps > maxSteps {
		return nil, refusal.New(up[0], refusal.ReasonWork, "more than %d steps in the search for a chain", maxSteps)
	}
	if err := s.ctx.Err(); err != nil {
		return nil, refusal.New(up[0], refusal.ReasonWork, "the search for a chain was ended: %v", err)
	}

	if s.isAnchor(top, len(up) == 1) {
		return s.tryPath(up)
	}

	if len(up) == MaxPathCerts {
		s.fail(rankBadLink, refusal.New(top, refusal.ReasonWork, "chain of more than %d certificates", MaxPathCerts))
		return nil, nil
	}

	candidates := s.issuers(top)
	if len(candidates) == 0 {
		s.fail(rankNoIssuer, s.unknownIssuer(top))
	}
	if s.f.Store.Has(top) && top.SelfIssued() {
		s.fail(rankBadLink, refusal.New(top, refusal.ReasonIssuerUnknown, "is in ca_dir, but is not signed with its own key, and no CA above it is there"))
	}

	for _, issuer := range candidates {
		if looped(up, issuer) {
			continue
		}
		// up is shared by all candidates: Clip makes append copy it.
		whole := append(slices.Clip(up), issuer)
		if err := s.revokedIn(whole); err != nil {
			s.fail(rankBadPath, err)
			continue
		}

		usable, err := s.link(up[0], top, issuer)
		if err != nil {
			return nil, err
		}
		if !usable {
			continue
		}

		if found, err := s.extend(whole); found != nil || err != nil {
			return found, err
		}
	}

	return nil, nil
}

func (s *Search) unknownIssuer(top *certinfo.Certificate) *refusal.Error {
	where := "ca_dir " + s.f.CADir
	if len(s.f.Store.All) == 0 {
		where += ", which holds no certificate"
	}
	if top.SelfIssued() {
		return refusal.New(top, refusal.ReasonIssuerUnknown, "self-issued, and not one of the CAs of %s", where)
	}
	return refusal.New(top, refusal.ReasonIssuerUnknown, "issuer %q is not in %s, nor on the card", refusal.Clip(top.Issuer.RFC4514()), where)
}

// tryPath validates a path that has reached an anchor. That the certificate itself is revoked ends
// the search: it is no better on any other path.
func (s *Search) tryPath(up []*certinfo.Certificate) (*Path, *refusal.Error) {
	// The limit is on whole paths, because each may ask the network for revocation.
	if s.work.paths++; s.work.paths > MaxPaths {
		return nil, s.tooManyPaths(up[0])
	}

	p := &Path{certs: slices.Clone(up)}
	slices.Reverse(p.certs)
	if err := s.accept(p); err != nil {
		if err.Reason == refusal.ReasonWork || err.Reason == refusal.ReasonRevoked && err.Cert == up[0] {
			return nil, err
		}
		s.settle(up, err)
		s.fail(rankBadPath, err)
		return nil, nil
	}

	s.Step(p.certs[0], refusal.ReasonAnchor, true, fmt.Sprintf("is a CA of ca_dir and ends a good chain of %d certificates", len(p.certs)))
	return p, nil
}

// tooManyPaths is the end of a search: what is not known about the certificate itself is more
// telling than the limit.
func (s *Search) tooManyPaths(leaf *certinfo.Certificate) *refusal.Error {
	if s.best != nil && s.best.Reason == refusal.ReasonRevocationUnknown && s.best.Cert == leaf {
		return s.best
	}
	return refusal.New(leaf, refusal.ReasonWork, "more than %d chains tried", MaxPaths)
}

// settle remembers a revoked CA certificate of a path, so that no other path leads over it.
func (s *Search) settle(up []*certinfo.Certificate, err *refusal.Error) {
	if err.Reason != refusal.ReasonRevoked {
		return
	}
	// up ends with the anchor, whose own status nobody asks for.
	if i := slices.Index(up, err.Cert); i >= 0 && i+1 < len(up) {
		s.work.revoked[issued{cert: up[i], key: string(up[i+1].RawSPKI)}] = err
	}
}

// revokedIn gives what was found out about a revoked certificate of a partial path, nil when there
// is none.
func (s *Search) revokedIn(up []*certinfo.Certificate) *refusal.Error {
	if len(s.work.revoked) == 0 {
		return nil
	}
	// That it is revoked was said by lists or responders of its
	// issuer, so it holds below that key only.
	for i, c := range up[:len(up)-1] {
		if err := s.work.revoked[issued{cert: c, key: string(up[i+1].RawSPKI)}]; err != nil {
			return err
		}
	}
	return nil
}

// isAnchor reports whether a certificate of ca_dir ends a path: a self-signed one, or with
// PartialChain any CA. An end-entity certificate is its own anchor only when the administrator put
// it into ca_dir and it is self-signed.
func (s *Search) isAnchor(c *certinfo.Certificate, leaf bool) bool {
	if !s.f.Store.Has(c) {
		return false
	}
	if s.f.PartialChain && !leaf && rules.IsCA(c) {
		return true
	}

	self, known := s.selfSign[c]
	if !known {
		self = selfSigned(c)
		s.selfSign[c] = self
	}
	return self
}

// selfSigned reports whether issuer and subject have the same name, and the same key by its
// identifiers; where these are missing, whether its own key made the signature. Only the
// administrator writes ca_dir, so the identifiers are accepted as they are, and the signature of an
// anchor proves nothing that matters. An algorithm that is not supported any more (MD2) is no
// hindrance either.
func selfSigned(c *certinfo.Certificate) bool {
	if !c.SelfIssued() || c.PublicKeyErr != nil {
		return false
	}
	if len(c.AuthorityKeyID) > 0 && len(c.SubjectKeyID) > 0 {
		return bytes.Equal(c.AuthorityKeyID, c.SubjectKeyID)
	}

	scheme, err := c.SignatureAlgorithm.Scheme()
	if err != nil || scheme.Hash == 0 && scheme.Kind == certinfo.SchemeRSAPKCS1v15 {
		return true
	}
	return sig.Check(c.PublicKey, scheme, c.RawTBS, c.Signature) == nil
}

// looped reports whether a certificate with this name and key is in the path already: a second one
// never makes a path good that was not (RFC 4158, 2.4.2).
func looped(up []*certinfo.Certificate, c *certinfo.Certificate) bool {
	return slices.ContainsFunc(up, func(d *certinfo.Certificate) bool {
		return c.Equal(d) || bytes.Equal(c.RawSPKI, d.RawSPKI) && c.Subject.Equal(d.Subject) && sameInherited(c, d)
	})
}

// sameInherited reports whether two certificates with the same key have it with the same
// parameters: keys without parameters of their own are only the same when they inherit from the
// same issuer.
func sameInherited(c, d *certinfo.Certificate) bool {
	return len(c.PublicKeyAlgorithm.Parameters) > 0 || c.Issuer.Equal(d.Issuer)
}

// issuers returns the certificates that may have issued c, the likeliest first.
func (s *Search) issuers(c *certinfo.Certificate) []*certinfo.Certificate {
	if len(c.Issuer) == 0 {
		return nil // an issuer must have a name (RFC 5280, 4.1.2.4)
	}

	list := s.Named(c.Issuer)
	// The order is a guess that saves work; no candidate is left out for it.
	slices.SortStableFunc(list, func(a, b *certinfo.Certificate) int { return s.likely(c, b) - s.likely(c, a) })
	return list
}

func (s *Search) likely(c, issuer *certinfo.Certificate) int {
	// The key identifier counts most: it tells the keys of a renewed CA apart.
	points := 0
	if len(c.AuthorityKeyID) > 0 && len(issuer.SubjectKeyID) > 0 {
		points = -8
		if bytes.Equal(c.AuthorityKeyID, issuer.SubjectKeyID) {
			points = 8
		}
	}

	if s.f.Store.Has(issuer) {
		points += 2
	}
	if issuer.SelfIssued() {
		points += 2
	}
	if !s.Now.Before(issuer.NotBefore) && !s.Now.After(issuer.NotAfter) {
		points++
	}
	return points
}

// link reports whether issuer may stand above child at all.
func (s *Search) link(leaf, child, issuer *certinfo.Certificate) (bool, *refusal.Error) {
	if !s.f.isAuthority(issuer) {
		s.fail(rankBadLink, s.f.notAuthority(issuer, child))
		return false, nil
	}
	if issuer.PublicKeyErr != nil {
		s.fail(rankBadLink, refusal.New(issuer, refusal.ReasonKeyUnsupported, "%v", issuer.PublicKeyErr))
		return false, nil
	}

	if sig.InheritsParameters(issuer.PublicKey) {
		return true, nil // its key is complete only in a whole path; validation.signature checks it
	}
	// A signature that was checked on another path costs nothing more.
	if _, known := s.verified[pair{child, issuer}]; !known {
		if s.work.signatures++; s.work.signatures > maxSignatures {
			return false, refusal.New(leaf, refusal.ReasonWork, "more than %d signatures checked in the search for a chain", maxSignatures)
		}
	}

	if err := s.signedBy(child, issuer, issuer.PublicKey); err != nil {
		s.fail(rankOfSignature(child, issuer), s.signatureError(child, issuer, err))
		return false, nil
	}
	return true, nil
}

// rankOfSignature ranks a signature that does not verify low when the key identifiers say already
// that this CA of the same name did not sign.
func rankOfSignature(child, issuer *certinfo.Certificate) int {
	bothNamed := len(child.AuthorityKeyID) > 0 && len(issuer.SubjectKeyID) > 0
	if bothNamed && !bytes.Equal(child.AuthorityKeyID, issuer.SubjectKeyID) {
		return rankNoIssuer
	}
	return rankBadLink
}

// signatureError explains a signature that does not verify.
func (s *Search) signatureError(child, issuer *certinfo.Certificate, err error) *refusal.Error {
	switch {
	case rankOfSignature(child, issuer) == rankNoIssuer:
		return refusal.New(child, refusal.ReasonIssuerUnknown, "the CAs of the name %q have other keys than the one that signed", refusal.Clip(child.Issuer.RFC4514()))
	case errors.Is(err, sig.ErrSignature):
		return refusal.New(child, refusal.ReasonBadSignature, "the signature does not verify with the key of %s", refusal.Describe(issuer))
	}
	return refusal.New(child, refusal.ReasonKeyUnsupported, "signature: %v", err)
}

// signedBy checks the signature on child with a key, once for each pair.
func (s *Search) signedBy(child, issuer *certinfo.Certificate, key any) error {
	p := pair{child, issuer}
	if err, known := s.verified[p]; known {
		return err
	}

	scheme, err := child.SignatureAlgorithm.Scheme()
	// MD2 is refused by its name; sig.Check would only miss a hash.
	if err == nil && scheme.Kind == certinfo.SchemeRSAPKCS1v15 && scheme.Hash == 0 {
		err = fmt.Errorf("MD2: %w", certinfo.ErrUnknownSignature)
	}
	if err == nil {
		err = sig.Check(key, scheme, child.RawTBS, child.Signature)
	}

	s.verified[p] = err
	return err
}
