package verify_test

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// spoiltExtensions has a malformed value for each extension that is read.
var spoiltExtensions = []struct {
	name, oid string
	value     []byte
	restricts bool // refuses the certificate when it is not critical too
}{
	{"basicConstraints, cA is 01", "2.5.29.19", []byte{0x30, 3, 1, 1, 1}, true},
	{"basicConstraints, path length negative", "2.5.29.19", []byte{0x30, 3, 2, 1, 0xff}, true},
	{"basicConstraints, trailing", "2.5.29.19", []byte{0x30, 0, 0}, true},
	{"keyUsage", "2.5.29.15", []byte{4, 1, 0x80}, true},
	{"extKeyUsage", "2.5.29.37", []byte{0x30, 0}, true},
	{"nameConstraints", "2.5.29.30", []byte{0x30, 0}, true},
	{"policyConstraints", "2.5.29.36", []byte{0x30, 0}, true},
	{"policyMappings", "2.5.29.33", []byte{0x30, 0}, true},
	{"inhibitAnyPolicy", "2.5.29.54", []byte{5, 0}, true},
	{"certificatePolicies", "2.5.29.32", []byte{0x30, 0}, false},
	{"subjectAltName", "2.5.29.17", []byte{5, 0}, false},
	{"issuerAltName", "2.5.29.18", []byte{5, 0}, false},
	{"subjectKeyIdentifier", "2.5.29.14", []byte{5, 0}, false},
	{"authorityKeyIdentifier", "2.5.29.35", []byte{4, 0}, false},
	{"cRLDistributionPoints", "2.5.29.31", []byte{5, 0}, false},
	{"freshestCRL", "2.5.29.46", []byte{5, 0}, false},
	{"authorityInfoAccess", "1.3.6.1.5.5.7.1.1", []byte{5, 0}, false},
	{"NTDS security", "1.3.6.1.4.1.311.25.2", []byte{5, 0}, false},
}

// TestUnusableExtension: a malformed extension refuses a certificate of any place in the chain when it is critical or
// restricts, and then by its name; else it is tolerated, and said.
func TestUnusableExtension(t *testing.T) {
	for _, tt := range spoiltExtensions {
		name, _, _ := strings.Cut(tt.name, ",")
		for _, critical := range []bool{false, true} {
			spoilt := testca.WithExtension(tt.oid, critical, tt.value)
			for place, options := range map[string][3][]testca.Option{
				"user": {nil, nil, {spoilt}}, "intermediate": {nil, {spoilt}, nil}, "anchor": {{spoilt}, nil, nil},
			} {
				title := tt.name + " of the " + place
				if critical {
					title += ", critical"
				}
				t.Run(title, func(t *testing.T) {
					root := testca.NewRoot("Root", options[0]...)
					inter := root.Intermediate("Inter", options[1]...)
					result, err := world{root, inter, inter.Leaf("Alice", options[2]...)}.judge(t, verify.Options{})

					if tt.restricts || critical {
						if err == nil || !strings.Contains(err.Error(), "extension "+name+" cannot be used") {
							t.Errorf("not refused by its name: %v", err)
						}
						return
					}
					if err != nil {
						t.Fatalf("refused: %v", err)
					}
					if !slices.ContainsFunc(result.Decisions, func(d verify.Decision) bool {
						return d.Reason == verify.ReasonTolerated && strings.Contains(d.Detail, name)
					}) {
						t.Errorf("not said in %+v", result.Decisions)
					}
				})
			}
		}
	}
}

// TestUnusableWithoutChain: the checks of the certificate alone know it too.
func TestUnusableWithoutChain(t *testing.T) {
	leaf := testca.NewRoot("Root").Leaf("Alice", testca.WithExtension("2.5.29.37", false, []byte{0x30, 0}))
	v, err := verify.New(verify.Options{EKU: verify.EKU{Ignore: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Check(t.Context(), parsed(t, leaf), nil); verify.ReasonOf(err) != verify.ReasonMalformed {
		t.Errorf("got %v", err)
	}
}

// TestUnusablePolicies: certificatePolicies that cannot be used matter where a policy is required, by the administrator
// or by a CA above.
func TestUnusablePolicies(t *testing.T) {
	doubled := testca.Policies(false, "1.2.3", "1.2.3")
	qualifier := testca.WithExtension("2.5.29.32", false, testca.Sequence(
		testca.Sequence(testca.OID("1.2.3")),
		testca.Sequence(testca.OID("1.2.4"), testca.Sequence(testca.Sequence(testca.OID("1.3.6.1.5.5.7.2.1"))))))
	good := testca.Policies(false, "1.2.3")
	required := verify.Options{RequiredPolicies: oids(t, "1.2.3")}
	tests := []struct {
		name        string
		inter, leaf []testca.Option
		o           verify.Options
		want        verify.Reason
	}{
		{name: "doubled, none required", leaf: []testca.Option{doubled}, o: verify.Options{}},
		{name: "malformed qualifier, none required", leaf: []testca.Option{qualifier}, o: verify.Options{}},
		{
			name: "good, required", inter: []testca.Option{good}, leaf: []testca.Option{good},
			o: required,
		},
		{
			name: "doubled, required", inter: []testca.Option{good}, leaf: []testca.Option{doubled},
			o: required, want: verify.ReasonMalformed,
		},
		{
			name: "malformed qualifier of another policy, required", inter: []testca.Option{good},
			leaf: []testca.Option{qualifier}, o: required, want: verify.ReasonMalformed,
		},
		{
			name: "of the intermediate, required", inter: []testca.Option{doubled},
			leaf: []testca.Option{good}, o: required, want: verify.ReasonMalformed,
		},
		{
			name:  "doubled, required by the CA",
			inter: []testca.Option{good, testca.PolicyConstraints(0, -1)},
			leaf:  []testca.Option{doubled}, o: verify.Options{}, want: verify.ReasonMalformed,
		},
		{
			name:  "of the intermediate, required by itself",
			inter: []testca.Option{doubled, testca.PolicyConstraints(0, -1)},
			leaf:  []testca.Option{good}, o: verify.Options{}, want: verify.ReasonMalformed,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testca.NewRoot("Root")
			inter := root.Intermediate("Inter", tt.inter...)
			_, err := world{root, inter, inter.Leaf("Alice", tt.leaf...)}.judge(t, tt.o)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "certificatePolicies") {
				t.Errorf("does not name it: %v", err)
			}
		})
	}
}

// TestUnusableNames: names that cannot be read are not within what a CA above permits.
func TestUnusableNames(t *testing.T) {
	spoilt := testca.WithExtension("2.5.29.17", false, testca.Sequence(testca.DNS("a.example"), testca.TLV(0x89)))
	for name, constraints := range map[string]testca.Option{
		"permitted": testca.NameConstraints([][]byte{testca.DNS("example")}, nil),
		"excluded":  testca.NameConstraints(nil, [][]byte{testca.Email("x.example")}),
	} {
		t.Run(name, func(t *testing.T) {
			root := testca.NewRoot("Root", constraints)
			inter := root.Intermediate("Inter")
			_, err := world{root, inter, inter.Leaf("Alice", spoilt)}.judge(t, verify.Options{})
			if verify.ReasonOf(err) != verify.ReasonMalformed || !strings.Contains(err.Error(), "subjectAltName") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestOddCritical: critical that is TRUE otherwise than DER writes it is TRUE.
func TestOddCritical(t *testing.T) {
	for octet, want := range map[byte]verify.Reason{0: "", 1: verify.ReasonCriticalExtension, 0xff: verify.ReasonCriticalExtension} {
		root := testca.NewRoot("Root")
		inter := root.Intermediate("Inter")
		leaf := inter.Leaf("Alice", testca.RawExtensions(testca.Sequence(
			testca.Sequence(testca.OID("1.2.3"), testca.TLV(1, []byte{octet}), testca.TLV(4, []byte{5, 0})))))
		if _, err := (world{root, inter, leaf}).judge(t, verify.Options{}); verify.ReasonOf(err) != want {
			t.Errorf("%02x: %v", octet, err)
		}
	}
}

// TestPathLenBesideEndEntity: a path length beside cA FALSE means nothing in a user's certificate, and makes no CA.
func TestPathLenBesideEndEntity(t *testing.T) {
	odd := testca.BasicConstraints(true, false, 0)
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	if _, err := (world{root, inter, inter.Leaf("Alice", odd)}).judge(t, verify.Options{}); err != nil {
		t.Errorf("user: %v", err)
	}
	inter = root.Intermediate("Inter", odd)
	if _, err := (world{root, inter, inter.Leaf("Alice")}).judge(t, verify.Options{}); verify.ReasonOf(err) != verify.ReasonNotCA {
		t.Errorf("intermediate: %v", err)
	}
	root = testca.NewRoot("Root", odd)
	inter = root.Intermediate("Inter")
	if _, err := (world{root, inter, inter.Leaf("Alice")}).judge(t, verify.Options{V1Anchors: true}); verify.ReasonOf(err) != verify.ReasonNotCA {
		t.Errorf("anchor: %v", err)
	}
}

// FuzzUnusable: whatever stands in an extension, a certificate is good only when all that must be obeyed can be.
func FuzzUnusable(f *testing.F) {
	root := testca.NewRoot("Root")
	for i, s := range spoiltExtensions {
		f.Add(uint8(i), i%2 == 0, s.value)
	}
	v := trusting(f, verify.Options{EKU: verify.EKU{Ignore: true}}, &root.Cert)
	f.Fuzz(func(t *testing.T, which uint8, critical bool, value []byte) {
		s := spoiltExtensions[int(which)%len(spoiltExtensions)]
		cert, err := certinfo.Parse(root.Bare("x", testca.WithKey(root.Key), testca.WithExtension(s.oid, critical, value)).DER)
		if err != nil {
			return
		}
		_, err = v.Check(t.Context(), cert, nil)
		if e := cert.Extensions[0]; e.Unusable != "" && (critical || s.restricts) && err == nil {
			t.Errorf("good with extension %s, which cannot be used: %s", e, e.Unusable)
		}
	})
}
