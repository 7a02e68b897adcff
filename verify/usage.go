package verify

import (
	"crypto"
	//lint:ignore SA1019 read only: its length is checked
	"crypto/dsa"
	"crypto/rsa"
	"encoding/asn1"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
)

// checkKeyUsage asks for a usage that a login signature is: digitalSignature, or nonRepudiation (contentCommitment),
// which is all that the signature certificates of several national cards have. Without the extension any use is allowed.
func checkKeyUsage(cert *certinfo.Certificate) *Error {
	const wanted = certinfo.KeyUsageDigitalSignature | certinfo.KeyUsageNonRepudiation
	if cert.HasKeyUsage && cert.KeyUsage&wanted == 0 {
		return refuse(cert, ReasonKeyUsage, "keyUsage has neither digitalSignature nor nonRepudiation")
	}
	return nil
}

// checkPurpose applies the key eku to the end-entity certificate.
func checkPurpose(cert *certinfo.Certificate, eku EKU) *Error {
	if eku.Ignore {
		return nil
	}
	for _, oid := range eku.Required {
		if !has(cert.ExtKeyUsage, oid) {
			return refuse(cert, ReasonEKU, "extended key usage lacks %v, which eku requires", oid)
		}
	}
	if len(eku.Required) > 0 || !cert.HasExtKeyUsage {
		return nil
	}
	if hasOneOf(cert.ExtKeyUsage, certinfo.OIDClientAuth, certinfo.OIDSmartcardLogon, certinfo.OIDAnyExtKeyUsage) {
		return nil
	}
	return refuse(cert, ReasonEKU, "extended key usage allows neither clientAuth nor smartcardLogon (eku = ignore accepts it)")
}

// checkIssuerPurpose: a CA whose certificate is limited to purposes cannot issue for others. RFC 5280 leaves this open;
// the CAs that write the extension mean it, and OpenSSL and Windows read it so.
func checkIssuerPurpose(cert *certinfo.Certificate, eku EKU) *Error {
	if eku.Ignore || !cert.HasExtKeyUsage || has(cert.ExtKeyUsage, certinfo.OIDAnyExtKeyUsage) {
		return nil
	}
	for _, oid := range eku.Required {
		if !has(cert.ExtKeyUsage, oid) {
			return refuse(cert, ReasonEKU, "the CA may not issue for %v, which eku requires", oid)
		}
	}
	if len(eku.Required) == 0 && !hasOneOf(cert.ExtKeyUsage, certinfo.OIDClientAuth, certinfo.OIDSmartcardLogon) {
		return refuse(cert, ReasonEKU, "the CA may issue neither for clientAuth nor for smartcardLogon")
	}
	return nil
}

func has(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}

func hasOneOf(list []asn1.ObjectIdentifier, oids ...asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(oids, func(oid asn1.ObjectIdentifier) bool { return has(list, oid) })
}

// checkDates applies the validity period, widened by the clock skew. Both ends belong to it (RFC 5280, 4.1.2.5).
func (v *Verifier) checkDates(cert *certinfo.Certificate, now time.Time) *Error {
	skew := v.options.ClockSkew
	if now.Add(skew).Before(cert.NotBefore) {
		return refuse(cert, ReasonNotYetValid, "not valid before %s", stamp(cert.NotBefore))
	}
	// Dates have whole seconds: the last one is over when the next begins.
	if !now.Add(-skew).Before(cert.NotAfter.Add(time.Second)) {
		return refuse(cert, ReasonExpired, "not valid after %s", stamp(cert.NotAfter))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkKey refuses keys that cannot be used and keys that are too short. key is the certificate's, or the one with
// inherited parameters.
func (v *Verifier) checkKey(cert *certinfo.Certificate, key any) *Error {
	if cert.PublicKeyErr != nil {
		return refuse(cert, ReasonKeyUnsupported, "%v", cert.PublicKeyErr)
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
	default:
		return nil
	}
	if bits < v.options.MinRSABits {
		return refuse(cert, ReasonWeakKey, "key of %d bits, shorter than %d (min_rsa_bits)", bits, v.options.MinRSABits)
	}
	return nil
}

// checkScheme refuses weak and unknown signature algorithms.
func (v *Verifier) checkScheme(cert *certinfo.Certificate, algorithm certinfo.AlgorithmIdentifier) (certinfo.SignatureScheme, *Error) {
	scheme, err := algorithm.Scheme()
	if err != nil {
		return scheme, refuse(cert, ReasonKeyUnsupported, "%v", err)
	}
	switch {
	case scheme.Hash == crypto.SHA1 && v.options.AllowSHA1:
	case scheme.Hash == crypto.SHA1:
		return scheme, refuse(cert, ReasonWeakSignature, "signed with SHA-1 (allow_sha1 = true accepts it)")
	case weakHash(scheme.Hash):
		return scheme, refuse(cert, ReasonWeakSignature, "signed with %v", scheme.Hash)
	case scheme.Kind == certinfo.SchemeRSAPKCS1v15 && scheme.Hash == 0:
		return scheme, refuse(cert, ReasonWeakSignature, "signed with MD2")
	}
	return scheme, nil
}
