package ocsp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/sig"
)

// Whether an OCSP answer is accepted (RFC 6960, 3.2 and 4.2.2). Nothing here reaches the network;
// what is left to do is to find out whether a delegate is itself revoked.

// clockAhead is how far the clock of a responder may be ahead of ours, and its times out of order,
// whatever the clock skew: an answer that comes a few minutes early harms nobody, and to refuse it
// would lock out every machine whose clock is a second slow. The end of an answer's time is not
// stretched by it.
const clockAhead = 5 * time.Minute

// ageWithoutNext is how long an answer without nextUpdate counts when ocsp_max_age does not set it:
// its responder has newer information at any time (RFC 6960, 4.2.2.1).
const ageWithoutNext = time.Hour

// Target is a certificate whose status is asked for.
type Target struct {
	Cert, Issuer *certinfo.Certificate
	Key          any // the issuer's working key
}

// expected is what the answer must fit.
type expected struct {
	ids    []certID
	nonce  []byte // that was sent; nil when none was
	cached bool   // from the store: its nonce was compared when it came
}

// Verdict is an answer that is accepted, if its signer is not revoked.
type Verdict struct {
	answer   *answer
	single   single
	delegate *certinfo.Certificate // the signer when its own status counts: neither the issuer nor configured, and without nocheck
}

// SaidAt is the time of the status.
func (v *Verdict) SaidAt() time.Time { return v.single.thisUpdate }

// Revocation is when the certificate was revoked, and why.
func (v *Verdict) Revocation() (at time.Time, reason string) {
	return v.single.revokedAt, certinfo.CRLReasonText(v.single.reason)
}

// Revoked reports whether the answer says that the certificate is revoked.
func (v *Verdict) Revoked() bool { return v.single.status == statusRevoked }

// accept checks an answer. "Revoked" counts whatever its dates and nonce say: who signed it meant
// it, and a newer answer can take it back.
func (c *Checker) accept(t *Target, a *answer, e expected, now time.Time) (*Verdict, error) {
	// An answer may be about several certificates, and name ours with each hash that was asked.
	var ours []single
	for _, s := range a.singles {
		for i := range e.ids {
			if s.id.equal(&e.ids[i]) {
				ours = append(ours, s)
			}
		}
	}
	if len(ours) == 0 {
		return nil, errOtherCertificate
	}

	// The signature comes before everything else that the answer says.
	signer, err := c.signer(t, a)
	if err != nil {
		return nil, err
	}
	if a.unknownCritical != "" {
		return nil, fmt.Errorf("has the critical extension %s, which is not known", a.unknownCritical)
	}

	// A delegate's own status counts, unless its CA says that it
	// need not be asked (RFC 6960, 4.2.2.2.1).
	verdict := &Verdict{answer: a}
	if signer != nil && !c.isConfiguredResponder(signer) && signer.Extension(certinfo.OIDOCSPNoCheck) == nil {
		verdict.delegate = signer
	}

	var why error
	// "Unknown" of the CA itself is a statement; of another
	// responder it is only that it has no data.
	verdict.single, why = c.chooseSingle(a, ours, e, now)
	if why != nil {
		if errors.Is(why, errStatusUnknown) && c.answersForCA(t, signer) {
			why = &spokenError{why}
		}
		return nil, why
	}

	// A "revoked" of the store outlives the certificate of its
	// signer, which was valid when it was made.
	at := now
	if verdict.Revoked() && e.cached {
		at = a.producedAt
	}

	if signer != nil {
		if err := c.Rules.CheckDates(signer, at); err != nil {
			return nil, fmt.Errorf("is signed by %s: %s", refusal.Describe(signer), err.Detail)
		}
	}
	return verdict, nil
}

// spokenError is an error that rests on the signature of an answer, be it one that is wrong. It is
// not the silence of a responder, which `revocation = soft` passes over.
type spokenError struct{ error }

// Unwrap returns the error itself.
func (e *spokenError) Unwrap() error { return e.error }

// isSpoken reports whether an error rests on a signature.
func isSpoken(err error) bool {
	var spoken *spokenError
	return errors.As(err, &spoken)
}

// answersForCA reports whether the signer of an answer is the CA, for which it is nil, or a
// responder that the CA named.
func (c *Checker) answersForCA(t *Target, signer *certinfo.Certificate) bool {
	return signer == nil || c.mayAnswer(t, signer) == nil
}

// errOtherCertificate is the error of an answer that is about another certificate than the one that
// was asked about.
var errOtherCertificate = errors.New("speaks of another certificate")

// errStatusUnknown is the error of a responder that does not know the certificate.
var errStatusUnknown = errors.New("the responder does not know the certificate")

// chooseSingle chooses the response about our certificate: revoked before unknown before good.
func (c *Checker) chooseSingle(a *answer, ours []single, e expected, now time.Time) (single, error) {
	var good *single
	var stale error
	why := c.checkNonce(a, e)
	for i := range ours {
		s := &ours[i]
		switch {
		case s.unknownCritical != "":
			why = fmt.Errorf("has the critical extension %s, which is not known", s.unknownCritical)
		case s.status == statusRevoked:
			return *s, nil
		case s.status == statusUnknown:
			why = errStatusUnknown
		default:
			if err := c.checkDates(a, s, now); err != nil {
				stale = err
			} else {
				good = s
			}
		}
	}

	// A wrong nonce, or an unknown status beside a good one, forbids the good one.
	switch {
	case why != nil:
		return single{}, why
	case good == nil:
		return single{}, stale
	}
	return *good, nil
}

// checkNonce compares the answer's nonce with the one that was sent (RFC 8954, 2.1).
func (c *Checker) checkNonce(a *answer, e expected) error {
	switch {
	case e.cached:
		return nil
	case a.nonce == nil && c.Options.Nonce == NonceRequired:
		return errors.New("has no nonce (ocsp_nonce = required)")
	// A responder that makes its answers ahead cannot have our nonce in them.
	case a.nonce == nil:
		return nil
	case e.nonce == nil:
		return errors.New("has a nonce, but none was sent")
	case !bytes.Equal(a.nonce, nonceValue(e.nonce)):
		return errors.New("has another nonce than the one that was sent")
	}
	return nil
}

// checkDates is RFC 6960, 4.2.2.1, with the order of the times.
func (c *Checker) checkDates(a *answer, s *single, now time.Time) error {
	skew := c.Rules.ClockSkew
	ahead := max(skew, clockAhead)
	maxAge := c.Options.MaxAge
	if maxAge == 0 && s.nextUpdate.IsZero() {
		maxAge = ageWithoutNext
	}

	switch {
	case now.Add(ahead).Before(s.thisUpdate):
		return fmt.Errorf("is not valid before %s", refusal.Stamp(s.thisUpdate))
	case now.Add(ahead).Before(a.producedAt):
		return fmt.Errorf("says that it was made at %s", refusal.Stamp(a.producedAt))
	case a.producedAt.Add(ahead).Before(s.thisUpdate):
		return fmt.Errorf("was made at %s, before its thisUpdate %s", refusal.Stamp(a.producedAt), refusal.Stamp(s.thisUpdate))
	case maxAge > 0 && now.Add(-skew).After(s.thisUpdate.Add(maxAge)):
		return fmt.Errorf("is of %s, older than %s", refusal.Stamp(s.thisUpdate), maxAge)
	case s.nextUpdate.IsZero():
		return nil
	case s.nextUpdate.Before(s.thisUpdate):
		return fmt.Errorf("ends at %s, before it begins at %s", refusal.Stamp(s.nextUpdate), refusal.Stamp(s.thisUpdate))
	case s.nextUpdate.Before(a.producedAt):
		return fmt.Errorf("was made at %s, after its nextUpdate %s", refusal.Stamp(a.producedAt), refusal.Stamp(s.nextUpdate))
	case now.Add(-skew).After(s.nextUpdate):
		return fmt.Errorf("is not valid after %s", refusal.Stamp(s.nextUpdate))
	}
	return nil
}

// signer finds who signed the answer and may do so (RFC 6960, 4.2.2.2): the issuer itself, for
// which it returns nil, a responder of the configuration, or a delegate.
func (c *Checker) signer(t *Target, a *answer) (*certinfo.Certificate, error) {
	var why error = &spokenError{errors.New("is signed neither by the issuer, nor by a responder that it named, nor by " +
		"one of ocsp_responder_cert")}

	// Several certificates may have the name: the signature shows which of them signed.
	if a.namedBy(t.Issuer) {
		err := c.checkAnswer(t.Issuer, t.Key, a)
		if err == nil {
			return nil, nil
		}
		why = err
	}

	for _, r := range c.Trusted {
		if !a.namedBy(r) {
			continue
		}
		err := c.checkAnswer(r, r.PublicKey, a)
		if err == nil {
			return r, nil
		}
		why = err
	}

	// A certificate that came with the answer has to be the CA's delegate before its key is used.
	for _, cert := range a.certs {
		if !a.namedBy(cert) {
			continue
		}
		err := c.mayAnswer(t, cert)
		if err == nil {
			err = c.checkAnswer(cert, cert.PublicKey, a)
		}
		if err == nil {
			return cert, nil
		}
		why = err
	}
	return nil, why
}

// namedBy reports whether the responderID names the certificate.
func (a *answer) namedBy(c *certinfo.Certificate) bool {
	if a.responderName != nil {
		return a.responderName.Equal(c.Subject)
	}

	key, err := publicKeyBits(c.RawSPKI)
	return err == nil && bytes.Equal(a.responderKey, digestOf(crypto.SHA1, key))
}

// isConfiguredResponder reports whether a certificate is one of ocsp_responder_cert.
func (c *Checker) isConfiguredResponder(cert *certinfo.Certificate) bool {
	return slices.ContainsFunc(c.Trusted, cert.Equal)
}

// checkAnswer checks the signature of the answer with the key of a certificate.
func (c *Checker) checkAnswer(signer *certinfo.Certificate, key any, a *answer) error {
	if err := c.Rules.CheckKey(signer, key); err != nil {
		return fmt.Errorf("is signed by %s: %s", refusal.Describe(signer), err.Detail)
	}
	scheme, weak := c.Rules.CheckScheme(signer, a.algorithm)
	if weak != nil {
		return fmt.Errorf("is %s", weak.Detail)
	}

	if err := sig.Check(key, scheme, a.tbs, a.signature); err != nil {
		return &spokenError{fmt.Errorf("is not signed by %s: %w", refusal.Describe(signer), err)}
	}
	return nil
}

// mayAnswer returns nil when a certificate that came with the answer is a delegate of the issuer
// (RFC 6960, 4.2.2.2): issued by it directly, for this purpose, and not the very certificate that
// is asked about. accept checks its dates.
func (c *Checker) mayAnswer(t *Target, cert *certinfo.Certificate) error {
	const signing = certinfo.KeyUsageDigitalSignature | certinfo.KeyUsageNonRepudiation
	refused := func(why string) error {
		return &spokenError{fmt.Errorf("is signed by %s, which %s", refusal.Describe(cert), why)}
	}

	// No certificate may vouch for itself, under whatever name its key appears.
	switch {
	case bytes.Equal(cert.RawSPKI, t.Cert.RawSPKI):
		return refused("is the one that it speaks of")
	case !cert.Issuer.Equal(t.Issuer.Subject):
		return refused("is not issued by the CA in question")
	case !rules.Has(cert.ExtKeyUsage, certinfo.OIDOCSPSigning):
		return refused("may not answer for the CA (no extended key usage OCSPSigning)")
	case cert.HasKeyUsage && cert.KeyUsage&signing == 0:
		return refused("may not sign (keyUsage)")
	}

	if err := rules.CheckExtensions(cert); err != nil {
		return refused("is not to be used: " + err.Detail)
	}

	scheme, weak := c.Rules.CheckScheme(cert, cert.SignatureAlgorithm)
	if weak != nil {
		return fmt.Errorf("is signed by %s, which is %s", refusal.Describe(cert), weak.Detail)
	}
	// With the issuer's working key: a chain below the issuer is no direct delegation.
	if err := sig.Check(t.Key, scheme, cert.RawTBS, cert.Signature); err != nil {
		return refused("is not signed by the CA in question: " + err.Error())
	}
	return nil
}
