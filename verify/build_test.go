package verify_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/path"
)

// TestSameName: several CAs with one subject are all tried (pam_pkcs11 issue #19).
func TestSameName(t *testing.T) {
	var cas []*testca.CA
	var certs []*testca.Cert
	for range 5 {
		ca := testca.NewRoot("Twin")
		cas, certs = append(cas, ca), append(certs, &ca.Cert)
	}
	v := trusting(t, verify.Options{}, certs...)
	for i, ca := range cas {
		result, err := v.Check(t.Context(), parsed(t, ca.Leaf("Alice")), nil)
		if err != nil || !result.Chain[1].Equal(parsed(t, &ca.Cert)) {
			t.Errorf("CA %d: %v", i, err)
		}
	}
	_, err := v.Check(t.Context(), parsed(t, testca.NewRoot("Twin").Leaf("Mallory")), nil)
	if verify.ReasonOf(err) != verify.ReasonBadSignature {
		t.Errorf("a sixth CA of the name: %v", err)
	}
}

// TestKeyIdentifiers: a CA of the same name and another key identifier is not the issuer that is missing.
func TestKeyIdentifiers(t *testing.T) {
	other := testca.NewRoot("Twin", testca.SubjectKeyID(1))
	leaf := testca.NewRoot("Twin", testca.SubjectKeyID(2)).Leaf("Alice", testca.AuthorityKeyID(2))
	_, err := trusting(t, verify.Options{}, &other.Cert).Check(t.Context(), parsed(t, leaf), nil)
	if verify.ReasonOf(err) != verify.ReasonIssuerUnknown {
		t.Errorf("got %v", err)
	}
	// Identifiers are hints: one that does not match does not stop a chain that is good.
	leaf = other.Leaf("Alice", testca.AuthorityKeyID(9))
	if _, err := trusting(t, verify.Options{}, &other.Cert).Check(t.Context(), parsed(t, leaf), nil); err != nil {
		t.Errorf("wrong hint: %v", err)
	}
}

func TestAnchors(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	leaf := inter.Leaf("Alice")
	self := testca.SelfSigned("Alice")
	tests := []struct {
		name    string
		partial bool
		caDir   []*testca.Cert
		card    []*testca.Cert
		leaf    *testca.Cert
		want    verify.Reason
	}{
		{name: "root and intermediate in ca_dir", caDir: []*testca.Cert{&root.Cert, &inter.Cert}, leaf: leaf},
		{
			name: "intermediate on the card", caDir: []*testca.Cert{&root.Cert},
			card: []*testca.Cert{&inter.Cert}, leaf: leaf,
		},
		{
			name: "intermediate nowhere", caDir: []*testca.Cert{&root.Cert}, leaf: leaf,
			want: verify.ReasonIssuerUnknown,
		},
		{
			name: "everything on the card", card: []*testca.Cert{&inter.Cert, &root.Cert},
			leaf: leaf, want: verify.ReasonIssuerUnknown,
		},
		{
			name: "intermediate alone in ca_dir", caDir: []*testca.Cert{&inter.Cert}, leaf: leaf,
			want: verify.ReasonIssuerUnknown,
		},
		{
			name: "intermediate alone with partial_chain", partial: true,
			caDir: []*testca.Cert{&inter.Cert}, leaf: leaf,
		},
		{
			name: "leaf alone in ca_dir", caDir: []*testca.Cert{leaf}, leaf: leaf,
			want: verify.ReasonIssuerUnknown,
		},
		{
			name: "leaf alone with partial_chain", partial: true, caDir: []*testca.Cert{leaf},
			leaf: leaf, want: verify.ReasonIssuerUnknown,
		},
		{name: "self-signed leaf in ca_dir", caDir: []*testca.Cert{self}, leaf: self},
		{
			name: "self-signed leaf nowhere", caDir: []*testca.Cert{&root.Cert}, leaf: self,
			want: verify.ReasonIssuerUnknown,
		},
		{
			name: "self-signed leaf on the card", caDir: []*testca.Cert{&root.Cert},
			card: []*testca.Cert{self}, leaf: self, want: verify.ReasonIssuerUnknown,
		},
		{
			name: "self-signed leaf is no CA", caDir: []*testca.Cert{self},
			leaf: (&testca.CA{Cert: *self}).Leaf("Bob"), want: verify.ReasonNotCA,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var card []*certinfo.Certificate
			for _, c := range tt.card {
				card = append(card, parsed(t, c))
			}
			_, err := trusting(t, verify.Options{PartialChain: tt.partial}, tt.caDir...).Check(t.Context(), parsed(t, tt.leaf), card)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSelfIssuedIsNoAnchor: a new key certified by the old one has the same subject and issuer, and is not self-signed.
func TestSelfIssuedIsNoAnchor(t *testing.T) {
	old := testca.NewRoot("Root")
	rollover := old.Intermediate("Root")
	leaf := rollover.Leaf("Alice")
	if _, err := trusting(t, verify.Options{}, &rollover.Cert).Check(t.Context(), parsed(t, leaf), nil); verify.ReasonOf(err) != verify.ReasonIssuerUnknown {
		t.Errorf("without the old root: %v", err)
	}
	result, err := trusting(t, verify.Options{}, &rollover.Cert, &old.Cert).Check(t.Context(), parsed(t, leaf), nil)
	if err != nil || len(result.Chain) != 3 {
		t.Errorf("with the old root: %v", err)
	}
}

// TestRolloverByIdentifiers: the key identifiers tell a new key certified by the old one from a self-signed one.
func TestRolloverByIdentifiers(t *testing.T) {
	old := testca.NewRoot("Root", testca.SubjectKeyID(1), testca.AuthorityKeyID(1))
	rollover := old.Intermediate("Root", testca.SubjectKeyID(2), testca.AuthorityKeyID(1))
	leaf := parsed(t, rollover.Leaf("Alice"))
	if _, err := trusting(t, verify.Options{}, &rollover.Cert).Check(t.Context(), leaf, nil); verify.ReasonOf(err) != verify.ReasonIssuerUnknown {
		t.Errorf("without the old root: %v", err)
	}
	if _, err := trusting(t, verify.Options{}, &rollover.Cert, &old.Cert).Check(t.Context(), leaf, nil); err != nil {
		t.Errorf("with the old root: %v", err)
	}
}

// TestWeb: n CAs that all certify each other, no way or one way out: the work is bounded.
func TestWeb(t *testing.T) {
	const n = 12
	var cas []*testca.CA
	for i := range n {
		cas = append(cas, testca.NewRoot(fmt.Sprint("Web ", i)))
	}
	var cross []*certinfo.Certificate
	for i, issuer := range cas {
		for j, subject := range cas {
			if i != j && len(cross) < path.MaxFromCard {
				c := issuer.Intermediate(fmt.Sprint("Web ", j), testca.WithKey(subject.Key))
				cross = append(cross, parsed(t, &c.Cert))
			}
		}
	}
	leaf := parsed(t, cas[0].Leaf("Alice"))
	start := time.Now()
	_, err := trusting(t, verify.Options{}, &testca.NewRoot("Elsewhere").Cert).Check(t.Context(), leaf, cross)
	if r := verify.ReasonOf(err); r != verify.ReasonWork && r != verify.ReasonIssuerUnknown {
		t.Errorf("no way out: %v", err)
	}
	if _, err := trusting(t, verify.Options{}, &cas[5].Cert).Check(t.Context(), leaf, cross); err != nil {
		t.Errorf("one way out: %v", err)
	}
	if took := time.Since(start); took > time.Minute { // all paths without the limit of work would take hours
		t.Errorf("took %v", took)
	}
}

// TestLoop: two CAs that certify each other, and a way out of the loop.
func TestLoop(t *testing.T) {
	root, a, b := testca.NewRoot("Root"), testca.NewRoot("A"), testca.NewRoot("B")
	ab, ba := a.Intermediate("B", testca.WithKey(b.Key)), b.Intermediate("A", testca.WithKey(a.Key))
	out := root.Intermediate("B", testca.WithKey(b.Key))
	card := []*certinfo.Certificate{parsed(t, &ab.Cert), parsed(t, &ba.Cert)}
	v := trusting(t, verify.Options{}, &root.Cert)
	if _, err := v.Check(t.Context(), parsed(t, a.Leaf("Alice")), card); verify.ReasonOf(err) != verify.ReasonIssuerUnknown {
		t.Errorf("no way out: %v", err)
	}
	result, err := v.Check(t.Context(), parsed(t, a.Leaf("Alice")), append(card, parsed(t, &out.Cert)))
	if err != nil || len(result.Chain) != 4 {
		t.Errorf("with a way out: %v", err)
	}
}

// TestOtherPathIsTried: of two ways up the one that is not good does not spoil the other.
func TestOtherPathIsTried(t *testing.T) {
	root := testca.NewRoot("Root")
	good := root.Intermediate("Inter")
	for name, bad := range map[string]testca.Option{
		"expired":    testca.Expired(),
		"no CA":      testca.BasicConstraints(true, false, -1),
		"critical":   testca.WithExtension("1.2.3", true, []byte{5, 0}),
		"other name": testca.NameConstraints([][]byte{testca.Directory(testca.DN("CN=x"))}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			twin := root.Intermediate("Inter", testca.WithKey(good.Key), bad)
			for _, card := range [][]*certinfo.Certificate{
				{parsed(t, &twin.Cert), parsed(t, &good.Cert)}, {parsed(t, &good.Cert), parsed(t, &twin.Cert)}} {
				if _, err := trusting(t, verify.Options{}, &root.Cert).Check(t.Context(), parsed(t, good.Leaf("Alice")), card); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestLongChains(t *testing.T) {
	root := testca.NewRoot("Root")
	ca, card := root, []*certinfo.Certificate(nil)
	for i := range 100 {
		ca = ca.Intermediate(fmt.Sprint("CA ", i))
		card = append(card, parsed(t, &ca.Cert))
		want := verify.Reason("")
		if i+3 > path.MaxPathCerts {
			want = verify.ReasonWork
		}
		if i > path.MaxPathCerts && i < 99 {
			continue
		}
		_, err := trusting(t, verify.Options{}, &root.Cert).Check(t.Context(), parsed(t, ca.Leaf("Alice")), card)
		if got := verify.ReasonOf(err); got != want && !(i >= path.MaxFromCard && got == verify.ReasonIssuerUnknown) {
			t.Errorf("%d intermediates: %v", i+1, err)
		}
	}
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld()
	_, err := trusting(t, verify.Options{}, &w.root.Cert).Check(ctx, parsed(t, w.leaf), nil)
	if verify.ReasonOf(err) != verify.ReasonWork {
		t.Errorf("got %v", err)
	}
}
