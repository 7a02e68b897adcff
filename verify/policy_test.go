package verify_test

import (
	"fmt"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/path"
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
	for i := range path.MaxPathCerts - 2 {
		ca = ca.Intermediate(fmt.Sprint("CA ", i), testca.Policies(false, policies...), testca.PolicyMappings(pairs...))
		card = append(card, parsed(t, &ca.Cert))
	}
	start := time.Now()
	v := trusting(t, verify.Options{RequiredPolicies: oids(t, "1.2.3")}, &root.Cert)
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
	_, err := trusting(t, verify.Options{}, &root.Cert).Check(t.Context(), parsed(t, ca.Leaf("Alice")), card)
	if verify.ReasonOf(err) != verify.ReasonWork {
		t.Errorf("got %v", err)
	}
}
