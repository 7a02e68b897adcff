package verify_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/internal/refusal"
)

// `openssl verify` beside ours: on every kind of certificate that Go's crypto/x509 refuses and smart-card PKIs issue,
// and on random chains. Each difference is explained here, or it is a bug.

// opensslVerify judges the leaves with one root and the intermediates given, and gives for each what openssl says, ""
// when it is good.
func opensslVerify(t *testing.T, root *testca.Cert, inter []*testca.Cert, leaves ...*testca.Cert) []string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, certs ...*testca.Cert) string {
		var pem []byte
		for _, c := range certs {
			pem = append(pem, c.PEM()...)
		}
		path := filepath.Join(dir, name)
		write(t, path, pem, 0o600)
		return path
	}
	args := []string{"verify", "-no-CApath", "-no-CAstore", "-policy_check", "-policy", testca.AnyPolicy, "-CAfile", file("root.pem", root)}
	if len(inter) > 0 {
		args = append(args, "-untrusted", file("inter.pem", inter...))
	}
	var paths []string
	for i, leaf := range leaves {
		paths = append(paths, file(fmt.Sprintf("leaf-%d.pem", i), leaf))
	}
	cmd := exec.Command("openssl", append(args, paths...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("openssl verify (Debian package openssl): %v", err)
	}
	answers := make([]string, len(leaves))
	for i, path := range paths {
		if !strings.Contains(out.String(), path+": OK") {
			answers[i] = "refused"
			before, _, _ := strings.Cut(out.String(), "error "+path)
			if at := strings.LastIndex(before, "error "); at >= 0 {
				answers[i] = strings.TrimSpace(before[at:])
			}
		}
	}
	return answers
}

// peculiar is a certificate of one root, and what we and openssl verify say of it.
type peculiar struct {
	name   string
	root   []testca.Option
	scheme testca.Scheme // with which the root signs
	leaf   []testca.Option
	o      verify.Options
	want   verify.Reason // ReasonMalformed: it cannot even be read
	differ string        // why openssl verify says the opposite; "" when it does not
}

func (p peculiar) judge(t *testing.T) {
	root := testca.NewRoot("Root", p.root...)
	root.Scheme = p.scheme
	leaf := root.Leaf("Alice", p.leaf...)
	cert, err := certinfo.Parse(leaf.DER)
	switch {
	case err != nil:
		err = refusal.New(nil, verify.ReasonMalformed, "%v", err)
	default:
		_, err = trusting(t, p.o, &root.Cert).Check(t.Context(), cert, nil)
	}
	if verify.ReasonOf(err) != p.want || (err == nil) != (p.want == "") {
		t.Errorf("got %v", err)
	}
	theirs := opensslVerify(t, &root.Cert, nil, leaf)[0]
	if ((err == nil) == (theirs == "")) != (p.differ == "") {
		t.Errorf("ours: %v\nopenssl: %s\nexplained by: %q", err, theirs, p.differ)
	}
}

// TestPeculiarCertificates has a row for each line of what Go's crypto/x509 refuses and real smart-card PKIs use.
func TestPeculiarCertificates(t *testing.T) {
	brainpool := func(bits int) *testca.Key {
		return testca.OpenSSL("ec", fmt.Sprintf("ec_paramgen_curve:brainpoolP%dr1", bits))
	}
	rsaKey := testca.RSA(2048, "peculiar")
	dsaKey := testca.FromParameters(dsaParameters)
	pss := func(hash crypto.Hash, salt int) testca.Scheme {
		return testca.Scheme{PSS: true, Hash: hash, Salt: salt}
	}
	upn := testca.UPN("alice@example.com")
	tests := []peculiar{
		{
			name: "brainpoolP256r1", root: []testca.Option{testca.WithKey(brainpool(256))},
			scheme: testca.Scheme{}, leaf: []testca.Option{testca.WithKey(brainpool(256))},
			o: verify.Options{},
		},
		{
			name:   "brainpoolP384r1",
			root:   []testca.Option{testca.WithKey(brainpool(384)), testca.SignedWith(testca.Scheme{Hash: crypto.SHA384})},
			scheme: testca.Scheme{Hash: crypto.SHA384}, o: verify.Options{},
		},
		{
			name:   "brainpoolP512r1",
			root:   []testca.Option{testca.WithKey(brainpool(512)), testca.SignedWith(testca.Scheme{Hash: crypto.SHA512})},
			scheme: testca.Scheme{Hash: crypto.SHA512}, o: verify.Options{},
		},
		{
			name: "secp256k1", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:secp256k1"))},
			o:    verify.Options{}, want: verify.ReasonKeyUnsupported,
			differ: "no smart-card PKI uses the curve, and no library of ours has it",
		},
		{
			name: "compressed point", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithSPKI(testca.P256().CompressedSPKI())},
			o:    verify.Options{}, want: verify.ReasonKeyUnsupported,
			differ: "RFC 5480 leaves compressed points optional; the reason is said",
		},
		{
			name: "explicit curve parameters", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.OpenSSL("ec", "ec_paramgen_curve:P-256", "ec_param_enc:explicit"))},
			o:    verify.Options{}, want: verify.ReasonKeyUnsupported,
		},
		{
			name: "P-224", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.EC(elliptic.P224()))}, o: verify.Options{},
		},
		{
			name: "RSASSA-PSS key", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048"))},
			o:    verify.Options{},
		},
		{
			name:   "RSASSA-PSS CA key",
			root:   []testca.Option{testca.WithKey(testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048")), testca.SignedWith(pss(crypto.SHA256, 32))},
			scheme: pss(crypto.SHA256, 32), o: verify.Options{},
		},
		{
			name: "RSASSA-PSS salt longer than the hash",
			root: []testca.Option{testca.WithKey(rsaKey)}, scheme: pss(crypto.SHA256, 222),
			o: verify.Options{},
		},
		{
			name: "RSASSA-PSS salt of 20", root: []testca.Option{testca.WithKey(rsaKey)},
			scheme: pss(crypto.SHA512, 20), o: verify.Options{},
		},
		{
			name:   "RSASSA-PSS mask by SHA-1",
			root:   []testca.Option{testca.WithKey(testca.OpenSSL("rsa", "rsa_keygen_bits:2048"))},
			scheme: testca.Scheme{PSS: true, Hash: crypto.SHA256, Salt: 32, MGF: crypto.SHA1},
			o:      verify.Options{},
		},
		{
			name: "Ed448", root: []testca.Option{testca.WithKey(testca.OpenSSL("ed448"))},
			scheme: testca.Scheme{}, leaf: []testca.Option{testca.WithKey(testca.OpenSSL("ed448"))},
			o: verify.Options{},
		},
		{
			name: "Ed25519", root: []testca.Option{testca.WithKey(testca.Ed25519())},
			scheme: testca.Scheme{}, leaf: []testca.Option{testca.WithKey(testca.Ed25519())},
			o: verify.Options{},
		},
		{
			name: "DSA CA", root: []testca.Option{testca.WithKey(dsaKey)}, scheme: testca.Scheme{},
			o: verify.Options{},
		},
		{
			name: "SHA-1", root: []testca.Option{testca.WithKey(rsaKey)},
			scheme: testca.Scheme{Hash: crypto.SHA1}, o: verify.Options{},
			want: verify.ReasonWeakSignature, differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "SHA-1 allowed", root: []testca.Option{testca.WithKey(rsaKey)},
			scheme: testca.Scheme{Hash: crypto.SHA1}, o: verify.Options{AllowSHA1: true},
		},
		{
			name: "MD5", root: []testca.Option{testca.WithKey(rsaKey)},
			scheme: testca.Scheme{Hash: crypto.MD5}, o: verify.Options{AllowSHA1: true},
			want: verify.ReasonWeakSignature, differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "RSA 1024", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.RSA(1024, "p"))}, o: verify.Options{},
			want: verify.ReasonWeakKey, differ: "OpenSSL asks for no strength by default",
		},
		{
			name: "RSA 1024 allowed", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithKey(testca.RSA(1024, "p"))},
			o:    verify.Options{MinRSABits: 1024},
		},
		{
			name: "negative serial", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.Serial(0x80, 1, 2)}, o: verify.Options{},
		},
		{
			name: "serial of 21 octets", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.Serial(bytes.Repeat([]byte{0x71}, 21)...)},
			o:    verify.Options{},
		},
		{
			name: "serial zero", scheme: testca.Scheme{}, leaf: []testca.Option{testca.Serial(0)},
			o: verify.Options{},
		},
		{
			name: "critical SAN with only an otherName", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.CriticalSAN(upn)}, o: verify.Options{},
		},
		{
			name:   "critical directoryName constraint",
			root:   []testca.Option{testca.NameConstraints([][]byte{testca.Directory(testca.DN("C=IT"))}, nil)},
			scheme: testca.Scheme{}, o: verify.Options{},
		},
		{
			name:   "critical directoryName constraint, outside",
			root:   []testca.Option{testca.NameConstraints([][]byte{testca.Directory(testca.DN("C=DE"))}, nil)},
			scheme: testca.Scheme{}, o: verify.Options{}, want: verify.ReasonNameConstraint,
		},
		{
			name:   "UPN constraint",
			root:   []testca.Option{testca.NameConstraints([][]byte{testca.UPN("example.com")}, nil)},
			scheme: testca.Scheme{}, leaf: []testca.Option{testca.SAN(upn)}, o: verify.Options{},
			differ: "OpenSSL knows no constraint of the otherName UPN",
		},
		{
			name:   "UPN constraint, outside",
			root:   []testca.Option{testca.NameConstraints([][]byte{testca.UPN("example.org")}, nil)},
			scheme: testca.Scheme{}, leaf: []testca.Option{testca.SAN(upn)}, o: verify.Options{},
			want: verify.ReasonNameConstraint,
		},
		{
			name: "relative name in a distribution point", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.DistributionPoints(testca.Point(testca.RelativeName(testca.ParseAttribute("CN=1")), 0, nil))},
			o:    verify.Options{},
		},
		{
			name: "non-ASCII rfc822Name", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.SAN(testca.Email("ä@example.com"), upn)},
			o:    verify.Options{},
		},
		{
			name: "malformed URI", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.SAN(testca.URI("http://[x"), upn)}, o: verify.Options{},
		},
		{
			name: "address of 5 octets", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.SAN(testca.IP(1, 2, 3, 4, 5), upn)}, o: verify.Options{},
		},
		{name: "T61, BMP and Universal strings", scheme: testca.Scheme{}, leaf: []testca.Option{testca.RawSubject(testca.Name(
			testca.RDN(testca.Attribute("O", 0x14, []byte("M\xfcller"))), testca.RDN(testca.Attribute("OU", 0x1e, []byte{1, 0x41})),
			testca.RDN(testca.Attribute("CN", 0x1c, []byte{0, 0, 0, 'A'}))))}, o: verify.Options{}},
		{
			name: "NUL in the common name", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.Subject("CN=root\x00.example")}, o: verify.Options{},
		},
		{
			name: "empty subject", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.Subject(), testca.CriticalSAN(upn)}, o: verify.Options{},
		},
		{
			name: "version 1", scheme: testca.Scheme{}, leaf: []testca.Option{testca.Version(1)},
			o: verify.Options{},
		},
		{
			name: "GeneralizedTime before 2050", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.RawValidity(testca.Sequence(testca.Time(time.Now().Add(-time.Hour)), testca.TLV(0x18, []byte("20490101000000Z"))))},
			o:    verify.Options{},
		},
		{
			name: "year 9999", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.Validity(time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))},
			o:    verify.Options{},
		},
		{
			name: "keyUsage nonRepudiation", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.KeyUsage(true, testca.NonRepudiation)},
			o:    verify.Options{},
		},
		{
			name: "critical unknown extension", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithExtension("1.2.3.4", true, []byte{5, 0})},
			o:    verify.Options{}, want: verify.ReasonCriticalExtension,
		},
		{
			name: "critical SID extension", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithExtension("1.3.6.1.4.1.311.25.2", true, testca.Sequence())},
			o:    verify.Options{}, differ: "OpenSSL does not know the extension; it is read here",
		},
		{
			name: "malformed authorityInfoAccess", scheme: testca.Scheme{},
			leaf: []testca.Option{testca.WithExtension("1.3.6.1.5.5.7.1.1", false, []byte{4, 0})},
			o:    verify.Options{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.judge)
	}
}

// dsaParameters are public domain parameters of 2048 bits made for this test: making them anew would take seconds.
const dsaParameters = `-----BEGIN DSA PARAMETERS-----
MIICLAKCAQEAshC+yQFH5DyvKMXk4DI1uGH6j2CZDjOXG6b8DdVODpoy4k/YtXU1
Sk0gykVDuamV2Tj2kO/4JWPuHXHmhkDw9BCiLTbpYw0sqpT/R/0WfHoRsJl3lzzA
dPi9G+k3pYTx214VPDyq/Anaz83BnB3KBApLDir4qF2NYiPJXoTt327mPAtPd7Nq
nruXF0loC/KWuYJknLkA4K8kUIyXZJi+Tlf4O4Xnjl459RIRMt/9zW8sfRTxHvyy
tqglWcZl2PquB/P8zK+noiBQ++5SrK0Tf/x8YAyUikATf8JBR18y4gsFrd8qN9Y4
fHT2QTuAdgMvBpFzJb77V740VpV91z/wwwIhAPf0OaSE6is8/oS6CImRtRR5uw4D
H9RUzJXQ4Mdjxa7BAoIBABcn1TI2KDfRt+pHllbWtKfiqXFRUSMfVhv+x4DY+lJD
87QNDlEtvO15YJW/XXAZBLMKdK+s2pJbLWPZtK0aICe/SCnSt8uDzt8en3VCualo
i4Rlo+NDMjeqfDUcZaFL7NiuNyxh41eLR8gt83b6IcVaN0qDad/DYeXV8FvYdd7a
so8nA7gwjzsLKTmSnEIEoZJUGAscGpFgFSd6lNeXeXmMfVUiO75N0XwFoEc2pE30
CQ+YIh0PIQSopXr+vN07GzjkyYYAA3oh0QxD3+yCo0xN31WF4rxj2WHM3yOZ1lp/
m4Cg/9slpOV/efZtAmKEFiH0HyYHf3R30CCpRetgCBQ=
-----END DSA PARAMETERS-----
`

// change is one random thing done to a certificate. explain says why openssl verify may be of another opinion when we
// give the reason of the row.
type change struct {
	name string
	opt  testca.Option
}

func randomChanges() []change {
	now := time.Now()
	p := func(s ...string) testca.Option { return testca.Policies(true, s...) }
	host := func(s string) [][]byte { return [][]byte{testca.DNS(s)} }
	dir := func(s ...string) [][]byte { return [][]byte{testca.Directory(testca.DN(s...))} }
	return []change{
		{"expired", testca.Expired()},
		{"future", testca.Validity(now.Add(time.Hour), now.Add(2*time.Hour))},
		{"bad signature", testca.BadSignature()},
		{"no key usage", testca.Without("2.5.29.15")},
		{"all key usages", testca.KeyUsage(true, 0x7f)},
		{"not a CA", testca.BasicConstraints(true, false, -1)},
		{"CA", testca.BasicConstraints(false, true, -1)},
		{"path length 0", testca.BasicConstraints(true, true, 0)},
		{"path length 1", testca.BasicConstraints(true, true, 1)},
		{"critical unknown", testca.WithExtension("1.2.3.4", true, []byte{5, 0})},
		{"unknown", testca.WithExtension("1.2.3.5", false, []byte{5, 0})},
		{"malformed SAN", testca.WithExtension("2.5.29.17", false, []byte{0x30, 5})},
		{"other issuer name", testca.RawIssuer(testca.DN("CN=x"))},
		{"subject in other case", testca.Subject("C=IT", "O=EXAMPLE", "CN=other  name")},
		{"policy 1", p("1.2.1")},
		{"policies 1 and 2", p("1.2.1", "1.2.2")},
		{"policy 2", p("1.2.2")},
		{"any policy", p(testca.AnyPolicy)},
		{"mapping 1 to 2", testca.PolicyMappings("1.2.1", "1.2.2")},
		{"mapping from any", testca.PolicyMappings(testca.AnyPolicy, "1.2.2")},
		{"explicit policy 0", testca.PolicyConstraints(0, -1)},
		{"explicit policy 1, no mapping", testca.PolicyConstraints(1, 0)},
		{"inhibit any", testca.InhibitAnyPolicy(0)},
		{"permit the organisation", testca.NameConstraints(dir("C=IT", "O=example"), nil)},
		{"permit another", testca.NameConstraints(dir("C=DE"), nil)},
		{"exclude the country", testca.NameConstraints(nil, dir("C=IT"))},
		{"permit host", testca.NameConstraints(host("example.com"), nil)},
		{"exclude host", testca.NameConstraints(nil, host("example.com"))},
		{"host", testca.SAN(testca.DNS("a.example.com"))},
		{"other host", testca.SAN(testca.DNS("a.example.org"), testca.UPN("a@b"))},
		{"mail", testca.SAN(testca.Email("a@example.com"))},
		{"exclude mail", testca.NameConstraints(nil, [][]byte{testca.Email("example.com")})},
		{"version 1", testca.Version(1)},
		{"SHA-512", testca.SignedWith(testca.Scheme{Hash: crypto.SHA512})},
		{"negative serial", testca.Serial(0xff, 1)},
		{"key ids", func(t *testca.Template) { testca.SubjectKeyID(7)(t); testca.AuthorityKeyID(7)(t) }},
		{"policy twice", p("1.2.1", "1.2.1")},
		{"extension twice", testca.AlsoExtension("2.5.29.15", true, []byte{3, 2, 1, 6})},
	}
}

// leavesOfWorld is how many leaves one openssl process judges.
const leavesOfWorld = 20

// randomWorlds makes chains of three under one root and one intermediate, with up to two changes in each certificate,
// and sometimes flips a bit. It tells what was done to each.
func randomWorlds(r *rand.Rand, changes []change) ([]world, []string) {
	pick := func(who string) (options []testca.Option, done []string) {
		for range max(0, r.IntN(5)-2) {
			c := changes[r.IntN(len(changes))]
			options = append(options, c.opt)
			done = append(done, who+": "+c.name)
		}
		return options, done
	}
	flip := func(who string, victim *testca.Cert) []string {
		if r.IntN(16) != 0 {
			return nil
		}
		victim.DER = bytes.Clone(victim.DER)
		at := r.IntN(len(victim.DER))
		victim.DER[at] ^= 1 << r.IntN(8)
		return []string{fmt.Sprintf("%s: bit in octet %d", who, at)}
	}
	above, done := pick("root")
	root := testca.NewRoot("Root", above...)
	options, more := pick("inter")
	inter := root.Intermediate("Inter", options...)
	done = append(append(done, more...), flip("inter", &inter.Cert)...)
	var worlds []world
	var what []string
	for range leavesOfWorld {
		options, mine := pick("leaf")
		leaf := inter.Leaf("Alice", options...)
		mine = append(mine, flip("leaf", leaf)...)
		worlds = append(worlds, world{root, inter, leaf})
		what = append(what, strings.Join(append(slices.Clone(done), mine...), ", "))
	}
	return worlds, what
}

// TestMutations compares two thousand chains, made in the same way in each run; PAM_PKCS11_MUTATIONS=N makes it N, and
// others in each run.
func TestMutations(t *testing.T) {
	count, seed := 2000, uint64(20)
	if s := os.Getenv("PAM_PKCS11_MUTATIONS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("PAM_PKCS11_MUTATIONS: %v", err)
		}
		count, seed = n, uint64(time.Now().UnixNano())
	}
	r := rand.New(rand.NewPCG(seed, 1))
	changes := randomChanges()
	explained, good := map[string]int{}, 0
	for i := 0; i < count; i += leavesOfWorld {
		worlds, what := randomWorlds(r, changes)
		var leaves []*testca.Cert
		for _, w := range worlds {
			leaves = append(leaves, w.leaf)
		}
		answers := opensslVerify(t, &worlds[0].root.Cert, []*testca.Cert{&worlds[0].inter.Cert}, leaves...)
		for n, w := range worlds {
			err := judgeParsed(t, w)
			if err == nil {
				good++
			}
			if (err == nil) == (answers[n] == "") {
				continue
			}
			if why := explain(err, answers[n], what[n]); why != "" {
				explained[why]++
				continue
			}
			t.Errorf("chain %d of seed %d (%s)\nours:    %v\nopenssl: %s", i+n, seed, what[n], err, answers[n])
		}
	}
	for why, n := range explained {
		t.Logf("%d differences: %s", n, why)
	}
	t.Logf("%d chains, %d of them good", count, good)
	if good == 0 || good == count {
		t.Error("the random chains are all of one kind")
	}
}

// judgeParsed is judge where the certificates may not even parse.
func judgeParsed(t *testing.T, w world) error {
	v := trusting(t, verify.Options{EKU: verify.EKU{Ignore: true}, AllowSHA1: true, MinRSABits: 1024})
	if root, err := certinfo.Parse(w.root.DER); err == nil {
		v.CAs().Add(root)
	}
	var card []*certinfo.Certificate
	if inter, err := certinfo.Parse(w.inter.DER); err == nil {
		card = append(card, inter)
	}
	leaf, err := certinfo.Parse(w.leaf.DER)
	if err != nil {
		return err
	}
	_, err = v.Check(t.Context(), leaf, card)
	return err
}

// explain gives the reason for a difference that is meant to be, "" when there is none.
func explain(err error, theirs, what string) string {
	if err == nil {
		for _, row := range []struct{ theirs, done, why string }{
			{"error", "subject in other case", "two certificates have one name: OpenSSL tries the first issuer only, or none when the leaf has it too"},
			{"error", "malformed SAN", "OpenSSL uses nothing of the certificate; here an alternative name that cannot be read is unusable, and where it is not critical not the certificate"},
		} {
			if strings.Contains(theirs, row.theirs) && strings.Contains(what, row.done) {
				return row.why
			}
		}
		return ""
	}
	for _, row := range []struct{ ours, done, why string }{
		{"mapping from or to anyPolicy", "mapping from any", "OpenSSL looks at mappings only where there are policies; RFC 5280, 6.1.4 (a) forbids it anywhere"},
		{"not version 3", "version 1", "OpenSSL reads extensions in any version; RFC 5280, 4.1.2.9 has them in version 3 only"},
		{"key-usage", "leaf: extension twice", "openssl verify is not asked for a purpose, and so for no key usage"},
		{"issuer-unknown", "inter: version 1", "the same as for extensions below: the certificate on the card cannot be read"},
		{"issuer-unknown", "root: version 1", "the same, for a root, which is then reported and skipped"},
		{"issuer-unknown", "root: bad signature", "OpenSSL takes a root by its name; one whose own signature is wrong is damaged"},
		{"extension certificatePolicies", "root: policy twice", "OpenSSL does not read the policies of a root; here a critical extension that cannot be used refuses any certificate"},
	} {
		if strings.Contains(err.Error(), row.ours) && strings.Contains(what, row.done) {
			return row.why
		}
	}
	return ""
}
