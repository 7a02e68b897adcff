// Package refusal has the words in which the packages of verify refuse a certificate: the codes of
// the reasons, the error that carries one, and how certificates, names and times are written in
// messages.
package refusal

import (
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/internal/certinfo"
)

// Reason is a stable code for why a certificate is not good, or for what a decision was about. The
// texts are part of the interface: administrators and scripts look for them in logs. pam_pkcs11(8)
// has the table.
type Reason string

// The reasons. What each means is in Reason.Meaning.
const (
	ReasonExpired           Reason = "expired"
	ReasonNotYetValid       Reason = "not-yet-valid"
	ReasonIssuerUnknown     Reason = "issuer-unknown"
	ReasonBadSignature      Reason = "bad-signature"
	ReasonRevoked           Reason = "revoked"
	ReasonRevocationUnknown Reason = "revocation-unknown"
	ReasonNotAvailable      Reason = "not-available"
	ReasonKeyUsage          Reason = "key-usage"
	ReasonEKU               Reason = "extended-key-usage"
	ReasonNotCA             Reason = "not-a-ca"
	ReasonPathLen           Reason = "path-length"
	ReasonNameConstraint    Reason = "name-constraint"
	ReasonPolicy            Reason = "policy"
	ReasonCriticalExtension Reason = "critical-extension"
	ReasonWeakKey           Reason = "weak-key"
	ReasonWeakSignature     Reason = "weak-signature"
	ReasonKeyUnsupported    Reason = "key-unsupported"
	ReasonMalformed         Reason = "malformed"
	ReasonWork              Reason = "too-much-work"
	ReasonRejected          Reason = "rejected"

	// Of steps that are no refusals.
	ReasonUsable   Reason = "usable"
	ReasonAnchor   Reason = "anchored"
	ReasonNoChain  Reason = "no-chain"
	ReasonAlone    Reason = "enrolled-key"
	ReasonOCSPGood Reason = "ocsp-good"
	ReasonNoAnswer Reason = "ocsp-no-answer"
	ReasonCRLGood  Reason = "crl-good"
	ReasonSoft     Reason = "revocation-soft"

	ReasonTolerated Reason = "tolerated"
)

// reasonTable documents every reason: what it means, and what usually helps.
var reasonTable = []struct {
	reason  Reason
	meaning string
}{
	{ReasonExpired, "a certificate of the chain ran out (notAfter)"},
	{ReasonNotYetValid, "a certificate of the chain is not valid yet (notBefore), or the clock is wrong"},
	{ReasonIssuerUnknown, "no chain leads to a CA of ca_dir: the issuer's certificate is missing there"},
	{ReasonBadSignature, "a signature does not verify with the key that should have made it"},
	{ReasonRevoked, "a CRL or an OCSP answer says that a certificate of the chain is revoked or on hold"},
	{ReasonRevocationUnknown, "no CRL or OCSP answer that can be believed could be had"},
	{ReasonNotAvailable, "cert_policy asks for a check that this version does not have"},
	{ReasonKeyUsage, "the keyUsage extension does not allow this use of the key"},
	{ReasonEKU, "the extended key usage allows none of what is asked for (key eku)"},
	{ReasonNotCA, "an issuer in the chain is not a CA"},
	{ReasonPathLen, "the chain has more CAs than a pathLenConstraint allows"},
	{ReasonNameConstraint, "a name lies outside what a CA above may certify"},
	{ReasonPolicy, "no certificate policy is valid where one is required (key required_policies, or a CA)"},
	{ReasonCriticalExtension, "a critical extension is not known"},
	{ReasonWeakKey, "an RSA or DSA key is shorter than min_rsa_bits"},
	{ReasonWeakSignature, "signed with SHA-1 without allow_sha1, or with MD5 or older, which no key allows"},
	{ReasonKeyUnsupported, "a key or signature algorithm is not supported"},
	{ReasonMalformed, "a certificate breaks the rules of its encoding"},
	{ReasonWork, "the search for a chain was ended at its limit, or the time was up"},
	{ReasonRejected, "the trust settings of a TRUSTED CERTIFICATE in ca_dir reject a certificate of the chain for logins"},
	{ReasonUsable, "the certificate by itself may be used for a login now"},
	{ReasonAnchor, "the chain is good and ends at this CA of ca_dir"},
	{ReasonNoChain, "cert_policy asks for no chain"},
	{ReasonAlone, "no authority of ca_dir could have issued the certificate, and it counts because its key is enrolled"},
	{ReasonOCSPGood, "an OCSP answer says that the certificate is not revoked"},
	{ReasonNoAnswer, "a responder gave no OCSP answer that can be believed"},
	{ReasonCRLGood, "the CRLs do not list the certificate"},
	{ReasonSoft, "nothing could be found out about revocation, and revocation = soft lets that pass"},
	{ReasonTolerated, "a certificate breaks the rules of its encoding where it does not matter for this check"},
}

// Reasons lists every reason.
func Reasons() []Reason {
	var all []Reason
	for _, row := range reasonTable {
		all = append(all, row.reason)
	}
	return all
}

// Meaning explains the reason in English; "" for one that is not of this package.
func (r Reason) Meaning() string {
	for _, row := range reasonTable {
		if row.reason == r {
			return row.meaning
		}
	}
	return ""
}

// Error says which certificate is not good and why. Cert may be nil when no one certificate is to
// blame.
type Error struct {
	Cert   *certinfo.Certificate
	Reason Reason
	Detail string // English, for the administrator

	// Spoken is set when the refusal rests on a signature, be it one that is wrong. `revocation =
	// soft` passes over silence only, so it does not pass over this.
	Spoken bool

	// Restore is the cure of this refusal, where it has one of its own: a setting, KEY = VALUE, or
	// a command; "" otherwise.
	Restore string
}

// Error names the certificate, the reason's code and the detail.
func (e *Error) Error() string {
	if e.Cert == nil {
		return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", Describe(e.Cert), e.Reason, e.Detail)
}

// ReasonOf returns the reason of an error of this package, "" for others.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// New refuses a certificate, which may be nil, for a reason; the rest is the detail.
func New(cert *certinfo.Certificate, reason Reason, format string, args ...any) *Error {
	return &Error{
		Cert:   cert,
		Reason: reason,
		Detail: fmt.Sprintf(format, args...),
	}
}

// Describe names a certificate in messages: by its subject, or by issuer and serial number when it
// has none.
func Describe(c *certinfo.Certificate) string {
	if len(c.Subject) > 0 {
		return fmt.Sprintf("certificate %q", Clip(c.Subject.RFC4514()))
	}
	return fmt.Sprintf("certificate %s of %q", c.SerialHex(":"), Clip(c.Issuer.RFC4514()))
}

// Clip shortens a name, which whoever made the certificate may have chosen to fill the log.
func Clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// Stamp formats a time for messages.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
