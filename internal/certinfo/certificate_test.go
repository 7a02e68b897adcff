package certinfo

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/testca"
)

func mustParse(t *testing.T, c *testca.Cert) *Certificate {
	t.Helper()
	parsed, err := Parse(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestParseReadsEverything(t *testing.T) {
	ca := testca.NewRoot("Root", testca.SubjectKeyID(1, 2, 3))
	leaf := ca.Leaf("Alice",
		testca.Serial(0x01, 0xaf), testca.SubjectKeyID(9), testca.AuthorityKeyID(1, 2, 3),
		testca.Validity(time.Date(1960, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)),
		testca.Policies(false, "1.2.3", testca.AnyPolicy), testca.PolicyMappings("1.2.3", "1.2.4"),
		testca.PolicyConstraints(0, 5), testca.InhibitAnyPolicy(3),
		testca.NameConstraints([][]byte{testca.DNS("example.com"), testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, [][]byte{testca.Email("x")}),
		testca.DistributionPoints(testca.Point(testca.FullName(testca.URI("http://h/a.crl")), 0x6, testca.Directory(testca.DN("CN=I"))),
			testca.Point(testca.RelativeName(testca.ParseAttribute("CN=part 1")), 0, nil)),
		testca.FreshestCRL(testca.Point(testca.FullName(testca.URI("http://h/d.crl")), 0, nil)),
		testca.InfoAccess([]string{"http://ocsp1", "http://ocsp2"}, []string{"http://ca/ca.crt"}))
	c := mustParse(t, leaf)
	check := func(what string, got, want any) {
		t.Helper()
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			t.Errorf("%s: got %s, want %s", what, g, w)
		}
	}
	check("version", c.Version, 3)
	check("serial", c.SerialHex(":"), "01:AF")
	check("subject", c.Subject, "CN=Alice,O=Example,C=IT")
	check("issuer", c.Issuer, "CN=Root,O=Example,C=IT")
	check("notBefore", c.NotBefore, "1960-01-02 03:04:05 +0000 UTC")
	check("notAfter", c.NotAfter, "2050-01-01 00:00:00 +0000 UTC")
	check("key usage", c.KeyUsage, KeyUsageDigitalSignature)
	check("extended key usage", c.ExtKeyUsage, fmt.Sprint([]any{OIDClientAuth, OIDSmartcardLogon}))
	check("key ids", fmt.Sprintf("%x %x", c.SubjectKeyID, c.AuthorityKeyID), "09 010203")
	check("policies", fmt.Sprint(c.Policies[0].OID, c.Policies[1].OID), "1.2.3 2.5.29.32.0")
	check("mappings", fmt.Sprintf("%x", c.PolicyMappings), "[{2a03 2a04}]")
	check("constraints", *c.PolicyConstraints, "{0 5}")
	check("inhibitAnyPolicy", c.InhibitAnyPolicy, 3)
	check("permitted", len(c.NameConstraints.Permitted), 2)
	check("excluded", c.NameConstraints.Excluded[0].Text, "x")
	check("points", len(c.CRLDistributionPoints), 2)
	check("reasons", fmt.Sprintf("%b", c.CRLDistributionPoints[0].Reasons), "110")
	check("CRL issuer", c.CRLDistributionPoints[0].CRLIssuer[0].Name, "CN=I")
	check("relative name", c.CRLDistributionPoints[1].Name.Relative[0].Text, "part 1")
	check("freshest", c.FreshestCRL[0].Name.FullName[0].Text, "http://h/d.crl")
	check("OCSP", c.OCSPServers, "[http://ocsp1 http://ocsp2]")
	check("issuers", c.CAIssuers, "[http://ca/ca.crt]")
	check("fingerprint", len(c.Fingerprint(crypto.SHA256)), 32)
	check("unknown critical", len(c.UnknownCritical()), 0)
	plain := mustParse(t, ca.Leaf("Bob"))
	if std, err := plain.X509(); err != nil || !bytes.Equal(std.RawTBSCertificate, plain.RawTBS) {
		t.Errorf("standard library: %v", err)
	}
}

// TestWhatTheStandardLibraryRefuses: certificates that smart-card PKIs issue and that must be readable.
func TestWhatTheStandardLibraryRefuses(t *testing.T) {
	ca := testca.NewRoot("Root")
	tests := []struct {
		name string
		cert *testca.Cert
		key  string // type of the key, "" for an error with the text in err
		err  string
	}{
		{"brainpoolP256r1", ca.Leaf("a", testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"))), "*certinfo.BrainpoolPublicKey", ""},
		{"brainpoolP512r1", ca.Leaf("a", testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP512r1"))), "*certinfo.BrainpoolPublicKey", ""},
		{"RSASSA-PSS key", ca.Leaf("a", testca.WithKey(testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048"))), "*certinfo.PSSPublicKey", ""},
		{"RSASSA-PSS key with parameters", ca.Leaf("a", testca.WithKey(testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048", "rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32"))), "*certinfo.PSSPublicKey", ""},
		{"Ed448", ca.Leaf("a", testca.WithKey(testca.OpenSSL("ed448"))), "certinfo.Ed448PublicKey", ""},
		{"secp256k1", ca.Leaf("a", testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:secp256k1"))), "", "secp256k1 is not supported"},
		{"compressed point", ca.Leaf("a", testca.WithSPKI(testca.P256().CompressedSPKI())), "", "compressed"},
		{"explicit curve parameters", ca.Leaf("a", testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:P-256", "ec_param_enc:explicit"))), "", "explicit parameters"},
		{"P-224", ca.Leaf("a", testca.WithKey(testca.EC(elliptic.P224()))), "*ecdsa.PublicKey", ""},
		{"unknown key algorithm", ca.Leaf("a", testca.WithSPKI(testca.Sequence(testca.Sequence(testca.OID("1.2.3")), testca.TLV(3, []byte{0, 1})))), "", "1.2.3 is not supported"},
		{"point not on the curve", ca.Leaf("a", testca.WithSPKI(spoilPoint(testca.P256()))), "", "not one of P-256"},
		{"RSA exponent 3", ca.Leaf("a", testca.WithSPKI(rsaSPKI(oddNumber(2048), 3))), "*rsa.PublicKey", ""},
		{"RSA of 16384 bits", ca.Leaf("a", testca.WithSPKI(rsaSPKI(oddNumber(16384), 65537))), "*rsa.PublicKey", ""},
		{"RSA exponent of 33 bits", ca.Leaf("a", testca.WithSPKI(rsaSPKI(oddNumber(2048), 1<<32+1))), "", "31 bits"},
		{"RSA exponent 1", ca.Leaf("a", testca.WithSPKI(rsaSPKI(oddNumber(2048), 1))), "", "exponent"},
		{"RSA modulus even", ca.Leaf("a", testca.WithSPKI(rsaSPKI(new(big.Int).Lsh(big.NewInt(1), 2047), 3))), "", "modulus"},
		{"RSA of 17000 bits", ca.Leaf("a", testca.WithSPKI(rsaSPKI(oddNumber(17000), 65537))), "", "more than 16384"},
		{"negative serial", ca.Leaf("a", testca.Serial(0x80, 1)), "*ecdsa.PublicKey", ""},
		{"serial of 21 octets", ca.Leaf("a", testca.Serial(bytes.Repeat([]byte{0x7f}, 21)...)), "*ecdsa.PublicKey", ""},
		{"serial zero", ca.Leaf("a", testca.Serial(0)), "*ecdsa.PublicKey", ""},
		{"critical SAN with only a UPN", ca.Leaf("a", testca.CriticalSAN(testca.UPN("a@b"))), "*ecdsa.PublicKey", ""},
		{"empty subject", ca.Leaf("a", testca.Subject()), "*ecdsa.PublicKey", ""},
		{"long name", ca.Leaf("a", testca.Subject("CN="+strings.Repeat("x", 60000))), "*ecdsa.PublicKey", ""},
		{"year 9999", ca.Leaf("a", testca.Validity(time.Now(), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))), "*ecdsa.PublicKey", ""},
		{"version 1", ca.Bare("a", testca.Version(1)), "*ecdsa.PublicKey", ""},
		{"extension with a UUID arc", ca.Leaf("a", testca.AlsoExtension("1.2.3.4.5.6.7.8.9", false, []byte{5, 0})), "*ecdsa.PublicKey", ""},
		{"malformed authorityInfoAccess", ca.Leaf("a", testca.WithExtension("1.3.6.1.5.5.7.1.1", false, []byte{1})), "*ecdsa.PublicKey", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, tt.cert)
			if tt.key != "" {
				if got := fmt.Sprintf("%T", c.PublicKey); got != tt.key || c.PublicKeyErr != nil {
					t.Errorf("key is %s, %v", got, c.PublicKeyErr)
				}
				return
			}
			if c.PublicKey != nil || c.PublicKeyErr == nil || !strings.Contains(c.PublicKeyErr.Error(), tt.err) {
				t.Errorf("key %v, error %v", c.PublicKey, c.PublicKeyErr)
			}
		})
	}
}

func spoilPoint(k *testca.Key) []byte {
	spki := bytes.Clone(k.SPKI)
	spki[len(spki)-1] ^= 1
	return spki
}

func oddNumber(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.SetBit(n, 0, 1)
}

func rsaSPKI(n *big.Int, e int64) []byte {
	key := testca.Sequence(testca.Integer(n), testca.Number(e))
	return testca.Sequence(testca.Sequence(testca.OID("1.2.840.113549.1.1.1"), testca.TLV(5)), testca.TLV(3, []byte{0}, key))
}

func TestSerialHex(t *testing.T) {
	ca := testca.NewRoot("Root")
	for want, octets := range map[string][]byte{"0B": {0x0b}, "01:AF": {1, 0xaf}, "80": {0, 0x80}, "-80": {0x80}, "00": {0}} {
		if got := mustParse(t, ca.Leaf("a", testca.Serial(octets...))).SerialHex(":"); got != want {
			t.Errorf("% x: got %s, want %s", octets, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	ca := testca.NewRoot("Root")
	good := ca.Leaf("a").DER
	utc := func(s string) []byte { return testca.TLV(0x17, []byte(s)) }
	ok := testca.Time(time.Now())
	tests := []struct {
		name, err string
		der       []byte
	}{
		{"nothing", "sequence", nil},
		{"trailing octet", "trailing", append(bytes.Clone(good), 0)},
		{"truncated", "sequence", good[:len(good)-1]},
		{"indefinite length", "sequence", append([]byte{0x30, 0x80}, good[4:]...)},
		{"length not minimal", "sequence", append([]byte{0x30, 0x83, 0}, good[2:]...)},
		{"too large", "larger", make([]byte, MaxCertificate+1)},
		{"serial not minimal", "serial", ca.Leaf("a", testca.Serial(0, 1)).DER},
		{"serial of 65 octets", "serial", ca.Leaf("a", testca.Serial(bytes.Repeat([]byte{1}, 65)...)).DER},
		{"inner algorithm differs", "differ", ca.Leaf("a", testca.InnerAlgorithm(testca.Sequence(testca.OID("1.2.840.10045.4.3.3")))).DER},
		{"version 4", "version", ca.Leaf("a", func(t *testca.Template) { t.Version = 4 }).DER},
		{"version 1 with extensions", "version 3", ca.Leaf("a", func(t *testca.Template) { t.Version = 1 }).DER},
		{"time without seconds", "notBefore", ca.Leaf("a", testca.RawValidity(testca.Sequence(utc("2001010000Z"), ok))).DER},
		{"time with an offset", "notAfter", ca.Leaf("a", testca.RawValidity(testca.Sequence(ok, utc("2001010000+0100")))).DER},
		{"thirteenth month", "not a date", ca.Leaf("a", testca.RawValidity(testca.Sequence(ok, utc("201301000000Z")))).DER},
		{"three times", "trailing", ca.Leaf("a", testca.RawValidity(testca.Sequence(ok, ok, ok))).DER},
		{"extension twice", "twice", ca.Leaf("a", testca.AlsoExtension("2.5.29.15", true, []byte{3, 2, 7, 0x80})).DER},
		{"65 attributes in one relative name", "attributes", ca.Leaf("a", testca.RawSubject(testca.Name(testca.RDN(bytes.Repeat(testca.ParseAttribute("CN=a"), 65))))).DER},
		{"129 extensions", "too many", ca.Leaf("a", manyExtensions(129)).DER},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.der)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func manyExtensions(n int) testca.Option {
	return func(t *testca.Template) {
		t.Extensions = nil
		for i := range n {
			t.Extensions = append(t.Extensions, testca.Extension{OID: fmt.Sprintf("1.2.%d", i), Value: []byte{5, 0}})
		}
	}
}

// TestUnusableExtensions: an extension that is malformed is unusable, not the certificate, and never absent: its fields
// are empty or allow nothing.
func TestUnusableExtensions(t *testing.T) {
	ca := testca.NewRoot("Root")
	bare := func(oid string, value ...byte) testca.Option { return testca.WithExtension(oid, false, value) }
	tests := []struct {
		name, oid, why string
		option         testca.Option
	}{
		{"key usage is no bit string", "2.5.29.15", "not a key usage", bare("2.5.29.15", 4, 1, 0)},
		{"key usage of 40 bits", "2.5.29.15", "not a key usage", bare("2.5.29.15", 3, 6, 0, 1, 1, 1, 1, 1)},
		{"octets behind the key usage", "2.5.29.15", "trailing", bare("2.5.29.15", 3, 2, 7, 0x80, 0)},
		{"path length negative", "2.5.29.19", "pathLen", bare("2.5.29.19", 0x30, 6, 1, 1, 0xff, 2, 1, 0xff)},
		{"boolean of 1", "2.5.29.19", "cA", bare("2.5.29.19", 0x30, 3, 1, 1, 1)},
		{"octets behind cA", "2.5.29.19", "trailing", bare("2.5.29.19", 0x30, 5, 1, 1, 0xff, 5, 0)},
		{"extended key usage empty", "2.5.29.37", "purpose", testca.ExtKeyUsage(false)},
		{"extended key usage cut", "2.5.29.37", "purpose", bare("2.5.29.37", 0x30, 5, 6, 1, 0x2a, 6, 2)},
		{"SAN is no sequence", "2.5.29.17", "not a sequence", bare("2.5.29.17", 5, 0)},
		{"SAN with an unknown choice", "2.5.29.17", "no choice has tag", testca.SAN(testca.UPN("a@b"), testca.TLV(0x89, []byte("x")))},
		{"SAN of 1025 names", "2.5.29.17", "1024", testca.SAN(bytes.Repeat(testca.DNS("a"), 1025))},
		{"issuerAltName is no sequence", "2.5.29.18", "not a sequence", bare("2.5.29.18", 5, 0)},
		{"policy twice", "2.5.29.32", "twice", testca.Policies(false, "1.2.3", "1.2.3")},
		{"policy qualifier without a value", "2.5.29.32", "qualifier", bare("2.5.29.32", testca.Sequence(testca.Sequence(
			testca.OID("1.2.3"), testca.Sequence(testca.Sequence(testca.OID("1.3.6.1.5.5.7.2.1")))))...)},
		{"policy qualifiers are no sequence", "2.5.29.32", "malformed policy", bare("2.5.29.32", testca.Sequence(testca.Sequence(
			testca.OID("1.2.3"), testca.TLV(4)))...)},
		{"object identifier with a leading zero", "2.5.29.32", "malformed policy", badOID},
		{"policy mapping of one", "2.5.29.33", "mapping", bare("2.5.29.33", testca.Sequence(testca.Sequence(testca.OID("1.2.3")))...)},
		{"policy constraints empty", "2.5.29.36", "constraint", bare("2.5.29.36", 0x30, 0)},
		{"inhibitAnyPolicy negative", "2.5.29.54", "number", bare("2.5.29.54", 2, 1, 0xff)},
		{"name constraints empty", "2.5.29.30", "malformed", testca.NameConstraints(nil, nil)},
		{"distribution point without a form", "2.5.29.31", "neither", testca.DistributionPoints(testca.Sequence(testca.TLV(0xa0, testca.TLV(0xa5))))},
		{"the second distribution point is malformed", "2.5.29.31", "malformed", testca.DistributionPoints(
			testca.Point(testca.FullName(testca.URI("http://h/")), 0), testca.TLV(5))},
		{"freshest CRL is no sequence", "2.5.29.46", "not a sequence", bare("2.5.29.46", 5, 0)},
		{"subject key identifier is no octet string", "2.5.29.14", "octet string", bare("2.5.29.14", 5, 0)},
		{"authority key identifier is no sequence", "2.5.29.35", "malformed", bare("2.5.29.35", 4, 1, 1)},
		{"authorityInfoAccess is no sequence", "1.3.6.1.5.5.7.1.1", "not a sequence", bare("1.3.6.1.5.5.7.1.1", 5, 0)},
		{"NTDS security is no sequence", "1.3.6.1.4.1.311.25.2", "not a sequence", bare("1.3.6.1.4.1.311.25.2", 5, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, ca.Bare("a", tt.option))
			e := c.Extensions[0]
			if e.String() != tt.oid || !strings.Contains(e.Unusable, tt.why) {
				t.Fatalf("%s is unusable because %q, want %q", e, e.Unusable, tt.why)
			}
			checkWorst(t, c)
			if odd := c.Oddities(); len(odd) != 1 || !strings.Contains(odd[0], e.Name()) || e.Name() == e.String() {
				t.Errorf("oddities %q", odd)
			}
		})
	}
}

// checkWorst checks, for each unusable extension, that no field can be taken for what allows more than a readable one.
func checkWorst(t *testing.T, c *Certificate) {
	t.Helper()
	for _, e := range c.Extensions {
		if e.Unusable == "" {
			continue
		}
		ok := true
		switch e.String() {
		case "2.5.29.15":
			ok = c.HasKeyUsage && c.KeyUsage == 0
		case "2.5.29.37":
			ok = c.HasExtKeyUsage && len(c.ExtKeyUsage) == 0
		case "2.5.29.19":
			ok = !c.BasicConstraintsValid && !c.IsCA && c.MaxPathLen == -1
		case "2.5.29.17":
			ok = len(c.SANs) == 0
		case "2.5.29.30":
			ok = c.NameConstraints == nil
		case "2.5.29.31":
			ok = len(c.CRLDistributionPoints) == 0
		case "2.5.29.46":
			ok = len(c.FreshestCRL) == 0
		case "2.5.29.32":
			ok = c.HasPolicies && len(c.Policies) == 0
		case "2.5.29.33":
			ok = len(c.PolicyMappings) == 0
		case "2.5.29.36":
			ok = c.PolicyConstraints != nil && *c.PolicyConstraints == PolicyConstraints{}
		case "2.5.29.54":
			ok = c.InhibitAnyPolicy == 0
		case "2.5.29.14":
			ok = c.SubjectKeyID == nil
		case "2.5.29.35":
			ok = c.AuthorityKeyID == nil && c.AuthoritySerial == nil && c.AuthorityIssuer == nil
		case "1.3.6.1.5.5.7.1.1":
			ok = len(c.OCSPServers)+len(c.CAIssuers) == 0
		}
		if !ok {
			t.Errorf("extension %s is unusable (%s), and something of it is used: %+v", e, e.Unusable, c)
		}
	}
}

// TestTolerated: what is odd and means one thing only is read, and reported.
func TestTolerated(t *testing.T) {
	ca := testca.NewRoot("Root")
	rsaKey := testca.RSA(2048, "a")
	old := func(parameters ...byte) testca.Option {
		return testca.WithSPKI(testca.Sequence(testca.Sequence(testca.OID("2.5.8.1.1"), parameters), bytes.Clone(rsaBits(t, rsaKey.SPKI))))
	}
	t.Run("critical is 01", func(t *testing.T) {
		c := mustParse(t, ca.Bare("a", oddCritical(1)))
		if e := c.Extensions[0]; !e.Critical || e.Unusable != "" || len(c.UnknownCritical()) != 1 || len(c.Oddities()) != 1 {
			t.Errorf("%+v, oddities %q", e, c.Oddities())
		}
	})
	t.Run("critical is FALSE, written out", func(t *testing.T) {
		c := mustParse(t, ca.Bare("a", oddCritical(0)))
		if e := c.Extensions[0]; e.Critical || len(c.Oddities()) != 0 {
			t.Errorf("%+v, oddities %q", e, c.Oddities())
		}
	})
	t.Run("path length beside cA FALSE", func(t *testing.T) {
		c := mustParse(t, ca.Leaf("a", testca.BasicConstraints(true, false, 0)))
		if !c.BasicConstraintsValid || c.IsCA || c.MaxPathLen != -1 || len(c.Oddities()) != 1 {
			t.Errorf("%v %v %d, oddities %q", c.BasicConstraintsValid, c.IsCA, c.MaxPathLen, c.Oddities())
		}
	})
	for name, option := range map[string]testca.Option{
		"NULL": old(5, 0), "no parameter": old(), "size of the key": old(2, 2, 8, 0),
	} {
		t.Run("RSA under 2.5.8.1.1, "+name, func(t *testing.T) {
			c := mustParse(t, ca.Leaf("a", option))
			if k, ok := c.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() != 2048 {
				t.Errorf("%T, %v", c.PublicKey, c.PublicKeyErr)
			}
		})
	}
}

// rsaBits is the BIT STRING of a SubjectPublicKeyInfo.
func rsaBits(t *testing.T, spki []byte) []byte {
	t.Helper()
	s := cryptobyte.String(spki)
	var seq, bits cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !seq.SkipASN1(asn1.SEQUENCE) || !seq.ReadASN1Element(&bits, asn1.BIT_STRING) {
		t.Fatal("no public key")
	}
	return bits
}

// oddCritical writes one unknown extension whose critical is the octet.
func oddCritical(octet byte) testca.Option {
	return testca.RawExtensions(testca.Sequence(testca.Sequence(testca.OID("1.2.3"), testca.TLV(1, []byte{octet}), testca.TLV(4, []byte{5, 0}))))
}

// TestParsePadded: what a card holds behind the end of a certificate is cut off, and the certificate is the same.
func TestParsePadded(t *testing.T) {
	good := testca.NewRoot("Root").Leaf("a").DER
	for name, padding := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 300), "FF": bytes.Repeat([]byte{0xff}, 7), "a longer certificate's end": good[50:],
	} {
		c, err := ParsePadded(append(bytes.Clone(good), padding...))
		if err != nil || !bytes.Equal(c.Raw, good) || len(c.Oddities()) != min(len(padding), 1) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, der := range map[string][]byte{
		"nothing": nil, "only padding": make([]byte, 300), "cut": good[:len(good)-1],
		"too much behind it": append(bytes.Clone(good), make([]byte, MaxCertificate)...),
	} {
		if c, err := ParsePadded(der); err == nil {
			t.Errorf("%s: read as %v", name, c.Subject)
		}
	}
}

// TestReadOutline: what Parse refuses is read as far as it goes.
func TestReadOutline(t *testing.T) {
	ca := testca.NewRoot("Root")
	good := ca.Leaf("a", testca.Serial(1, 0xaf)).DER
	issuer, subject := "CN=Root,O=Example,C=IT", "CN=a,O=Example,C=IT"
	tests := []struct {
		name string
		der  []byte
		want Outline
	}{
		{"nothing", nil, Outline{}},
		{"no certificate", []byte("-----BEGIN"), Outline{}},
		{"cut at its end", good[:len(good)-1], Outline{subject, issuer, "01:AF"}},
		{"cut behind the serial number", good[:30], Outline{Serial: "01:AF"}},
		{"octets behind it", append(bytes.Clone(good), 0), Outline{subject, issuer, "01:AF"}},
		{"extension twice", ca.Leaf("a", testca.Serial(2), testca.AlsoExtension("2.5.29.15", true, nil)).DER, Outline{subject, issuer, "02"}},
		{"times malformed", ca.Leaf("a", testca.Serial(2), testca.RawValidity(testca.Sequence())).DER, Outline{subject, issuer, "02"}},
		{"subject malformed", ca.Leaf("a", testca.Serial(2), testca.RawSubject(testca.Sequence(testca.TLV(5)))).DER, Outline{"", issuer, "02"}},
		{"serial number malformed", ca.Leaf("a", testca.Serial(0, 1)).DER, Outline{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ReadOutline(tt.der); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// badOID writes a policy whose identifier begins an arc with a zero octet, which is not minimal.
func badOID(t *testca.Template) {
	testca.WithExtension("2.5.29.32", false, testca.Sequence(testca.Sequence(testca.TLV(6, []byte{0x2a, 0x80, 1}))))(t)
}

func TestPublicKeys(t *testing.T) {
	rsaKey := testca.RSA(2048, "a")
	key, err := ParsePublicKey(rsaKey.SPKI)
	if k, ok := key.(*rsa.PublicKey); err != nil || !ok || k.E != 65537 {
		t.Errorf("RSA: %v %v", key, err)
	}
	if _, err := ParsePublicKey(append(bytes.Clone(rsaKey.SPKI), 0)); err == nil {
		t.Error("trailing data")
	}
	pem := testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048", "rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32")
	key, err = ParsePublicKey(pem.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	if p := key.(*PSSPublicKey).Parameters; p == nil || *p != (PSSParameters{crypto.SHA256, crypto.SHA256, 32}) {
		t.Errorf("RSA-PSS parameters: %v", p)
	}
}

func TestSchemes(t *testing.T) {
	tests := []struct {
		name string
		key  *testca.Key
		with testca.Scheme
		want string
	}{
		{"RSA", testca.RSA(2048, "a"), testca.Scheme{}, "RSA-PKCS1v15-SHA-256"},
		{"RSA SHA-1", testca.RSA(2048, "a"), testca.Scheme{Hash: crypto.SHA1}, "RSA-PKCS1v15-SHA-1"},
		{"RSA-PSS", testca.RSA(2048, "a"), testca.Scheme{PSS: true, Salt: 20, Hash: crypto.SHA384}, "RSA-PSS-SHA-384"},
		{"P-384", testca.EC(elliptic.P384()), testca.Scheme{}, "ECDSA-SHA-384"},
		{"Ed25519", testca.Ed25519(), testca.Scheme{}, "Ed25519"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, testca.SelfSigned("x", testca.WithKey(tt.key), testca.SignedWith(tt.with)))
			s, err := c.SignatureAlgorithm.Scheme()
			if err != nil || s.String() != tt.want || s.Kind == SchemeRSAPSS && s.SaltLength != tt.with.Salt {
				t.Errorf("%v %+v, %v", s, s, err)
			}
		})
	}
	if _, err := (AlgorithmIdentifier{OID: OIDCommonName}).Scheme(); err == nil {
		t.Error("unknown algorithm accepted")
	}
	for _, der := range [][]byte{nil, {0x30, 1}, testca.Sequence(testca.TLV(0xa3, testca.Number(2))),
		testca.Sequence(testca.TLV(0xa2, testca.Number(99999))), testca.Sequence(testca.TLV(0xa2, testca.Number(1)), testca.TLV(0xa2, testca.Number(1)))} {
		if _, err := ParsePSSParameters(der); err == nil {
			t.Errorf("% x accepted", der)
		}
	}
}

func FuzzParse(f *testing.F) {
	ca := testca.NewRoot("Root", testca.NameConstraints([][]byte{testca.DNS("a")}, [][]byte{testca.UPN("b")}))
	f.Add(ca.DER)
	f.Add(ca.Leaf("a", testca.SAN(testca.UPN("a@b"), testca.Principal("R", "a"), testca.URI("http://x"), testca.IP(1, 2, 3, 4)),
		testca.SID("S-1-5-21-1"), testca.Policies(false, "1.2"), testca.CRLDistribution("http://x")).DER)
	f.Add(ca.Bare("b", testca.Version(1)).DER)
	f.Add(ca.Leaf("c", testca.WithKey(testca.Ed25519()), testca.SignedWith(testca.Scheme{})).DER)
	f.Add(append(ca.Leaf("d", testca.Policies(false, "1.2.3", "1.2.3")).DER, 0, 0))
	f.Fuzz(func(t *testing.T, der []byte) {
		outline := ReadOutline(der)
		c, err := ParsePadded(der)
		if err != nil {
			return
		}
		if whole, err := Parse(c.Raw); err != nil || !whole.Equal(c) || !bytes.HasPrefix(der, c.Raw) {
			t.Errorf("cut to what does not parse: %v", err)
		}
		if want := (Outline{c.Subject.RFC4514(), c.Issuer.RFC4514(), c.SerialHex(":")}); outline != want {
			t.Errorf("outline %+v, want %+v", outline, want)
		}
		checkWorst(t, c)
		if (c.PublicKey == nil) == (c.PublicKeyErr == nil) {
			t.Error("key and reason must exclude each other")
		}
		for _, texts := range [][]Text{c.CommonNames(), c.UserIDs(), c.Emails(), c.UPNs(), c.KerberosPrincipals(), c.URIs(), c.DNSNames(), c.SIDs()} {
			for _, text := range texts {
				if text.OK && checkText(text.Value) != nil || !text.OK && text.Why == "" {
					t.Errorf("%+v", text)
				}
			}
		}
		for _, n := range c.SANs {
			_ = n.String()
		}
		_ = c.SerialHex(":") + c.Subject.OneLine() + c.Issuer.RFC4514() + c.Subject.Key()
		_, _ = c.SignatureAlgorithm.Scheme()
		c.UnknownCritical()
		c.SelfIssued()
	})
}
