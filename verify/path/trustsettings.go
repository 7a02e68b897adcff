package path

import (
	stdasn1 "encoding/asn1"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/rules"
)

// OpenSSL's TRUSTED CERTIFICATE: a certificate, and behind it what its owner trusts it for
// (X509_CERT_AUX of OpenSSL's crypto/x509/x_x509a.c; openssl-x509(1), -trustout, -addtrust,
// -addreject).

// trustSettings are the purposes for which the file trusts a certificate and those for which it
// rejects it. Without any the certificate is trusted as one without settings is.
type trustSettings struct {
	listed bool // there is a list of trusted purposes, which may be empty
	trust  []stdasn1.ObjectIdentifier
	reject []stdasn1.ObjectIdentifier
}

// splitTrusted takes the content of a TRUSTED CERTIFICATE apart. Settings that cannot be read are
// an error: among them may be one that rejects.
func splitTrusted(der []byte) (cert []byte, t trustSettings, err error) {
	s := cryptobyte.String(der)
	var first, aux cryptobyte.String
	if !s.ReadASN1Element(&first, asn1.SEQUENCE) {
		return der, t, nil // parsed once more, for the error
	}
	if s.Empty() {
		return first, t, nil
	}

	malformed := errors.New("TRUSTED CERTIFICATE: its trust settings cannot be read")
	if !s.ReadASN1(&aux, asn1.SEQUENCE) || !s.Empty() {
		return nil, t, malformed
	}

	// X509_CERT_AUX: trust, reject, alias, keyid and other, all of them optional.
	rejected := asn1.Tag(0).ContextSpecific().Constructed()
	var trust, reject cryptobyte.String
	var hasReject bool
	if !aux.ReadOptionalASN1(&trust, &t.listed, asn1.SEQUENCE) || !aux.ReadOptionalASN1(&reject, &hasReject, rejected) {
		return nil, t, malformed
	}
	other := asn1.Tag(1).ContextSpecific().Constructed()
	skipped := aux.SkipOptionalASN1(asn1.UTF8String) && aux.SkipOptionalASN1(asn1.OCTET_STRING) && aux.SkipOptionalASN1(other)
	if !skipped || !aux.Empty() {
		return nil, t, malformed
	}

	var ok1, ok2 bool
	t.trust, ok1 = readPurposes(trust)
	t.reject, ok2 = readPurposes(reject)
	if !ok1 || !ok2 {
		return nil, t, malformed
	}

	return first, t, nil
}

func readPurposes(list cryptobyte.String) (all []stdasn1.ObjectIdentifier, ok bool) {
	for !list.Empty() {
		var oid stdasn1.ObjectIdentifier
		if !list.ReadASN1ObjectIdentifier(&oid) {
			return nil, false
		}
		all = append(all, oid)
	}
	return all, true
}

// loginPurposes are what a certificate must be trusted for when a card logs in: one of the first,
// and what eku requires.
func loginPurposes(eku rules.EKU) []stdasn1.ObjectIdentifier {
	return slices.Concat([]stdasn1.ObjectIdentifier{certinfo.OIDClientAuth, certinfo.OIDSmartcardLogon}, eku.Required)
}

// rejects reports whether the settings reject the certificate for a login: for any purpose, or for
// one of a login's.
func (t trustSettings) rejects(eku rules.EKU) bool {
	return rules.Has(t.reject, certinfo.OIDAnyExtKeyUsage) || rules.HasOneOf(t.reject, loginPurposes(eku)...)
}

// forOthers reports whether the settings trust the certificate for purposes among which a login is
// not. As OpenSSL has it, a list of purposes excludes those that it does not name.
func (t trustSettings) forOthers(eku rules.EKU) bool {
	if !t.listed || rules.Has(t.trust, certinfo.OIDAnyExtKeyUsage) {
		return false
	}
	// With eku each required purpose has to be trusted, by default one of a card's is enough.
	for _, oid := range eku.Required {
		if !rules.Has(t.trust, oid) {
			return true
		}
	}
	return len(eku.Required) == 0 && !rules.HasOneOf(t.trust, loginPurposes(eku)...)
}
