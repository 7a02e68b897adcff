package ocsp

import (
	"errors"
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// The responders that the administrator trusts, and those whose own status cannot be asked for.

const (
	delegateKey    = "ocsp_delegate_without_status"
	delegateAccept = delegateKey + " = accept"
)

// withoutStatus reports whether a responder's certificate names no place to ask for its own
// status.
func withoutStatus(c *certinfo.Certificate) bool {
	return len(c.OCSPServers) == 0 && len(c.CRLDistributionPoints) == 0 && len(c.FreshestCRL) == 0 &&
		rules.Unusable(c, certinfo.OIDAuthorityInfoAccess) == nil &&
		rules.Unusable(c, certinfo.OIDCRLDistributionPoints) == nil &&
		rules.Unusable(c, certinfo.OIDFreshestCRL) == nil
}

// errNoDelegateStatus is the error of a responder whose certificate has neither nocheck nor a place
// to ask for its status.
var errNoDelegateStatus = errors.New("is signed by a responder whose certificate has neither nocheck nor an address of " +
	"its own status (" + delegateKey + " = refuse)")

// delegateUnknown decides about the answer of such a responder, about which nothing could be found
// out.
func (c *Checker) delegateUnknown(delegate *certinfo.Certificate, why *refusal.Error) error {
	if !c.Options.DelegateWithoutStatus {
		return fmt.Errorf("%w: %w", errNoDelegateStatus, why)
	}
	c.Logger.Warn("OCSP answer believed of a responder whose own status nobody tells ("+delegateAccept+")",
		"subject", delegate.Subject.RFC4514(), "serial", delegate.SerialHex(":"), "detail", why.Detail)
	return nil
}
