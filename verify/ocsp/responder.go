package ocsp

import (
	"errors"
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// The responders that the administrator trusts, and those whose own status nobody tells.

const (
	delegateKey    = "ocsp_delegate_without_status"
	delegateAccept = delegateKey + " = accept"
)

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
func (c *Checker) unsettled(delegate *certinfo.Certificate, why *refusal.Error) error {
	if !c.Options.DelegateWithoutStatus {
		return fmt.Errorf("%w: %w", errNoDelegateStatus, why)
	}
	c.Logger.Warn("OCSP answer believed of a responder whose own status nobody tells ("+delegateAccept+")",
		"subject", delegate.Subject.RFC4514(), "serial", delegate.SerialHex(":"), "detail", why.Detail)
	return nil
}
