package verify

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

// Whether an OCSP answer is believed (RFC 6960, 3.2 and 4.2.2). Nothing here reaches the network; what is left to do is
// to find out whether a delegate is itself revoked.

// ocspAhead is how far the clock of a responder may be ahead of ours, and its times out of order, whatever the clock
// skew: an answer that comes a few minutes early harms nobody, and to refuse it would lock out every machine whose
// clock is a second slow. The end of an answer's time is not stretched by it.
const ocspAhead = 5 * time.Minute

// ocspAgeWithoutNext is how long an answer without NextUpdate is believed when ocsp_max_age does not say it: its
// responder has newer information at any time (RFC 6960, 4.2.2.1).
const ocspAgeWithoutNext = time.Hour

// ocspTarget is a certificate whose status is asked for.
type ocspTarget struct {
	cert, issuer *certinfo.Certificate
	key          any // the issuer's working key
}

// ocspExpected is what the answer must fit.
type ocspExpected struct {
	ids    []ocspCertID
	nonce  []byte // that was sent; nil when none was
	cached bool   // from the store: its nonce was compared when it came
}

// ocspVerdict is an answer that is believed, if its signer is not revoked.
type ocspVerdict struct {
	answer   *ocspAnswer
	single   ocspSingle
	delegate *certinfo.Certificate // the signer when its own status counts: neither the issuer nor configured, and without nocheck
}

func (v *ocspVerdict) revoked() bool { return v.single.status == statusRevoked }

// believe judges an answer. "Revoked" counts whatever its dates and nonce say: who signed it meant it, and a newer answer
// can take it back.
func (v *Verifier) believe(t *ocspTarget, a *ocspAnswer, e ocspExpected, now time.Time) (*ocspVerdict, error) {
	var ours []ocspSingle
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
	signer, err := v.ocspSigner(t, a)
	if err != nil {
		return nil, err
	}
	if a.unknownCritical != "" {
		return nil, fmt.Errorf("has the critical extension %s, which is not known", a.unknownCritical)
	}
	verdict := &ocspVerdict{answer: a}
	if signer != nil && !v.isConfiguredResponder(signer) && signer.Extension(certinfo.OIDOCSPNoCheck) == nil {
		verdict.delegate = signer
	}
	var why error
	if verdict.single, why = v.chooseSingle(a, ours, e, now); why != nil {
		if errors.Is(why, errStatusUnknown) && v.speaksForCA(t, signer) {
			why = &spokenError{why}
		}
		return nil, why
	}
	at := now
	if verdict.revoked() && e.cached {
		at = a.producedAt
	}
	if signer != nil {
		if err := v.rules.CheckDates(signer, at); err != nil {
			return nil, fmt.Errorf("is signed by %s: %s", refusal.Describe(signer), err.Detail)
		}
	}
	return verdict, nil
}

// spokenError is what an answer says by a signature, or by one that is wrong. It is not the silence of a responder.
type spokenError struct{ error }

// Unwrap gives what was said.
func (e *spokenError) Unwrap() error { return e.error }

func isSpoken(err error) bool {
	var spoken *spokenError
	return errors.As(err, &spoken)
}

// speaksForCA tells whether the signer of an answer is the CA, for which it is nil, or a responder that the CA named.
func (v *Verifier) speaksForCA(t *ocspTarget, signer *certinfo.Certificate) bool {
	return signer == nil || v.mayAnswer(t, signer) == nil
}

// errOtherCertificate is said when an answer does not speak of the certificate that was asked about.
var errOtherCertificate = errors.New("speaks of another certificate")

// errStatusUnknown is the answer of a responder that does not know the certificate.
var errStatusUnknown = errors.New("the responder does not know the certificate")

// chooseSingle takes the word about our certificate: revoked before unknown before good.
func (v *Verifier) chooseSingle(a *ocspAnswer, ours []ocspSingle, e ocspExpected, now time.Time) (ocspSingle, error) {
	var good *ocspSingle
	var stale error
	why := v.checkNonce(a, e)
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
			if err := v.ocspDates(a, s, now); err != nil {
				stale = err
			} else {
				good = s
			}
		}
	}
	switch {
	case why != nil:
		return ocspSingle{}, why
	case good == nil:
		return ocspSingle{}, stale
	}
	return *good, nil
}

// checkNonce holds the answer's nonce against the one that was sent (RFC 8954, 2.1).
func (v *Verifier) checkNonce(a *ocspAnswer, e ocspExpected) error {
	switch {
	case e.cached:
		return nil
	case a.nonce == nil && v.options.OCSP.Nonce == NonceRequired:
		return errors.New("has no nonce (ocsp_nonce = required)")
	case a.nonce == nil:
		return nil
	case e.nonce == nil:
		return errors.New("has a nonce, but none was sent")
	case !bytes.Equal(a.nonce, nonceValue(e.nonce)):
		return errors.New("has another nonce than the one that was sent")
	}
	return nil
}

// ocspDates is RFC 6960, 4.2.2.1, with the order of the times.
func (v *Verifier) ocspDates(a *ocspAnswer, s *ocspSingle, now time.Time) error {
	skew := v.options.ClockSkew
	ahead := max(skew, ocspAhead)
	maxAge := v.options.OCSP.MaxAge
	if maxAge == 0 && s.nextUpdate.IsZero() {
		maxAge = ocspAgeWithoutNext
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

// ocspSigner finds who signed the answer and may do so (RFC 6960, 4.2.2.2): the issuer itself, for which it gives nil,
// a responder of the configuration, or a delegate.
func (v *Verifier) ocspSigner(t *ocspTarget, a *ocspAnswer) (*certinfo.Certificate, error) {
	var why error = &spokenError{errors.New("is signed neither by the issuer, nor by a responder that it named, nor by " +
		"one of ocsp_responder_cert")}
	if a.namedBy(t.issuer) {
		err := v.checkAnswer(t.issuer, t.key, a)
		if err == nil {
			return nil, nil
		}
		why = err
	}
	for _, r := range v.responders {
		if !a.namedBy(r) {
			continue
		}
		err := v.checkAnswer(r, r.PublicKey, a)
		if err == nil {
			return r, nil
		}
		why = err
	}
	for _, c := range a.certs {
		if !a.namedBy(c) {
			continue
		}
		err := v.mayAnswer(t, c)
		if err == nil {
			err = v.checkAnswer(c, c.PublicKey, a)
		}
		if err == nil {
			return c, nil
		}
		why = err
	}
	return nil, why
}

// namedBy tells whether the responderID names the certificate.
func (a *ocspAnswer) namedBy(c *certinfo.Certificate) bool {
	if a.responderName != nil {
		return a.responderName.Equal(c.Subject)
	}
	key, err := publicKeyBits(c.RawSPKI)
	return err == nil && bytes.Equal(a.responderKey, digestOf(crypto.SHA1, key))
}

func (v *Verifier) isConfiguredResponder(c *certinfo.Certificate) bool {
	return slices.ContainsFunc(v.responders, c.Equal)
}

// checkAnswer checks the signature of the answer with the key of a certificate.
func (v *Verifier) checkAnswer(signer *certinfo.Certificate, key any, a *ocspAnswer) error {
	if err := v.rules.CheckKey(signer, key); err != nil {
		return fmt.Errorf("is signed by %s: %s", refusal.Describe(signer), err.Detail)
	}
	scheme, weak := v.rules.CheckScheme(signer, a.algorithm)
	if weak != nil {
		return fmt.Errorf("is %s", weak.Detail)
	}
	if err := sig.Check(key, scheme, a.tbs, a.signature); err != nil {
		return &spokenError{fmt.Errorf("is not signed by %s: %w", refusal.Describe(signer), err)}
	}
	return nil
}

// mayAnswer tells whether a certificate that came with the answer is a delegate of the issuer (RFC 6960, 4.2.2.2):
// issued by it directly, for this purpose, and not the very certificate that is asked about. Its dates are looked at
// by believe.
func (v *Verifier) mayAnswer(t *ocspTarget, c *certinfo.Certificate) error {
	const signing = certinfo.KeyUsageDigitalSignature | certinfo.KeyUsageNonRepudiation
	refused := func(why string) error {
		return &spokenError{fmt.Errorf("is signed by %s, which %s", refusal.Describe(c), why)}
	}
	switch {
	case bytes.Equal(c.RawSPKI, t.cert.RawSPKI):
		return refused("is the one that it speaks of")
	case !c.Issuer.Equal(t.issuer.Subject):
		return refused("is not issued by the CA in question")
	case !rules.Has(c.ExtKeyUsage, certinfo.OIDOCSPSigning):
		return refused("may not answer for the CA (no extended key usage OCSPSigning)")
	case c.HasKeyUsage && c.KeyUsage&signing == 0:
		return refused("may not sign (keyUsage)")
	}
	if err := rules.CheckExtensions(c); err != nil {
		return refused("is not to be used: " + err.Detail)
	}
	scheme, weak := v.rules.CheckScheme(c, c.SignatureAlgorithm)
	if weak != nil {
		return fmt.Errorf("is signed by %s, which is %s", refusal.Describe(c), weak.Detail)
	}
	if err := sig.Check(t.key, scheme, c.RawTBS, c.Signature); err != nil {
		return refused("is not signed by the CA in question: " + err.Error())
	}
	return nil
}
