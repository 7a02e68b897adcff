package verify

import (
	"errors"
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// The responders that the administrator trusts, and those whose own status nobody tells.

const (
	responderKey   = "ocsp_responder_cert"
	delegateKey    = "ocsp_delegate_without_status"
	delegateAccept = delegateKey + " = accept"
)

// readResponderCerts reads the certificates of ocsp_responder_cert. A file or directory without one
// is an error; what else is wrong with a file is one of Problems.
func (v *Verifier) readResponderCerts() error {
	all := newStore()
	all.key = responderKey
	for _, path := range v.options.OCSP.ResponderCerts {
		certs, problems := len(all.all), len(all.problems)
		if err := all.load(path, v.options.StrictPermissions); err != nil {
			return err
		}
		if len(all.all) == certs && (certs == 0 || len(all.problems) > problems) { // not only one that was read before
			return fmt.Errorf("%s: %s: no certificate in it that can be used%s", responderKey, path, lastProblem(all))
		}
	}
	for _, p := range all.problems {
		v.options.Logger.Warn(responderKey+": file not used, or only in part", "file", p.Path, "problem", p.Text)
	}
	v.store.problems = append(v.store.problems, all.problems...)
	v.responders = all.all
	return nil
}

func lastProblem(s *caStore) string {
	if len(s.problems) == 0 {
		return ""
	}
	return ": " + s.problems[len(s.problems)-1].Text
}

// withoutStatus tells whether a responder's certificate names no place that would tell its own
// status.
func withoutStatus(c *certinfo.Certificate) bool {
	return len(c.OCSPServers) == 0 && len(c.CRLDistributionPoints) == 0 && len(c.FreshestCRL) == 0 &&
		rules.Unusable(c, certinfo.OIDAuthorityInfoAccess) == nil &&
		rules.Unusable(c, certinfo.OIDCRLDistributionPoints) == nil &&
		rules.Unusable(c, certinfo.OIDFreshestCRL) == nil
}

// errNoDelegateStatus is said of a responder whose certificate has neither nocheck nor a place that
// tells its status.
var errNoDelegateStatus = errors.New("is signed by a responder whose certificate has neither nocheck nor an address of " +
	"its own status (" + delegateKey + " = refuse)")

// unsettled is what becomes of the answer of such a responder, about which nothing could be found
// out.
func (c *ocspChecker) unsettled(delegate *certinfo.Certificate, why *refusal.Error) error {
	if !c.v.options.OCSP.DelegateWithoutStatus {
		return fmt.Errorf("%w: %w", errNoDelegateStatus, why)
	}
	c.v.options.Logger.Warn("OCSP answer believed of a responder whose own status nobody tells ("+delegateAccept+")",
		"subject", delegate.Subject.RFC4514(), "serial", delegate.SerialHex(":"), "detail", why.Detail)
	return nil
}
