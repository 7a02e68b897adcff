package verify_test

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

func parsed(t testing.TB, c *testca.Cert) *certinfo.Certificate {
	t.Helper()
	cert, err := certinfo.Parse(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// parsedAll is parsed for several.
func parsedAll(t testing.TB, certs ...*testca.Cert) []*certinfo.Certificate {
	t.Helper()
	var all []*certinfo.Certificate
	for _, c := range certs {
		all = append(all, parsed(t, c))
	}
	return all
}

// trusting makes a verifier with `ca` and these certificates in its ca_dir.
func trusting(t testing.TB, o verify.Options, certs ...*testca.Cert) *verify.Verifier {
	t.Helper()
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	v.Options().Policy.CA = true
	v.Options().CADir = "/ca"
	for _, c := range certs {
		v.CAs().Add(parsed(t, c))
	}
	return v
}

// world is what most tests look at: a CA, one below it, and a certificate.
type world struct {
	root, inter *testca.CA
	leaf        *testca.Cert
}

func newWorld(leaf ...testca.Option) world {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	return world{root, inter, inter.Leaf("Alice", leaf...)}
}

// judge checks leaf with the root in ca_dir and the intermediate on the card.
func (w world) judge(t testing.TB, o verify.Options) (*verify.Result, error) {
	t.Helper()
	return trusting(t, o, &w.root.Cert).Check(t.Context(), parsed(t, w.leaf), []*certinfo.Certificate{parsed(t, &w.inter.Cert)})
}

func oids(t testing.TB, dotted ...string) []asn1.ObjectIdentifier {
	t.Helper()
	var list []asn1.ObjectIdentifier
	for _, d := range dotted {
		o, err := certinfo.ParseOID(d)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

func TestLeaf(t *testing.T) {
	hour, now := time.Hour, time.Now()
	sha1 := testca.SignedWith(testca.Scheme{Hash: crypto.SHA1})
	smartcard := verify.EKU{Required: oids(t, testca.SmartcardLogon)}
	tests := []struct {
		name string
		leaf []testca.Option
		o    verify.Options
		want verify.Reason // "" for a good one
	}{
		{"good", nil, verify.Options{}, ""},
		{"no extensions", []testca.Option{testca.Without("2.5.29.15"), testca.Without("2.5.29.37")}, verify.Options{}, ""},
		{"expired", []testca.Option{testca.Expired()}, verify.Options{}, verify.ReasonExpired},
		{"expired within the skew", []testca.Option{testca.Expired()}, verify.Options{ClockSkew: 2 * hour}, ""},
		{"not yet valid", []testca.Option{testca.Validity(now.Add(hour), now.Add(2*hour))}, verify.Options{}, verify.ReasonNotYetValid},
		{"not yet valid within the skew", []testca.Option{testca.Validity(now.Add(hour), now.Add(2*hour))}, verify.Options{ClockSkew: 2 * hour}, ""},
		{"valid to the year 9999", []testca.Option{testca.Validity(now.Add(-hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))}, verify.Options{}, ""},
		{"key usage nonRepudiation only", []testca.Option{testca.KeyUsage(true, testca.NonRepudiation)}, verify.Options{}, ""},
		{"key usage keyEncipherment only", []testca.Option{testca.KeyUsage(true, testca.KeyEncipherment)}, verify.Options{}, verify.ReasonKeyUsage},
		{"key usage empty", []testca.Option{testca.KeyUsage(true, 0)}, verify.Options{}, verify.ReasonKeyUsage},
		{"clientAuth only", []testca.Option{testca.ExtKeyUsage(false, testca.ClientAuth)}, verify.Options{}, ""},
		{"smartcardLogon only", []testca.Option{testca.ExtKeyUsage(true, testca.SmartcardLogon)}, verify.Options{}, ""},
		{"any purpose", []testca.Option{testca.ExtKeyUsage(false, testca.AnyExtKeyUsage)}, verify.Options{}, ""},
		{"TLS server", []testca.Option{testca.ExtKeyUsage(false, testca.ServerAuth)}, verify.Options{}, verify.ReasonEKU},
		{"TLS server with eku = ignore", []testca.Option{testca.ExtKeyUsage(false, testca.ServerAuth)}, verify.Options{EKU: verify.EKU{Ignore: true}}, ""},
		{"required purpose is there", nil, verify.Options{EKU: smartcard}, ""},
		{"required purpose is missing", []testca.Option{testca.ExtKeyUsage(false, testca.ClientAuth)}, verify.Options{EKU: smartcard}, verify.ReasonEKU},
		{"required purpose, any is not enough", []testca.Option{testca.ExtKeyUsage(false, testca.AnyExtKeyUsage)}, verify.Options{EKU: smartcard}, verify.ReasonEKU},
		{"required purpose, no extension", []testca.Option{testca.Without("2.5.29.37")}, verify.Options{EKU: smartcard}, verify.ReasonEKU},
		{"unknown critical extension", []testca.Option{testca.WithExtension("1.2.3.4", true, []byte{5, 0})}, verify.Options{}, verify.ReasonCriticalExtension},
		{"unknown extension", []testca.Option{testca.WithExtension("1.2.3.4", false, []byte{5, 0})}, verify.Options{}, ""},
		{"bad signature", []testca.Option{testca.BadSignature()}, verify.Options{}, verify.ReasonBadSignature},
		{"SHA-1", []testca.Option{sha1}, verify.Options{}, verify.ReasonWeakSignature},
		{"SHA-1 with allow_sha1", []testca.Option{sha1}, verify.Options{AllowSHA1: true}, ""},
		{"RSA 1024", []testca.Option{testca.WithKey(testca.RSA(1024, "leaf"))}, verify.Options{}, verify.ReasonWeakKey},
		{"RSA 1024 with min_rsa_bits", []testca.Option{testca.WithKey(testca.RSA(1024, "leaf"))}, verify.Options{MinRSABits: 1024}, ""},
		{"RSA 512 with min_rsa_bits 512", []testca.Option{testca.WithKey(testca.RSA(512, "leaf"))}, verify.Options{MinRSABits: 512}, verify.ReasonWeakKey},
		{"secp256k1", []testca.Option{testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:secp256k1"))}, verify.Options{}, verify.ReasonKeyUnsupported},
		{"CA certificate as leaf", []testca.Option{testca.BasicConstraints(true, true, 0)}, verify.Options{}, ""},
		{"version 1", []testca.Option{testca.Version(1)}, verify.Options{}, ""},
		{"empty subject", []testca.Option{testca.Subject(), testca.CriticalSAN(testca.UPN("a@b"))}, verify.Options{}, ""},
		{"other issuer name", []testca.Option{testca.RawIssuer(testca.DN("CN=Other"))}, verify.Options{}, verify.ReasonIssuerUnknown},
		{"empty issuer name", []testca.Option{testca.RawIssuer(testca.DN())}, verify.Options{}, verify.ReasonIssuerUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, err := newWorld(tt.leaf...).judge(t, tt.o)
			if got := verify.ReasonOf(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			if err == nil && (!result.Anchored || len(result.Chain) != 3) || len(result.Decisions) == 0 {
				t.Errorf("result %+v", result)
			}
		})
	}
}

func TestIssuers(t *testing.T) {
	restricted := testca.ExtKeyUsage(false, testca.EmailProtect)
	tests := []struct {
		name        string
		root, inter []testca.Option
		o           verify.Options
		want        verify.Reason
	}{
		{
			name: "intermediate expired", inter: []testca.Option{testca.Expired()},
			o: verify.Options{}, want: verify.ReasonExpired,
		},
		{
			name: "root expired", root: []testca.Option{testca.Expired()}, o: verify.Options{},
			want: verify.ReasonExpired,
		},
		{
			name:  "intermediate is no CA",
			inter: []testca.Option{testca.BasicConstraints(true, false, -1)}, o: verify.Options{},
			want: verify.ReasonNotCA,
		},
		{
			name:  "intermediate without basic constraints",
			inter: []testca.Option{testca.Without("2.5.29.19")}, o: verify.Options{},
			want: verify.ReasonNotCA,
		},
		{
			name: "intermediate of version 1", inter: []testca.Option{testca.Version(1)},
			o: verify.Options{}, want: verify.ReasonNotCA,
		},
		{
			name: "root of version 1", root: []testca.Option{testca.Version(1)},
			o: verify.Options{}, want: verify.ReasonNotCA,
		},
		{name: "root of version 1, v1_anchors", root: []testca.Option{testca.Version(1)}, o: verify.Options{V1Anchors: true}},
		{
			name: "root without basic constraints",
			root: []testca.Option{testca.Without("2.5.29.19")}, o: verify.Options{},
			want: verify.ReasonNotCA,
		},
		{
			name:  "intermediate without keyCertSign",
			inter: []testca.Option{testca.KeyUsage(true, testca.DigitalSignature)},
			o:     verify.Options{}, want: verify.ReasonKeyUsage,
		},
		{
			name: "root without keyCertSign",
			root: []testca.Option{testca.KeyUsage(true, testca.CRLSign)}, o: verify.Options{},
			want: verify.ReasonKeyUsage,
		},
		{
			name: "no key usage at all", root: []testca.Option{testca.Without("2.5.29.15")},
			inter: []testca.Option{testca.Without("2.5.29.15")}, o: verify.Options{},
		},
		{
			name: "path length of the root 0",
			root: []testca.Option{testca.BasicConstraints(true, true, 0)}, o: verify.Options{},
			want: verify.ReasonPathLen,
		},
		{name: "path length of the root 1", root: []testca.Option{testca.BasicConstraints(true, true, 1)}, o: verify.Options{}},
		{name: "path length of the intermediate 0", inter: []testca.Option{testca.BasicConstraints(true, true, 0)}, o: verify.Options{}},
		{
			name: "intermediate for other purposes", inter: []testca.Option{restricted},
			o: verify.Options{}, want: verify.ReasonEKU,
		},
		{name: "intermediate for other purposes with eku = ignore", inter: []testca.Option{restricted}, o: verify.Options{EKU: verify.EKU{Ignore: true}}},
		{
			name:  "intermediate critical unknown",
			inter: []testca.Option{testca.WithExtension("1.2.3", true, []byte{5, 0})},
			o:     verify.Options{}, want: verify.ReasonCriticalExtension,
		},
		{
			name: "root critical unknown",
			root: []testca.Option{testca.WithExtension("1.2.3", true, []byte{5, 0})},
			o:    verify.Options{}, want: verify.ReasonCriticalExtension,
		},
		{
			name:  "intermediate RSA 1024",
			inter: []testca.Option{testca.WithKey(testca.RSA(1024, "inter"))}, o: verify.Options{},
			want: verify.ReasonWeakKey,
		},
		{
			name:  "intermediate SHA-1",
			inter: []testca.Option{testca.SignedWith(testca.Scheme{Hash: crypto.SHA1})},
			o:     verify.Options{}, want: verify.ReasonWeakSignature,
		},
		{name: "root SHA-1", root: []testca.Option{testca.SignedWith(testca.Scheme{Hash: crypto.SHA1})}, o: verify.Options{}},
		{name: "critical directory name constraint", inter: []testca.Option{testca.NameConstraints([][]byte{testca.Directory(testca.DN("C=IT", "O=example"))}, nil)}, o: verify.Options{}},
		{
			name: "name constraint of the root",
			root: []testca.Option{testca.NameConstraints(nil, [][]byte{testca.Directory(testca.DN("C=IT"))})},
			o:    verify.Options{}, want: verify.ReasonNameConstraint,
		},
		{
			name:  "explicit policy asked for by a CA",
			inter: []testca.Option{testca.PolicyConstraints(0, -1)}, o: verify.Options{},
			want: verify.ReasonPolicy,
		},
		{name: "required policy is missing", o: verify.Options{RequiredPolicies: oids(t, "1.2.3")}, want: verify.ReasonPolicy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testca.NewRoot("Root", tt.root...)
			inter := root.Intermediate("Inter", tt.inter...)
			_, err := world{root, inter, inter.Leaf("Alice")}.judge(t, tt.o)
			if got := verify.ReasonOf(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestMD5: older hashes are refused by name, whatever the options.
func TestMD5(t *testing.T) {
	root := testca.NewRoot("Root", testca.WithKey(testca.RSA(2048, "md5 root")))
	leaf := root.Leaf("Alice", testca.SignedWith(testca.Scheme{Hash: crypto.MD5}))
	_, err := trusting(t, verify.Options{AllowSHA1: true}, &root.Cert).Check(t.Context(), parsed(t, leaf), nil)
	if verify.ReasonOf(err) != verify.ReasonWeakSignature {
		t.Errorf("got %v", err)
	}
}

func TestRequiredPolicies(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter", testca.Policies(false, "1.2.1", "1.2.2", "1.2.9"), testca.PolicyMappings("1.2.9", "1.3.9"))
	leaf := inter.Leaf("Alice", testca.Policies(false, "1.2.1", "1.2.2", "1.3.9"))
	w := world{root, inter, leaf}
	tests := []struct {
		name string
		ask  []string
		all  bool
		want verify.Reason
	}{
		{"one of one", []string{"1.2.1"}, false, ""},
		{"one of two", []string{"1.2.8", "1.2.2"}, false, ""},
		{"all of two", []string{"1.2.1", "1.2.2"}, true, ""},
		{"all, one missing", []string{"1.2.1", "1.2.8"}, true, verify.ReasonPolicy},
		{"none", []string{"1.2.8"}, false, verify.ReasonPolicy},
		{"mapped, by the name in our domain", []string{"1.2.9"}, false, ""},
		{"mapped, by the name in theirs", []string{"1.3.9"}, false, verify.ReasonPolicy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, err := w.judge(t, verify.Options{RequiredPolicies: oids(t, tt.ask...), RequireAllPolicies: tt.all})
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			if err == nil && len(result.Policies) == 0 {
				t.Error("no policies in the result")
			}
		})
	}
	if result, err := w.judge(t, verify.Options{}); err != nil || len(result.Policies) != 3 {
		t.Errorf("policies without being asked: %v, %v", result.Policies, err)
	}
}

func TestWithoutCA(t *testing.T) {
	v, err := verify.New(verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := v.Check(t.Context(), parsed(t, testca.SelfSigned("Alice")), nil)
	if err != nil || result.Anchored || len(result.Chain) != 1 {
		t.Errorf("got %+v, %v", result, err)
	}
	if _, err := v.Check(t.Context(), parsed(t, testca.SelfSigned("Alice", testca.Expired())), nil); verify.ReasonOf(err) != verify.ReasonExpired {
		t.Errorf("expired: %v", err)
	}
}

func TestNotAvailable(t *testing.T) {
	for _, p := range []verify.Policy{{CA: true, CRL: "auto"}, {OCSP: true}, {CRL: "offline"}} {
		v := trusting(t, verify.Options{})
		v.Options().Policy = p
		_, err := v.Check(t.Context(), parsed(t, testca.SelfSigned("Alice")), nil)
		if verify.ReasonOf(err) != verify.ReasonNotAvailable || !strings.Contains(err.Error(), "not available") {
			t.Errorf("%+v: got %v", p, err)
		}
	}
}

func TestExpiryWarning(t *testing.T) {
	w := newWorld(testca.Validity(time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, 10)))
	for days, want := range map[int]bool{0: false, 9: false, 11: true} {
		result, err := w.judge(t, verify.Options{ExpiryWarningDays: days})
		if err != nil || result.ExpiresSoon != want || result.Expires.IsZero() {
			t.Errorf("%d days: %+v, %v", days, result, err)
		}
	}
}

func TestErrorNamesTheCertificate(t *testing.T) {
	_, err := newWorld(testca.Subject(), testca.Expired()).judge(t, verify.Options{})
	var e *verify.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "CN=Inter") || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
	if verify.ReasonOf(errors.New("x")) != "" || verify.Reason("x").Meaning() != "" || len(verify.Reasons()) != 29 {
		t.Error("reasons")
	}
	for _, r := range verify.Reasons() {
		if r.Meaning() == "" {
			t.Errorf("%s has no meaning", r)
		}
	}
	if _, err := trusting(t, verify.Options{}).Check(t.Context(), nil, nil); verify.ReasonOf(err) != verify.ReasonMalformed {
		t.Errorf("no certificate: %v", err)
	}
}

// TestConcurrentChecks: one verifier serves several goroutines.
func TestConcurrentChecks(t *testing.T) {
	w := newWorld()
	v := trusting(t, verify.Options{}, &w.root.Cert)
	leaf, inter := parsed(t, w.leaf), parsed(t, &w.inter.Cert)
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := v.Check(t.Context(), leaf, []*certinfo.Certificate{inter})
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
