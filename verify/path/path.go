package path

import (
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/sig"
)

// validation is the state of RFC 5280, 6.1.2, while a path is walked from its anchor down.
type validation struct {
	s          *Search
	key        any // working public key, with the working parameters
	issuer     *certinfo.Certificate
	maxPathLen int
	names      nameState
	policy     *policyState
}

// validate walks a path and, when it is good, asks for revocation and fills in its policies. Unlike
// RFC 5280, which takes an anchor as a name and a key, the anchor's certificate is held to its own
// dates, usages, path length and name constraints too: who put it into ca_dir expects them to
// count.
func (s *Search) validate(p *Path) *refusal.Error {
	if err := s.validateChain(p); err != nil {
		return err
	}
	// Revocation comes last: it may ask the network, and only signers of a good path are heard.
	if s.f.Revoked == nil {
		return nil
	}
	return s.f.Revoked.Check(s.ctx, s, p.certs)
}

// validateChain is validate without revocation.
func (s *Search) validateChain(p *Path) *refusal.Error {
	n := len(p.certs) - 1
	w := &validation{
		s:          s,
		maxPathLen: n,
		policy:     newPolicyState(s.initial, n),
	}
	if err := w.start(p.certs[0], n > 0); err != nil {
		return err
	}

	for i, c := range p.certs[1:] {
		last := i+1 == n
		if err := w.basic(c); err != nil {
			return err
		}
		// RFC 5280, 6.1.3 (b), frees self-issued CA certificates, as of a change of keys.
		if last || !c.SelfIssued() {
			if err := w.names.check(c); err != nil {
				return err
			}
		}

		if err := w.policy.process(c, last); err != nil {
			return err
		}
		// What follows prepares for the next certificate.
		if last {
			break
		}
		if err := w.prepare(c); err != nil {
			return err
		}
	}

	leaf := p.certs[n]
	policies, err := w.policy.finish(leaf)
	if err != nil {
		return err
	}

	p.Policies = policies
	return nil
}

// start takes the anchor (RFC 5280, 6.1.1 (d), and what its certificate says).
func (w *validation) start(anchor *certinfo.Certificate, issues bool) *refusal.Error {
	if err := w.alone(anchor); err != nil {
		return err
	}
	w.key = anchor.PublicKey
	w.issuer = anchor
	if err := w.s.f.Rules.CheckKey(anchor, w.key); err != nil || !issues {
		return err
	}

	if anchor.HasKeyUsage && anchor.KeyUsage&certinfo.KeyUsageKeyCertSign == 0 {
		return refusal.New(anchor, refusal.ReasonKeyUsage, "the CA may not sign certificates (keyUsage has no keyCertSign)")
	}
	if anchor.MaxPathLen >= 0 {
		w.maxPathLen = min(w.maxPathLen, anchor.MaxPathLen)
	}

	return w.names.add(anchor)
}

// alone holds for every certificate of the path.
func (w *validation) alone(c *certinfo.Certificate) *refusal.Error {
	if err := w.s.f.Rules.CheckDates(c, w.s.Now); err != nil {
		return err
	}
	// Trust settings stand in a file of ca_dir, and count for the
	// same certificate from the card too.
	if file, rejected := w.s.f.Store.rejected[string(c.Raw)]; rejected {
		return refusal.New(c, refusal.ReasonRejected, "%s rejects it for logins", file)
	}
	return rules.CheckExtensions(c)
}

// basic is RFC 5280, 6.1.3 (a), with the strength of signature and key.
func (w *validation) basic(c *certinfo.Certificate) *refusal.Error {
	if err := w.alone(c); err != nil {
		return err
	}
	if _, err := w.s.f.Rules.CheckScheme(c, c.SignatureAlgorithm); err != nil {
		return err
	}

	// Building compares names as well, but by an index; the rule itself is checked here.
	if !c.Issuer.Equal(w.issuer.Subject) {
		return refusal.New(c, refusal.ReasonIssuerUnknown, "issuer %q is not the name of the certificate above", refusal.Clip(c.Issuer.RFC4514()))
	}

	if err := w.signature(c); err != nil {
		return w.s.signatureError(c, w.issuer, err)
	}
	// What a certificate inherits from above counts for its strength.
	return w.s.f.Rules.CheckKey(c, sig.Inherit(c.PublicKey, w.key))
}

// signature checks with the working key. Keys with inherited parameters differ from path to path:
// not remembered.
func (w *validation) signature(c *certinfo.Certificate) error {
	if !sig.InheritsParameters(w.issuer.PublicKey) {
		return w.s.signedBy(c, w.issuer, w.key)
	}

	scheme, err := c.SignatureAlgorithm.Scheme()
	if err != nil {
		return err
	}
	return sig.Check(w.key, scheme, c.RawTBS, c.Signature)
}

// prepare is RFC 5280, 6.1.4: c is not the last certificate of the path.
func (w *validation) prepare(c *certinfo.Certificate) *refusal.Error {
	w.policy.prepare(c)
	w.key = sig.Inherit(c.PublicKey, w.key)
	w.issuer = c
	if err := w.names.add(c); err != nil {
		return err
	}

	if !rules.IsCA(c) {
		return refusal.New(c, refusal.ReasonNotCA, "is no CA (basic constraints), but stands above others")
	}
	// Self-issued certificates do not count for the length (RFC 5280, 6.1.4 (l)).
	if !c.SelfIssued() {
		if w.maxPathLen <= 0 {
			return refusal.New(c, refusal.ReasonPathLen, "more CAs in the chain than a pathLenConstraint above allows")
		}
		w.maxPathLen--
	}

	if c.MaxPathLen >= 0 {
		w.maxPathLen = min(w.maxPathLen, c.MaxPathLen)
	}
	if c.HasKeyUsage && c.KeyUsage&certinfo.KeyUsageKeyCertSign == 0 {
		return refusal.New(c, refusal.ReasonKeyUsage, "the CA may not sign certificates (keyUsage has no keyCertSign)")
	}

	return rules.CheckIssuerPurpose(c, w.s.f.EKU)
}
