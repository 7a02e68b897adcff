package verify_test

import (
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestAnchorWithoutBasicConstraints: what in ca_dir does not say that it is an authority issues nothing, unless
// v1_anchors says so for certificates that cannot say it themselves.
func TestAnchorWithoutBasicConstraints(t *testing.T) {
	const basic = "2.5.29.19"
	tests := []struct {
		name   string
		anchor *testca.CA
		v1     bool
		want   verify.Reason
		hint   bool // the refusal names v1_anchors
	}{
		{name: "version 3 with basicConstraints", anchor: testca.NewRoot("Root")},
		{name: "version 1", anchor: testca.NewRoot("Root", testca.Version(1)), want: verify.ReasonNotCA, hint: true},
		{name: "version 2", anchor: testca.NewRoot("Root", testca.Version(2)), want: verify.ReasonNotCA, hint: true},
		{name: "version 3 with keyCertSign alone", anchor: testca.NewRoot("Root", testca.Without(basic)), want: verify.ReasonNotCA, hint: true},
		{name: "version 3 without any extension", anchor: testca.NewRoot("Root", testca.Without(basic), testca.Without("2.5.29.15")),
			want: verify.ReasonNotCA},
		{name: "cA is false", anchor: testca.NewRoot("Root", testca.BasicConstraints(true, false, -1)), want: verify.ReasonNotCA},
		{name: "cA is false, v1_anchors", anchor: testca.NewRoot("Root", testca.BasicConstraints(true, false, -1)), v1: true,
			want: verify.ReasonNotCA},
		{name: "version 1, v1_anchors", anchor: testca.NewRoot("Root", testca.Version(1)), v1: true},
		{name: "version 2, v1_anchors", anchor: testca.NewRoot("Root", testca.Version(2)), v1: true},
		{name: "version 3 with keyCertSign alone, v1_anchors", anchor: testca.NewRoot("Root", testca.Without(basic)), v1: true},
		{name: "a card's version 3 certificate, v1_anchors", v1: true, want: verify.ReasonNotCA,
			anchor: &testca.CA{Cert: *testca.SelfSigned("Alice")}},
		{name: "version 3 without any extension, v1_anchors", v1: true, want: verify.ReasonNotCA,
			anchor: testca.NewRoot("Root", testca.Without(basic), testca.Without("2.5.29.15"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := trusting(t, verify.Options{V1Anchors: tt.v1}, &tt.anchor.Cert)

			_, err := v.Check(t.Context(), parsed(t, tt.anchor.Leaf("Bob")), nil)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("what it issued: %v, want %q", err, tt.want)
			}
			refusal, _ := err.(*verify.Error)
			if got := refusal != nil && refusal.Restore == "v1_anchors = true" && strings.Contains(err.Error(), "v1_anchors"); got != tt.hint {
				t.Errorf("names v1_anchors: %v, want %v: %v", got, tt.hint, err)
			}
		})
	}
}

// TestCardCertificateAsAnchor: a self-signed certificate of ca_dir that is no CA logs its own card in, and vouches for
// nothing else: no certificate, no authority below it, and no list.
func TestCardCertificateAsAnchor(t *testing.T) {
	for name, alice := range map[string]*testca.Cert{
		"version 1": testca.SelfSigned("Alice", testca.Version(1)),
		"version 3": testca.SelfSigned("Alice"),
	} {
		t.Run(name, func(t *testing.T) {
			v := trusting(t, verify.Options{}, alice)
			if _, err := v.Check(t.Context(), parsed(t, alice), nil); err != nil {
				t.Errorf("itself: %v", err)
			}

			card := &testca.CA{Cert: *alice}
			below := card.Intermediate("Below")
			if _, err := v.Check(t.Context(), parsed(t, below.Leaf("Root")), parsedAll(t, &below.Cert)); verify.ReasonOf(err) != verify.ReasonNotCA {
				t.Errorf("an authority below it: %v", err)
			}
		})
	}
}

// TestV1AnchorsAreNamed: `pam-pkcs11 config check` names each file whose certificate lost, or keeps only by v1_anchors,
// its authority.
func TestV1AnchorsAreNamed(t *testing.T) {
	dir := privateDir(t)
	write(t, filepath.Join(dir, "old.pem"), testca.NewRoot("Old Root", testca.Version(1)).PEM(), 0o644)
	write(t, filepath.Join(dir, "card.pem"), testca.SelfSigned("Alice", testca.Version(1)).PEM(), 0o644)
	write(t, filepath.Join(dir, "new.pem"), testca.NewRoot("New Root").PEM(), 0o644)
	write(t, filepath.Join(dir, "v3card.pem"), testca.SelfSigned("Zoe").PEM(), 0o644)

	for _, allowed := range []bool{false, true} {
		v, err := verify.New(verify.Options{CADir: dir, Policy: verify.Policy{CA: true}, V1Anchors: allowed})
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]verify.Finding{}
		for _, f := range v.Findings() {
			named[filepath.Base(f.Path)] = f
		}
		if len(named) != 2 {
			t.Errorf("v1_anchors %v: %d files are named: %v", allowed, len(named), named)
		}
		for _, file := range []string{"old.pem", "card.pem"} {
			f := named[file]
			if (f.Restore == "v1_anchors = true") == allowed || !strings.Contains(f.Text, "CN=") {
				t.Errorf("v1_anchors %v, %s: %+v", allowed, file, f)
			}
		}
	}
}
