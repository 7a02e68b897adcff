package verify

import (
	"fmt"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// TestHostileMappings: mappings that double the policy tree of RFC 5280 at each CA are no more work than others, because
// the graph of RFC 9618 has one node for each policy and depth.
func TestHostileMappings(t *testing.T) {
	ca := testca.NewRoot("Root")
	root := ca
	var card []*certinfo.Certificate
	policies := []string{"1.2.1", "1.2.2", "1.2.3", "1.2.4"}
	var pairs []string
	for _, from := range policies {
		for _, to := range policies {
			pairs = append(pairs, from, to)
		}
	}
	for i := range maxPathCerts - 2 {
		ca = ca.Intermediate(fmt.Sprint("CA ", i), testca.Policies(false, policies...), testca.PolicyMappings(pairs...))
		card = append(card, parsed(t, &ca.Cert))
	}
	start := time.Now()
	v := trusting(t, Options{RequiredPolicies: oids(t, "1.2.3")}, &root.Cert)
	if _, err := v.Check(t.Context(), parsed(t, ca.Leaf("Alice", testca.Policies(false, "1.2.2"))), card); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Minute { // a number of nodes that doubles at each step would take years
		t.Errorf("took %v", took)
	}
}

// TestManyPolicies: the number of policies of a chain is bounded.
func TestManyPolicies(t *testing.T) {
	var policies []string
	for i := range 500 {
		policies = append(policies, fmt.Sprintf("1.2.%d", i))
	}
	ca := testca.NewRoot("Root")
	root := ca
	var card []*certinfo.Certificate
	for i := range 10 {
		ca = ca.Intermediate(fmt.Sprint("CA ", i), testca.Policies(false, policies...))
		card = append(card, parsed(t, &ca.Cert))
	}
	_, err := trusting(t, Options{}, &root.Cert).Check(t.Context(), parsed(t, ca.Leaf("Alice")), card)
	if ReasonOf(err) != ReasonWork {
		t.Errorf("got %v", err)
	}
}

// FuzzValidate walks paths of certificates whose signatures are taken as good, so that names, policies and constraints
// of any form are reached.
func FuzzValidate(f *testing.F) {
	root := testca.NewRoot("Root", testca.NameConstraints([][]byte{testca.DNS("example.com"), testca.UPN("example.com")}, [][]byte{testca.Email("x")}))
	inter := root.Intermediate("Inter", testca.Policies(false, "1.2.1", testca.AnyPolicy), testca.PolicyMappings("1.2.1", "1.2.2"),
		testca.PolicyConstraints(1, 1), testca.InhibitAnyPolicy(0), testca.NameConstraints(nil, [][]byte{testca.IP(1, 2, 3, 4, 255, 255, 0, 0)}))
	leaf := inter.Leaf("Alice", testca.Policies(false, "1.2.2"), testca.SAN(testca.UPN("a@example.com"), testca.DNS("a.example.com"),
		testca.URI("http://h/"), testca.IP(1, 2, 3, 4), testca.Directory(testca.DN("CN=x"))))
	f.Add(inter.DER, leaf.DER)
	f.Add(leaf.DER, inter.DER)
	anchor := parsed(f, &root.Cert)
	f.Fuzz(func(t *testing.T, interDER, leafDER []byte) {
		inter, err := certinfo.Parse(interDER)
		if err != nil {
			return
		}
		leaf, err := certinfo.Parse(leafDER)
		if err != nil {
			return
		}
		s := newSearch(t.Context(), trusting(t, Options{}), inter.NotBefore, nil)
		s.verified[pair{inter, anchor}], s.verified[pair{leaf, inter}] = nil, nil
		_ = s.validateChain(&path{certs: []*certinfo.Certificate{anchor, inter, leaf}})
		var names nameState
		for _, c := range []*certinfo.Certificate{inter, leaf} {
			_ = names.add(c)
			_ = names.check(c)
		}
	})
}
