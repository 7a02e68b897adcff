package verify

import (
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Reason is a stable code for why a certificate is not good, or for what a decision was about. The
// texts are part of the interface: administrators and scripts look for them in logs. pam_pkcs11(8)
// has the table.
type Reason = refusal.Reason

// Error says which certificate is not good and why. Cert may be nil when no one certificate is to
// blame.
type Error = refusal.Error

// EKU is what the key eku asks for. By default a certificate that has the extension must allow
// clientAuth, smartcardLogon or any purpose; with Required it must have the extension and list each
// of these.
type EKU = rules.EKU

// The reasons. What each means is in Reason.Meaning.
const (
	ReasonExpired           = refusal.ReasonExpired
	ReasonNotYetValid       = refusal.ReasonNotYetValid
	ReasonIssuerUnknown     = refusal.ReasonIssuerUnknown
	ReasonBadSignature      = refusal.ReasonBadSignature
	ReasonRevoked           = refusal.ReasonRevoked
	ReasonRevocationUnknown = refusal.ReasonRevocationUnknown
	ReasonNotAvailable      = refusal.ReasonNotAvailable
	ReasonKeyUsage          = refusal.ReasonKeyUsage
	ReasonEKU               = refusal.ReasonEKU
	ReasonNotCA             = refusal.ReasonNotCA
	ReasonPathLen           = refusal.ReasonPathLen
	ReasonNameConstraint    = refusal.ReasonNameConstraint
	ReasonPolicy            = refusal.ReasonPolicy
	ReasonCriticalExtension = refusal.ReasonCriticalExtension
	ReasonWeakKey           = refusal.ReasonWeakKey
	ReasonWeakSignature     = refusal.ReasonWeakSignature
	ReasonKeyUnsupported    = refusal.ReasonKeyUnsupported
	ReasonMalformed         = refusal.ReasonMalformed
	ReasonWork              = refusal.ReasonWork
	ReasonRejected          = refusal.ReasonRejected

	// Of steps that are no refusals.
	ReasonUsable   = refusal.ReasonUsable
	ReasonAnchor   = refusal.ReasonAnchor
	ReasonNoChain  = refusal.ReasonNoChain
	ReasonAlone    = refusal.ReasonAlone
	ReasonOCSPGood = refusal.ReasonOCSPGood
	ReasonNoAnswer = refusal.ReasonNoAnswer
	ReasonCRLGood  = refusal.ReasonCRLGood
	ReasonSoft     = refusal.ReasonSoft

	ReasonTolerated = refusal.ReasonTolerated
)

// Reasons lists every reason.
func Reasons() []Reason { return refusal.Reasons() }

// ReasonOf returns the reason of an error of this package, "" for others.
func ReasonOf(err error) Reason { return refusal.ReasonOf(err) }
