// Package rules checks one certificate by itself: dates, usages, keys, algorithms and extensions.
// What holds for the certificates of a chain together is checked by package path.
package rules

import (
	"crypto"
	//lint:ignore SA1019 read only: its length is checked
	"crypto/dsa"
	"crypto/rsa"
	"encoding/asn1"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/sig"
)

// EKU is what the key eku asks for. By default a certificate that has the extension must allow
// clientAuth, smartcardLogon or any purpose; with Required it must have the extension and list each
// of these.
type EKU struct {
	Ignore   bool
	Required []asn1.ObjectIdentifier
}

// Rules are what every certificate is held to, whatever it is for.
type Rules struct {
	ClockSkew  time.Duration
	MinRSABits int  // shortest RSA and DSA key
	AllowSHA1  bool // SHA-1 signatures; older hashes are never accepted
}

// CheckKeyUsage asks for a usage that a login signature is: digitalSignature, or nonRepudiation
// (contentCommitment), which is all that the signature certificates of several national cards have.
// Without the extension any use is allowed.
func CheckKeyUsage(cert *certinfo.Certificate) *refusal.Error {
	const wanted = certinfo.KeyUsageDigitalSignature | certinfo.KeyUsageNonRepudiation
	if cert.HasKeyUsage && cert.KeyUsage&wanted == 0 {
		return refusal.New(cert, refusal.ReasonKeyUsage, "keyUsage has neither digitalSignature nor nonRepudiation")
	}
	return nil
}

// CheckPurpose applies the key eku to the end-entity certificate.
func CheckPurpose(cert *certinfo.Certificate, eku EKU) *refusal.Error {
	if eku.Ignore {
		return nil
	}
	for _, oid := range eku.Required {
		if !Has(cert.ExtKeyUsage, oid) {
			return refusal.New(cert, refusal.ReasonEKU, "extended key usage lacks %v, which eku requires", oid)
		}
	}

	if len(eku.Required) > 0 || !cert.HasExtKeyUsage {
		// What the administrator requires takes the place of the purposes that are asked for by
		// default.
		return nil
	}
	if HasOneOf(cert.ExtKeyUsage, certinfo.OIDClientAuth, certinfo.OIDSmartcardLogon, certinfo.OIDAnyExtKeyUsage) {
		return nil
	}
	return refusal.New(cert, refusal.ReasonEKU, "extended key usage allows neither clientAuth nor smartcardLogon (eku = ignore accepts it)")
}

// CheckIssuerPurpose refuses a CA whose certificate is limited to other purposes than it issues
// for. RFC 5280 leaves this open; the CAs that write the extension mean it, and OpenSSL and Windows
// read it so.
func CheckIssuerPurpose(cert *certinfo.Certificate, eku EKU) *refusal.Error {
	if eku.Ignore || !cert.HasExtKeyUsage || Has(cert.ExtKeyUsage, certinfo.OIDAnyExtKeyUsage) {
		return nil
	}

	for _, oid := range eku.Required {
		if !Has(cert.ExtKeyUsage, oid) {
			return refusal.New(cert, refusal.ReasonEKU, "the CA may not issue for %v, which eku requires", oid)
		}
	}

	// Without a list of its own, eku asks for the purposes of a card (see CheckPurpose).
	if len(eku.Required) == 0 && !HasOneOf(cert.ExtKeyUsage, certinfo.OIDClientAuth, certinfo.OIDSmartcardLogon) {
		return refusal.New(cert, refusal.ReasonEKU, "the CA may issue neither for clientAuth nor for smartcardLogon")
	}
	return nil
}

// Has reports whether an identifier is in a list.
func Has(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}

// HasOneOf reports whether one of several identifiers is in a list.
func HasOneOf(list []asn1.ObjectIdentifier, oids ...asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(oids, func(oid asn1.ObjectIdentifier) bool { return Has(list, oid) })
}

// CheckDates applies the validity period, widened by the clock skew. Both ends are part of it (RFC
// 5280, 4.1.2.5).
func (r *Rules) CheckDates(cert *certinfo.Certificate, now time.Time) *refusal.Error {
	skew := r.ClockSkew
	if now.Add(skew).Before(cert.NotBefore) {
		return refusal.New(cert, refusal.ReasonNotYetValid, "not valid before %s", refusal.Stamp(cert.NotBefore))
	}

	// Dates have whole seconds: the last one is over when the next begins.
	if !now.Add(-skew).Before(cert.NotAfter.Add(time.Second)) {
		return refusal.New(cert, refusal.ReasonExpired, "not valid after %s", refusal.Stamp(cert.NotAfter))
	}
	return nil
}

// CheckKey refuses keys that cannot be used and keys that are too short. key is the certificate's
// own, or the one with inherited parameters.
func (r *Rules) CheckKey(cert *certinfo.Certificate, key any) *refusal.Error {
	if cert.PublicKeyErr != nil {
		return refusal.New(cert, refusal.ReasonKeyUnsupported, "%v", cert.PublicKeyErr)
	}

	bits := 0
	switch k := key.(type) {
	case *rsa.PublicKey:
		bits = k.N.BitLen()
	case *certinfo.PSSPublicKey:
		bits = k.Key.N.BitLen()
	case *dsa.PublicKey:
		if k.P == nil {
			return nil // parameters of the issuer; checked where they are known
		}
		bits = k.P.BitLen()
	// min_rsa_bits is about RSA and DSA; the other keys lie on named curves.
	default:
		return nil
	}

	if bits < r.MinRSABits {
		return refusal.New(cert, refusal.ReasonWeakKey, "key of %d bits, shorter than %d (min_rsa_bits)", bits, r.MinRSABits)
	}
	return nil
}

// CheckScheme refuses weak and unknown signature algorithms.
func (r *Rules) CheckScheme(cert *certinfo.Certificate, algorithm certinfo.AlgorithmIdentifier) (certinfo.SignatureScheme, *refusal.Error) {
	scheme, err := algorithm.Scheme()
	if err != nil {
		return scheme, refusal.New(cert, refusal.ReasonKeyUnsupported, "%v", err)
	}

	switch {
	case scheme.Hash == crypto.SHA1 && r.AllowSHA1:
	case scheme.Hash == crypto.SHA1:
		return scheme, refusal.New(cert, refusal.ReasonWeakSignature, "signed with SHA-1 (allow_sha1 = true accepts it)")
	case sig.WeakHash(scheme.Hash):
		return scheme, refusal.New(cert, refusal.ReasonWeakSignature, "signed with %v", scheme.Hash)
	// Scheme leaves the hash out for MD2, which the standard library does not have.
	case scheme.Kind == certinfo.SchemeRSAPKCS1v15 && scheme.Hash == 0:
		return scheme, refusal.New(cert, refusal.ReasonWeakSignature, "signed with MD2")
	}
	return scheme, nil
}
