package verify_test

import (
	"bytes"
	"crypto"
	"math/big"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestOddCertificates has a row for each kind of bad or odd certificate that is decided by
// the certificate itself. Chains (loops, webs, 100 intermediates, path lengths) are build_test.go's, name constraints
// nameconstraints_test.go's, what a mapper reads out of names is certinfo's and package mapper's.
func TestOddCertificates(t *testing.T) {
	hour, now := time.Hour, time.Now()
	upn := testca.UPN("alice@example.com")
	off := testca.P256().SPKI
	off = bytes.Clone(off)
	off[len(off)-1] ^= 1
	infinity := testca.Sequence(testca.Sequence(testca.OID("1.2.840.10045.2.1"), testca.OID("1.2.840.10045.3.1.7")), testca.TLV(3, []byte{0, 0}))
	rsaSPKI := func(bits uint, e int64) testca.Option {
		n := new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), bits-1), 0, 1)
		key := testca.Sequence(testca.Integer(n), testca.Number(e))
		return testca.WithSPKI(testca.Sequence(testca.Sequence(testca.OID("1.2.840.113549.1.1.1"), testca.TLV(5)), testca.TLV(3, []byte{0}, key)))
	}
	utc := func(notBefore, notAfter string) testca.Option {
		return testca.RawValidity(testca.Sequence(testca.TLV(0x17, []byte(notBefore)), testca.TLV(0x17, []byte(notAfter))))
	}
	long := func(n int) testca.Option {
		var rdns [][]byte
		for range n / 1000 {
			rdns = append(rdns, testca.RDN(testca.Attribute("OU", 0x0c, []byte(strings.Repeat("x", 985)))))
		}
		return testca.RawSubject(testca.Name(append(rdns, testca.RDN(testca.ParseAttribute("CN=Alice")))...))
	}
	rsaRoot := []testca.Option{testca.WithKey(testca.RSA(2048, "peculiar"))}
	none := testca.Scheme{}
	decoder := "RFC 5280, 4.1, is DER; OpenSSL's decoder takes any octet but 0 for true"
	noKey := "openssl verify does not look at the key of the last certificate; it has to sign here"
	tests := []peculiar{
		{
			name: "neither key usage nor extended key usage", scheme: none,
			leaf: []testca.Option{testca.Without("2.5.29.15"), testca.Without("2.5.29.37")},
			o:    verify.Options{},
		},
		{
			name: "any purpose", scheme: none,
			leaf: []testca.Option{testca.ExtKeyUsage(true, testca.AnyExtKeyUsage)},
			o:    verify.Options{},
		},
		{
			name: "a CA as user", scheme: none,
			leaf: []testca.Option{testca.BasicConstraints(true, true, 0)}, o: verify.Options{},
		},
		{
			name: "key usage without signing", scheme: none,
			leaf: []testca.Option{testca.KeyUsage(true, testca.KeyAgreement)}, o: verify.Options{},
			want: verify.ReasonKeyUsage, differ: "openssl verify is asked for no purpose",
		},
		{
			name: "other purposes", scheme: none,
			leaf: []testca.Option{testca.ExtKeyUsage(true, testca.EmailProtect)},
			o:    verify.Options{}, want: verify.ReasonEKU,
			differ: "openssl verify is asked for no purpose",
		},
		{
			name: "expired a minute ago", scheme: none,
			leaf: []testca.Option{testca.Validity(now.Add(-hour), now.Add(-time.Minute))},
			o:    verify.Options{}, want: verify.ReasonExpired,
		},
		{
			name: "expired a minute ago, clock_skew", scheme: none,
			leaf: []testca.Option{testca.Validity(now.Add(-hour), now.Add(-time.Minute))},
			o:    verify.Options{ClockSkew: 2 * time.Minute}, differ: "openssl verify has no skew",
		},
		{
			name: "valid in a minute", scheme: none,
			leaf: []testca.Option{testca.Validity(now.Add(time.Minute), now.Add(hour))},
			o:    verify.Options{}, want: verify.ReasonNotYetValid,
		},
		{
			name: "valid in a minute, clock_skew", scheme: none,
			leaf: []testca.Option{testca.Validity(now.Add(time.Minute), now.Add(hour))},
			o:    verify.Options{ClockSkew: 2 * time.Minute}, differ: "openssl verify has no skew",
		},
		{
			name: "to the last second of 2049", scheme: none,
			leaf: []testca.Option{utc("200101000000Z", "491231235959Z")}, o: verify.Options{},
		},
		{
			name: "UTCTime 50 is 1950", scheme: none,
			leaf: []testca.Option{utc("491231235959Z", "500101000000Z")}, o: verify.Options{},
			want: verify.ReasonNotYetValid,
		},
		{
			name: "UTCTime 50 in notBefore", scheme: none,
			leaf: []testca.Option{utc("500101000000Z", "491231235959Z")}, o: verify.Options{},
		},
		{
			name: "UTCTime without seconds", scheme: none,
			leaf: []testca.Option{utc("2001010000Z", "4912312359Z")}, o: verify.Options{},
			want: verify.ReasonMalformed,
		},
		{
			name: "UTCTime with a zone", scheme: none,
			leaf: []testca.Option{utc("200101000000+0000", "491231235959+0000")},
			o:    verify.Options{}, want: verify.ReasonMalformed,
		},
		{
			name: "February 30", scheme: none,
			leaf: []testca.Option{utc("200230000000Z", "491231235959Z")}, o: verify.Options{},
			want: verify.ReasonMalformed,
		},
		{
			name: "notAfter before notBefore", scheme: none,
			leaf: []testca.Option{testca.Validity(now.Add(hour), now.Add(-hour))},
			o:    verify.Options{}, want: verify.ReasonNotYetValid,
		},

		{
			name: "RSA of 16384 bits", scheme: none, leaf: []testca.Option{rsaSPKI(16384, 65537)},
			o: verify.Options{},
		},
		{
			name: "RSA of 16392 bits", scheme: none, leaf: []testca.Option{rsaSPKI(16392, 65537)},
			o: verify.Options{}, want: verify.ReasonKeyUnsupported, differ: noKey,
		},
		{
			name: "RSA of 2047 bits", scheme: none, leaf: []testca.Option{rsaSPKI(2047, 65537)},
			o: verify.Options{}, want: verify.ReasonWeakKey,
			differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "RSA of 1023 bits, min_rsa_bits below the lowest", scheme: none,
			leaf: []testca.Option{rsaSPKI(1023, 65537)}, o: verify.Options{MinRSABits: 512},
			want: verify.ReasonWeakKey, differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "RSA exponent 3", scheme: none, leaf: []testca.Option{rsaSPKI(2048, 3)},
			o: verify.Options{},
		},
		{
			name: "RSA exponent 1", scheme: none, leaf: []testca.Option{rsaSPKI(2048, 1)},
			o: verify.Options{}, want: verify.ReasonKeyUnsupported, differ: noKey,
		},
		{
			name: "RSA exponent 2", scheme: none, leaf: []testca.Option{rsaSPKI(2048, 2)},
			o: verify.Options{}, want: verify.ReasonKeyUnsupported, differ: noKey,
		},
		{
			name: "point that is not on its curve", scheme: none,
			leaf: []testca.Option{testca.WithSPKI(off)}, o: verify.Options{},
			want: verify.ReasonKeyUnsupported,
		},
		{
			name: "point at infinity", scheme: none,
			leaf: []testca.Option{testca.WithSPKI(infinity)}, o: verify.Options{},
			want: verify.ReasonKeyUnsupported, differ: noKey,
		},
		{
			name: "RSASSA-PSS with SHA-1", root: rsaRoot,
			scheme: testca.Scheme{PSS: true, Hash: crypto.SHA1, Salt: 20}, o: verify.Options{},
			want: verify.ReasonWeakSignature, differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "RSASSA-PSS with SHA-1, allow_sha1", root: rsaRoot,
			scheme: testca.Scheme{PSS: true, Hash: crypto.SHA1, Salt: 20},
			o:      verify.Options{AllowSHA1: true},
		},
		{
			name:   "RSASSA-PSS without salt",
			root:   []testca.Option{testca.WithKey(testca.OpenSSL("rsa", "rsa_keygen_bits:2048"))},
			scheme: testca.Scheme{PSS: true, Hash: crypto.SHA256}, o: verify.Options{},
		},

		{
			name: "serial not minimal", scheme: none, leaf: []testca.Option{testca.Serial(0, 1)},
			o: verify.Options{}, want: verify.ReasonMalformed,
		},
		{
			name: "serial of 65 octets", scheme: none,
			leaf: []testca.Option{testca.Serial(bytes.Repeat([]byte{0x71}, 65)...)},
			o:    verify.Options{}, want: verify.ReasonMalformed,
			differ: "RFC 5280, 4.1.2.2, has 20 octets; what is longer by far serves nobody",
		},
		{
			name: "boolean that is neither 0 nor 255", scheme: none,
			leaf: []testca.Option{testca.WithExtension("2.5.29.19", true, testca.Sequence(testca.TLV(1, []byte{1})))},
			o:    verify.Options{}, want: verify.ReasonMalformed, differ: decoder,
		},
		{
			name: "subject of 50 KiB", scheme: none, leaf: []testca.Option{long(50_000)},
			o: verify.Options{},
		},
		{
			name: "subject of 64 KiB", scheme: none, leaf: []testca.Option{long(66_000)},
			o: verify.Options{}, want: verify.ReasonMalformed,
			differ: "a certificate has at most 64 KiB here",
		},
		{
			name: "relative name of two values", scheme: none,
			leaf: []testca.Option{testca.RawSubject(testca.Name(testca.RDN(testca.ParseAttribute("CN=Alice"), testca.ParseAttribute("UID=alice"))))},
			o:    verify.Options{},
		},
		{
			name: "NUL in UPN and mail address", scheme: none,
			leaf: []testca.Option{testca.SAN(testca.UPN("admin\x00@x"), testca.Email("admin\x00@x"))},
			o:    verify.Options{},
		},
		{
			name: "confusable and international names", scheme: none,
			leaf: []testca.Option{testca.Subject("CN=аlice"), testca.SAN(testca.UPN("аlice@exämple.com"), testca.DNS("xn--exmple-cua.com"))},
			o:    verify.Options{},
		},
		{
			name: "several UPNs", scheme: none,
			leaf: []testca.Option{testca.SAN(upn, testca.UPN("bob@example.com"), testca.UPN("alice@example.org"))},
			o:    verify.Options{},
		},
		{
			name: "SIDs that disagree", scheme: none,
			leaf: []testca.Option{testca.SID("S-1-5-21-1"), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:S-1-5-21-2"))},
			o:    verify.Options{},
		},
		{name: "empty SAN", scheme: none, leaf: []testca.Option{testca.SAN()}, o: verify.Options{}},
		{
			name: "policies and a mapping in a user's certificate", scheme: none,
			leaf: []testca.Option{testca.Policies(true, "1.2.3"), testca.InhibitAnyPolicy(0)},
			o:    verify.Options{},
		},
		{
			name: "extension twice", scheme: none,
			leaf: []testca.Option{testca.AlsoExtension("2.5.29.37", false, testca.Sequence(testca.OID(testca.ClientAuth)))},
			o:    verify.Options{}, want: verify.ReasonMalformed,
		},
		{
			name: "version 2 with extensions", scheme: none,
			leaf: []testca.Option{func(t *testca.Template) { t.Version = 2 }}, o: verify.Options{},
			want:   verify.ReasonMalformed,
			differ: "OpenSSL reads extensions in any version; RFC 5280, 4.1.2.9 has them in version 3 only",
		},
		{
			name: "signature algorithm differs inside", scheme: none,
			leaf: []testca.Option{testca.InnerAlgorithm(testca.Sequence(testca.OID("1.2.840.10045.4.3.3")))},
			o:    verify.Options{}, want: verify.ReasonMalformed,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.judge)
	}
}
