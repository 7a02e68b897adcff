package certinfo

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
)

// Why a certificate was revoked, in CRLs and OCSP answers.

// CRLReason values that matter (RFC 5280, 5.3.1).
const (
	CRLReasonAbsent        = -1
	CRLReasonRemoveFromCRL = 8
	CRLReasonLast          = 10 // the highest that is defined
	CRLReasonUnread        = 11 // our own: an entry whose reason cannot be read; it revokes
)

var crlReasons = map[int]string{
	CRLReasonAbsent: "no reason given",
	0:               "unspecified",
	1:               "keyCompromise",
	2:               "cACompromise",
	3:               "affiliationChanged",
	4:               "superseded",
	5:               "cessationOfOperation",
	6:               "certificateHold",
	7:               "a reason that is not defined",
	8:               "removeFromCRL",
	9:               "privilegeWithdrawn",
	10:              "aACompromise",
	CRLReasonUnread: "a reason that cannot be read",
}

// Extensions of an entry of a CRL that an OCSP answer may have too.
var (
	OIDReasonCode     = asn1.ObjectIdentifier{2, 5, 29, 21}
	OIDInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// CRLReasonText names a reason in messages.
func CRLReasonText(reason int) string { return crlReasons[reason] }

// ReadCRLReason reads a CRLReason (RFC 5280, 5.3.1); one that is not among them is CRLReasonUnread.
func ReadCRLReason(der []byte) int {
	s := cryptobyte.String(der)
	var reason int
	if !s.ReadASN1Enum(&reason) || !s.Empty() {
		return CRLReasonUnread
	}
	if reason < 0 || reason > CRLReasonLast {
		return CRLReasonUnread
	}
	return reason
}
