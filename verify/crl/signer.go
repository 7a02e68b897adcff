package crl

import (
	"context"
	"errors"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/sig"
)

// Whose key signed a CRL, and whether it may (RFC 5280, 6.3.3 (f) and (g)).

// listSigner is the certificate that signed a CRL, good and allowed to.
type listSigner struct {
	cert *certinfo.Certificate
	key  any  // of cert, with inherited parameters
	own  bool // it is the key that signed the certificate whose status is asked for
}

// signerAnswer is what was found out about a certificate that signed a list.
type signerAnswer struct {
	key any
	err *refusal.Error
}

// signer finds who signed a CRL: the CA itself, or a certificate of the list's issuer name whose
// path leads to the same anchor. Nil means that there is none; the error is final.
func (c *status) signer(l List) (*listSigner, *refusal.Error) {
	if signer, known := c.signers[l]; known {
		return signer, nil
	}
	signer, err := c.findSigner(l)
	if err == nil {
		c.signers[l] = signer
	}
	return signer, err
}

func (c *status) findSigner(l List) (*listSigner, *refusal.Error) {
	r, h := c.run, l.Head()
	if _, err := r.r.Rules.CheckScheme(c.issuer, h.Algorithm); err != nil {
		c.unusable(h, "is "+err.Detail)
		return nil, nil
	}

	own := false
	// The issuer's key itself may have signed: first, for it needs no path.
	if c.direct(h) {
		err := l.SignedBy(c.issuer, c.key)
		own = err == nil
		if own && maySignCRLs(c.issuer) {
			return &listSigner{cert: c.issuer, key: c.key, own: true}, nil
		}
		// Any other error than a wrong signature is one of the list,
		// which another signer does not mend.
		if err != nil && !errors.Is(err, sig.ErrSignature) && !errors.Is(err, sig.ErrKeyType) {
			c.unusable(h, "cannot be used: "+err.Error())
			return nil, nil
		}
	}

	// Signers of signers' lists may lead on and on: the search ends at a depth.
	if r.depth == maxSignerDepth {
		c.unusable(h, notSigned)
		return nil, nil
	}

	var refused *refusal.Error
	for _, candidate := range r.issuers.Named(h.Issuer) {
		key, err := r.candidate(c.ctx, candidate, l)
		switch {
		case err == nil && key != nil:
			return &listSigner{cert: candidate, key: key, own: own}, nil
		case err != nil && err.Reason == refusal.ReasonWork:
			return nil, err
		case err != nil:
			refused = err
		}
	}

	switch {
	// Signed with the issuer's key, but by a certificate that may not sign CRLs.
	case own:
		c.unusable(h, notSigned)
	case refused != nil:
		c.note(h, "is signed by a certificate that is not good: "+refused.Error())
	default:
		// No key that is known signed it: it may be a forgery, or of another CA.
		c.unusable(h, notSigned)
		c.forgery(l)
	}
	return nil, nil
}

const notSigned = "is not signed by a CA of this chain that may sign CRLs"

// candidate gives the key of a certificate when it signed the list and is good. Without a key and
// an error it did not sign it.
func (r *Run) candidate(ctx context.Context, cert *certinfo.Certificate, l List) (any, *refusal.Error) {
	if !maySignCRLs(cert) {
		return nil, nil
	}
	// The signature first: it is cheaper than a path. An inherited key is known only after one.
	if !sig.InheritsParameters(cert.PublicKey) && l.SignedBy(cert, cert.PublicKey) != nil {
		return nil, nil
	}

	key, err := r.signerKey(ctx, cert)
	if err != nil || l.SignedBy(cert, key) != nil {
		return nil, err
	}
	return key, nil
}

// maySignCRLs reports whether a certificate allows its key to sign CRLs: without a keyUsage it may
// be used for anything.
func maySignCRLs(c *certinfo.Certificate) bool {
	return c.PublicKeyErr == nil && (!c.HasKeyUsage || c.KeyUsage&certinfo.KeyUsageCRLSign != 0)
}

// signerKey validates the path of a CRL issuer to the anchor of the path that is being checked,
// revocation included. What is found out while another signer is being checked may depend on that
// one, and is not remembered.
func (r *Run) signerKey(ctx context.Context, candidate *certinfo.Certificate) (any, *refusal.Error) {
	// The anchor is trusted as it is.
	if candidate.Equal(r.anchor) {
		return candidate.PublicKey, nil
	}
	if answer, known := r.signers[candidate]; known {
		return answer.key, answer.err
	}

	key, err := r.findSignerKey(ctx, candidate)
	if r.depth == 0 {
		r.signers[candidate] = signerAnswer{key: key, err: err}
	}
	return key, err
}

// findSignerKey looks for a path to a CRL issuer, and returns its key with inherited parameters.
func (r *Run) findSignerKey(ctx context.Context, candidate *certinfo.Certificate) (any, *refusal.Error) {
	var key any
	err := r.issuers.SignerPath(ctx, candidate, r.anchor, func(certs []*certinfo.Certificate) *refusal.Error {
		// Each path is checked for revocation in turn, which may look for signers again.
		r.depth++
		defer func() { r.depth-- }()
		if err := r.Path(ctx, certs); err != nil {
			return err
		}
		keys := sig.WorkingKeys(certs)
		key = keys[len(keys)-1]
		return nil
	})

	if err != nil {
		return nil, err
	}
	// The path that was found has to have been checked for revocation.
	if key == nil {
		return nil, refusal.New(candidate, refusal.ReasonRevocationUnknown, "no path")
	}
	return key, nil
}

// SignedWith reports whether a CA signed a list and may do so.
func SignedWith(l List, ca *certinfo.Certificate) bool {
	return maySignCRLs(ca) && !sig.InheritsParameters(ca.PublicKey) && l.SignedBy(ca, ca.PublicKey) == nil
}

// SignerOf finds among several certificates the one that signed a list.
func SignerOf(scan *Scan, candidates []*certinfo.Certificate) *certinfo.Certificate {
	for _, s := range candidates {
		mayHave := s.Subject.Equal(scan.Issuer) && maySignCRLs(s) && !sig.InheritsParameters(s.PublicKey)
		if mayHave && scan.SignedBy(s.PublicKey) == nil {
			return s
		}
	}
	return nil
}
