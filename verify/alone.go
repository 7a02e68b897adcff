package verify

import (
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/path"
)

// StandsAlone reports whether no certificate of ca_dir could have issued this one, over the others,
// which travel with it, or not: it is self-signed, or its issuer is not known. Only then may
// CheckAlone be asked in place of Check. Names, key identifiers and the certificate itself are
// looked at, not signatures: in doubt the answer is no.
//
// A file of ca_dir that is not used may hold the issuer. Where there is one, only a certificate
// that is self-signed stands alone.
func (v *Verifier) StandsAlone(cert *certinfo.Certificate, others []*certinfo.Certificate) bool {
	if cert == nil || v.finder().MayBeAbove(cert, others) {
		return false
	}
	return path.SignsItself(cert) || !v.store.Incomplete()
}

// CheckAlone reports whether a certificate that stands alone is good as far as it can be without an
// authority: its key, algorithms, dates, extensions and usages. The caller must know its key by
// other means, since anybody can make such a certificate. With passExpired one that has run out is
// good, too. The error is an *Error; the result holds the decisions in either case.
func (v *Verifier) CheckAlone(cert *certinfo.Certificate, others []*certinfo.Certificate, passExpired bool) (*Result, error) {
	if cert == nil {
		return &Result{}, refusal.New(nil, ReasonMalformed, "there is no certificate")
	}
	result := &Result{Expires: cert.NotAfter}

	if err := v.checkAlso(cert, others, passExpired, result); err != nil {
		result.add(err.Cert, err.Reason, false, err.Detail)
		return result, err
	}

	result.Alone = true
	result.Chain = []*certinfo.Certificate{cert}

	what := "its issuer is not known here, and its key is enrolled"
	if cert.SelfIssued() {
		what = "it is self-signed, and its key is enrolled"
	}

	result.add(cert, ReasonAlone, true, what)
	result.tolerated(cert)
	// What has run out already does not end soon.
	result.ExpiresSoon = !result.Expired && v.endsSoon(cert, v.options.Now())
	return result, nil
}

// checkAlso makes the decisions of CheckAlone.
func (v *Verifier) checkAlso(cert *certinfo.Certificate, others []*certinfo.Certificate, passExpired bool, result *Result) *Error {
	if err := v.checkAvailable(cert); err != nil {
		return err
	}
	if !v.StandsAlone(cert, others) {
		return refusal.New(cert, ReasonIssuerUnknown, "it does not stand alone: ca_dir may have its issuer")
	}

	// With passExpired the other checks are made for the last moment at which the certificate was
	// valid.
	at := v.options.Now()
	err := v.rules.CheckDates(cert, at)
	if err != nil && err.Reason == ReasonExpired && passExpired {
		result.Expired = true
		at = cert.NotAfter
		result.add(cert, ReasonExpired, true, err.Detail+", which is let pass")
	}

	if err := v.checkAlone(cert, at); err != nil {
		return err
	}

	// Nobody vouches for the signature, but a weak algorithm is refused as in a chain, and a
	// certificate that names itself as its issuer has to carry its own signature.
	if _, err := v.rules.CheckScheme(cert, cert.SignatureAlgorithm); err != nil {
		return err
	}
	if cert.SelfIssued() && !path.SignsItself(cert) {
		return refusal.New(cert, ReasonBadSignature, "its issuer has its own name, and its own key did not make the signature")
	}
	return nil
}
