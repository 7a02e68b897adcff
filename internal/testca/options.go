package testca

import (
	"slices"
	"time"
)

// Key usages (RFC 5280, 4.2.1.3).
const (
	DigitalSignature uint32 = 1 << iota
	NonRepudiation
	KeyEncipherment
	DataEncipherment
	KeyAgreement
	KeyCertSign
	CRLSign
)

// Extended key usages and the special policy.
const (
	AnyExtKeyUsage = "2.5.29.37.0"
	ServerAuth     = "1.3.6.1.5.5.7.3.1"
	ClientAuth     = "1.3.6.1.5.5.7.3.2"
	EmailProtect   = "1.3.6.1.5.5.7.3.4"
	OCSPSigning    = "1.3.6.1.5.5.7.3.9"
	SmartcardLogon = "1.3.6.1.4.1.311.20.2.2"
	AnyPolicy      = "2.5.29.32.0"
)

// WithExtension adds an extension, in place of one with the same identifier.
func WithExtension(oid string, critical bool, value []byte) Option {
	return func(t *Template) {
		Without(oid)(t)
		t.Extensions = append(t.Extensions, Extension{oid, critical, value})
	}
}

// AlsoExtension adds an extension even when there is one with the same identifier.
func AlsoExtension(oid string, critical bool, value []byte) Option {
	return func(t *Template) {
		t.Extensions = append(t.Extensions, Extension{oid, critical, value})
	}
}

// Without removes an extension.
func Without(oid string) Option {
	return func(t *Template) {
		// A clone: DeleteFunc would clear the end of the old list.
		t.Extensions = slices.DeleteFunc(slices.Clone(t.Extensions),
			func(e Extension) bool { return e.OID == oid })
	}
}

// RawExtensions sets the DER of all extensions.
func RawExtensions(der []byte) Option { return func(t *Template) { t.RawExtensions = der } }

// WithKey sets the key.
func WithKey(k *Key) Option { return func(t *Template) { t.Key = k } }

// WithSPKI writes another public key than that of the key.
func WithSPKI(der []byte) Option { return func(t *Template) { t.SPKI = der } }

// Subject sets the subject from attributes as for DN.
func Subject(attributes ...string) Option { return RawSubject(DN(attributes...)) }

// RawSubject sets the subject to the DER of a Name.
func RawSubject(der []byte) Option { return func(t *Template) { t.Subject = der } }

// RawIssuer writes another issuer name than that of the CA.
func RawIssuer(der []byte) Option { return func(t *Template) { t.Issuer = der } }

// Serial sets the content octets of the serial number, as they stand.
func Serial(octets ...byte) Option { return func(t *Template) { t.Serial = octets } }

// Validity sets both dates.
func Validity(from, to time.Time) Option {
	return func(t *Template) {
		t.NotBefore = from
		t.NotAfter = to
	}
}

// RawValidity sets the DER of the Validity.
func RawValidity(der []byte) Option { return func(t *Template) { t.RawValidity = der } }

// Expired makes a certificate that ran out an hour ago.
func Expired() Option {
	return func(t *Template) {
		t.NotBefore = time.Now().AddDate(-1, 0, 0)
		t.NotAfter = time.Now().Add(-time.Hour)
	}
}

// Version sets the version, 1 to 3, and for 1 and 2 takes the extensions away.
func Version(n int) Option {
	return func(t *Template) {
		t.Version = n
		if n < 3 {
			t.Extensions = nil
		}
	}
}

// SignedWith sets how the issuer signs this certificate.
func SignedWith(s Scheme) Option { return func(t *Template) { t.Scheme = &s } }

// InnerAlgorithm writes another signature algorithm inside than outside.
func InnerAlgorithm(der []byte) Option { return func(t *Template) { t.InnerAlgorithm = der } }

// BadSignature changes one bit of the signature.
func BadSignature() Option { return func(t *Template) { t.CorruptSignature = true } }

// BasicConstraints sets the extension; pathLen -1 leaves the field out.
func BasicConstraints(critical, ca bool, pathLen int) Option {
	var parts [][]byte
	// FALSE is the default, and DER leaves defaults out (X.690, 11.5).
	if ca {
		parts = append(parts, TLV(1, []byte{0xff}))
	}
	if pathLen >= 0 {
		parts = append(parts, Number(int64(pathLen)))
	}
	return WithExtension("2.5.29.19", critical, Sequence(parts...))
}

// KeyUsage sets the extension.
func KeyUsage(critical bool, usages uint32) Option {
	return WithExtension("2.5.29.15", critical, TLV(3, bits(usages)))
}

// ExtKeyUsage sets the extension.
func ExtKeyUsage(critical bool, purposes ...string) Option {
	var parts [][]byte
	for _, p := range purposes {
		parts = append(parts, OID(p))
	}
	return WithExtension("2.5.29.37", critical, Sequence(parts...))
}

// SAN sets the subject's alternative names: UPN, Principal, Email, DNS, URI, IP, Directory, Other.
func SAN(names ...[]byte) Option { return WithExtension("2.5.29.17", false, Sequence(names...)) }

// CriticalSAN is SAN with the extension critical.
func CriticalSAN(names ...[]byte) Option {
	return WithExtension("2.5.29.17", true, Sequence(names...))
}

// SID sets the NTDS security extension ([MS-WCCE] 2.2.2.7.7.4).
func SID(sid string) Option {
	return WithExtension("1.3.6.1.4.1.311.25.2", false,
		Sequence(Other("1.3.6.1.4.1.311.25.2.1", TLV(4, []byte(sid)))))
}

// Policies sets certificatePolicies.
func Policies(critical bool, policies ...string) Option {
	var parts [][]byte
	for _, p := range policies {
		parts = append(parts, Sequence(OID(p)))
	}
	return WithExtension("2.5.29.32", critical, Sequence(parts...))
}

// PolicyMappings sets policyMappings from pairs: issuer's policy, subject's policy.
func PolicyMappings(pairs ...string) Option {
	var parts [][]byte
	for i := 0; i+1 < len(pairs); i += 2 {
		parts = append(parts, Sequence(OID(pairs[i]), OID(pairs[i+1])))
	}
	return WithExtension("2.5.29.33", true, Sequence(parts...))
}

// PolicyConstraints sets policyConstraints; -1 leaves a field out.
func PolicyConstraints(requireExplicit, inhibitMapping int) Option {
	var parts [][]byte
	for i, n := range []int{requireExplicit, inhibitMapping} {
		if n >= 0 {
			// Both are INTEGERs with implicit tags; small numbers need one octet.
			parts = append(parts, TLV(0x80+byte(i), []byte{byte(n)}))
		}
	}
	return WithExtension("2.5.29.36", true, Sequence(parts...))
}

// InhibitAnyPolicy sets inhibitAnyPolicy.
func InhibitAnyPolicy(skip int) Option {
	return WithExtension("2.5.29.54", true, Number(int64(skip)))
}

// NameConstraints sets nameConstraints, critical; the bases are general names.
func NameConstraints(permitted, excluded [][]byte) Option {
	var parts [][]byte
	for i, list := range [][][]byte{permitted, excluded} {
		var subtrees [][]byte
		for _, base := range list {
			subtrees = append(subtrees, Sequence(base))
		}
		// A list without bases must be absent, not empty (RFC 5280, 4.2.1.10).
		if len(subtrees) > 0 {
			parts = append(parts, TLV(0xa0+byte(i), subtrees...))
		}
	}
	return WithExtension("2.5.29.30", true, Sequence(parts...))
}

// CRLDistribution sets cRLDistributionPoints with one point for each URL.
func CRLDistribution(urls ...string) Option {
	var points [][]byte
	for _, u := range urls {
		points = append(points, Point(FullName(URI(u)), 0, nil))
	}
	return DistributionPoints(points...)
}

// DistributionPoints sets cRLDistributionPoints from Points.
func DistributionPoints(points ...[]byte) Option {
	return WithExtension("2.5.29.31", false, Sequence(points...))
}

// FreshestCRL sets freshestCRL from Points.
func FreshestCRL(points ...[]byte) Option {
	return WithExtension("2.5.29.46", false, Sequence(points...))
}

// Point returns a DistributionPoint: name from FullName or RelativeName or nil, reasons 0 for none,
// the CRL issuer's general names or none.
func Point(name []byte, reasons uint32, crlIssuer ...[]byte) []byte {
	var parts [][]byte
	if name != nil {
		parts = append(parts, TLV(0xa0, name))
	}
	if reasons != 0 {
		parts = append(parts, TLV(0x81, bits(reasons)))
	}
	if len(crlIssuer) > 0 && crlIssuer[0] != nil {
		parts = append(parts, TLV(0xa2, crlIssuer...))
	}
	return Sequence(parts...)
}

// FullName returns the fullName form of a DistributionPointName.
func FullName(names ...[]byte) []byte { return TLV(0xa0, names...) }

// RelativeName returns the nameRelativeToCRLIssuer form, made of attributes.
func RelativeName(attributes ...[]byte) []byte { return TLV(0xa1, attributes...) }

// InfoAccess sets authorityInfoAccess.
func InfoAccess(ocsp, caIssuers []string) Option {
	var parts [][]byte
	for _, u := range ocsp {
		parts = append(parts, Sequence(OID("1.3.6.1.5.5.7.48.1"), URI(u)))
	}
	for _, u := range caIssuers {
		parts = append(parts, Sequence(OID("1.3.6.1.5.5.7.48.2"), URI(u)))
	}
	return WithExtension("1.3.6.1.5.5.7.1.1", false, Sequence(parts...))
}

// OCSPNoCheck sets id-pkix-ocsp-nocheck.
func OCSPNoCheck() Option { return WithExtension("1.3.6.1.5.5.7.48.1.5", false, TLV(5)) }

// SubjectKeyID sets the subject key identifier.
func SubjectKeyID(octets ...byte) Option {
	return WithExtension("2.5.29.14", false, TLV(4, octets))
}

// AuthorityKeyID sets the authority key identifier.
func AuthorityKeyID(octets ...byte) Option {
	return WithExtension("2.5.29.35", false, Sequence(TLV(0x80, octets)))
}
