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
		{"neither key usage nor extended key usage", nil, none, []testca.Option{testca.Without("2.5.29.15"), testca.Without("2.5.29.37")}, verify.Options{}, "", ""},
		{"any purpose", nil, none, []testca.Option{testca.ExtKeyUsage(true, testca.AnyExtKeyUsage)}, verify.Options{}, "", ""},
		{"a CA as user", nil, none, []testca.Option{testca.BasicConstraints(true, true, 0)}, verify.Options{}, "", ""},
		{"key usage without signing", nil, none, []testca.Option{testca.KeyUsage(true, testca.KeyAgreement)}, verify.Options{}, verify.ReasonKeyUsage, "openssl verify is asked for no purpose"},
		{"other purposes", nil, none, []testca.Option{testca.ExtKeyUsage(true, testca.EmailProtect)}, verify.Options{}, verify.ReasonEKU, "openssl verify is asked for no purpose"},
		{"expired a minute ago", nil, none, []testca.Option{testca.Validity(now.Add(-hour), now.Add(-time.Minute))}, verify.Options{}, verify.ReasonExpired, ""},
		{"expired a minute ago, clock_skew", nil, none, []testca.Option{testca.Validity(now.Add(-hour), now.Add(-time.Minute))}, verify.Options{ClockSkew: 2 * time.Minute}, "", "openssl verify has no skew"},
		{"valid in a minute", nil, none, []testca.Option{testca.Validity(now.Add(time.Minute), now.Add(hour))}, verify.Options{}, verify.ReasonNotYetValid, ""},
		{"valid in a minute, clock_skew", nil, none, []testca.Option{testca.Validity(now.Add(time.Minute), now.Add(hour))}, verify.Options{ClockSkew: 2 * time.Minute}, "", "openssl verify has no skew"},
		{"to the last second of 2049", nil, none, []testca.Option{utc("200101000000Z", "491231235959Z")}, verify.Options{}, "", ""},
		{"UTCTime 50 is 1950", nil, none, []testca.Option{utc("491231235959Z", "500101000000Z")}, verify.Options{}, verify.ReasonNotYetValid, ""},
		{"UTCTime 50 in notBefore", nil, none, []testca.Option{utc("500101000000Z", "491231235959Z")}, verify.Options{}, "", ""},
		{"UTCTime without seconds", nil, none, []testca.Option{utc("2001010000Z", "4912312359Z")}, verify.Options{}, verify.ReasonMalformed, ""},
		{"UTCTime with a zone", nil, none, []testca.Option{utc("200101000000+0000", "491231235959+0000")}, verify.Options{}, verify.ReasonMalformed, ""},
		{"February 30", nil, none, []testca.Option{utc("200230000000Z", "491231235959Z")}, verify.Options{}, verify.ReasonMalformed, ""},
		{"notAfter before notBefore", nil, none, []testca.Option{testca.Validity(now.Add(hour), now.Add(-hour))}, verify.Options{}, verify.ReasonNotYetValid, ""},

		{"RSA of 16384 bits", nil, none, []testca.Option{rsaSPKI(16384, 65537)}, verify.Options{}, "", ""},
		{"RSA of 16392 bits", nil, none, []testca.Option{rsaSPKI(16392, 65537)}, verify.Options{}, verify.ReasonKeyUnsupported, noKey},
		{"RSA of 2047 bits", nil, none, []testca.Option{rsaSPKI(2047, 65537)}, verify.Options{}, verify.ReasonWeakKey, "OpenSSL asks for no strength by default"},
		{"RSA of 1023 bits, min_rsa_bits below the lowest", nil, none, []testca.Option{rsaSPKI(1023, 65537)}, verify.Options{MinRSABits: 512}, verify.ReasonWeakKey, "OpenSSL asks for no strength by default"},
		{"RSA exponent 3", nil, none, []testca.Option{rsaSPKI(2048, 3)}, verify.Options{}, "", ""},
		{"RSA exponent 1", nil, none, []testca.Option{rsaSPKI(2048, 1)}, verify.Options{}, verify.ReasonKeyUnsupported, noKey},
		{"RSA exponent 2", nil, none, []testca.Option{rsaSPKI(2048, 2)}, verify.Options{}, verify.ReasonKeyUnsupported, noKey},
		{"point that is not on its curve", nil, none, []testca.Option{testca.WithSPKI(off)}, verify.Options{}, verify.ReasonKeyUnsupported, ""},
		{"point at infinity", nil, none, []testca.Option{testca.WithSPKI(infinity)}, verify.Options{}, verify.ReasonKeyUnsupported, noKey},
		{"RSASSA-PSS with SHA-1", rsaRoot, testca.Scheme{PSS: true, Hash: crypto.SHA1, Salt: 20}, nil, verify.Options{}, verify.ReasonWeakSignature, "OpenSSL asks for no strength by default"},
		{"RSASSA-PSS with SHA-1, allow_sha1", rsaRoot, testca.Scheme{PSS: true, Hash: crypto.SHA1, Salt: 20}, nil, verify.Options{AllowSHA1: true}, "", ""},
		{"RSASSA-PSS without salt", []testca.Option{testca.WithKey(testca.OpenSSL("rsa", "rsa_keygen_bits:2048"))}, testca.Scheme{PSS: true, Hash: crypto.SHA256}, nil, verify.Options{}, "", ""},

		{"serial not minimal", nil, none, []testca.Option{testca.Serial(0, 1)}, verify.Options{}, verify.ReasonMalformed, ""},
		{"serial of 65 octets", nil, none, []testca.Option{testca.Serial(bytes.Repeat([]byte{0x71}, 65)...)}, verify.Options{}, verify.ReasonMalformed, "RFC 5280, 4.1.2.2, has 20 octets; what is longer by far serves nobody"},
		{"boolean that is neither 0 nor 255", nil, none, []testca.Option{testca.WithExtension("2.5.29.19", true, testca.Sequence(testca.TLV(1, []byte{1})))}, verify.Options{}, verify.ReasonMalformed, decoder},
		{"subject of 50 KiB", nil, none, []testca.Option{long(50_000)}, verify.Options{}, "", ""},
		{"subject of 64 KiB", nil, none, []testca.Option{long(66_000)}, verify.Options{}, verify.ReasonMalformed, "a certificate has at most 64 KiB here"},
		{"relative name of two values", nil, none, []testca.Option{testca.RawSubject(testca.Name(testca.RDN(testca.ParseAttribute("CN=Alice"), testca.ParseAttribute("UID=alice"))))}, verify.Options{}, "", ""},
		{"NUL in UPN and mail address", nil, none, []testca.Option{testca.SAN(testca.UPN("admin\x00@x"), testca.Email("admin\x00@x"))}, verify.Options{}, "", ""},
		{"confusable and international names", nil, none, []testca.Option{testca.Subject("CN=аlice"), testca.SAN(testca.UPN("аlice@exämple.com"), testca.DNS("xn--exmple-cua.com"))}, verify.Options{}, "", ""},
		{"several UPNs", nil, none, []testca.Option{testca.SAN(upn, testca.UPN("bob@example.com"), testca.UPN("alice@example.org"))}, verify.Options{}, "", ""},
		{"SIDs that disagree", nil, none, []testca.Option{testca.SID("S-1-5-21-1"), testca.SAN(testca.URI("tag:microsoft.com,2022-09-14:sid:S-1-5-21-2"))}, verify.Options{}, "", ""},
		{"empty SAN", nil, none, []testca.Option{testca.SAN()}, verify.Options{}, "", ""},
		{"policies and a mapping in a user's certificate", nil, none, []testca.Option{testca.Policies(true, "1.2.3"), testca.InhibitAnyPolicy(0)}, verify.Options{}, "", ""},
		{"extension twice", nil, none, []testca.Option{testca.AlsoExtension("2.5.29.37", false, testca.Sequence(testca.OID(testca.ClientAuth)))}, verify.Options{}, verify.ReasonMalformed, ""},
		{"version 2 with extensions", nil, none, []testca.Option{func(t *testca.Template) { t.Version = 2 }}, verify.Options{}, verify.ReasonMalformed, "OpenSSL reads extensions in any version; RFC 5280, 4.1.2.9 has them in version 3 only"},
		{"signature algorithm differs inside", nil, none, []testca.Option{testca.InnerAlgorithm(testca.Sequence(testca.OID("1.2.840.10045.4.3.3")))}, verify.Options{}, verify.ReasonMalformed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.judge)
	}
}
