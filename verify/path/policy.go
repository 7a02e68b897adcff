package path

import (
	stdasn1 "encoding/asn1"
	"fmt"
	"slices"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Certificate policies by RFC 5280, 6.1.3 (d) to (f), 6.1.4 (a), (b), (h) to (j) and 6.1.5 (g),
// with the policy graph of RFC 9618 in place of the policy tree, which grows without bound under
// hostile mappings.

// maxPolicyNodes bounds the graph of one path.
const maxPolicyNodes = 4096

// Policies are the user's inputs of RFC 5280, 6.1.1 (c) to (g); the zero value is anyPolicy and no
// inhibition.
type Policies struct {
	Set            []string // content octets; empty: anyPolicy
	all            bool     // each of set must be valid, not one
	Explicit       bool
	InhibitMapping bool
	InhibitAny     bool
}

// NewPolicies takes what is required: one of the policies, or all of them.
func NewPolicies(required []stdasn1.ObjectIdentifier, all bool) (Policies, error) {
	p := Policies{Explicit: len(required) > 0, all: all}
	for _, o := range required {
		key, err := PolicyKey(o)
		if err != nil {
			return Policies{}, err
		}
		p.Set = append(p.Set, key)
	}
	return p, nil
}

// policyNode is a node of the graph at one depth.
type policyNode struct {
	policy   string
	expected map[string]bool
	parents  []*policyNode
	live     bool // has a descendant at the last depth; set at the end
}

// level is one depth of the graph.
type level struct {
	nodes map[string]*policyNode
	order []string
}

func newLevel() *level { return &level{nodes: map[string]*policyNode{}} }

func (l *level) put(n *policyNode) {
	l.nodes[n.policy] = n
	l.order = append(l.order, n.policy)
}

func (l *level) drop(policy string) {
	delete(l.nodes, policy)
	l.order = slices.DeleteFunc(l.order, func(p string) bool { return p == policy })
}

// policyState holds the state variables of RFC 5280, 6.1.2 (a), (d), (e), (f).
type policyState struct {
	initial    Policies
	levels     []*level // nil: the valid_policy_graph is NULL
	nodes      int
	unusable   *refusal.Error // the first certificatePolicies of the path that cannot be used
	explicit   int
	inhibitAny int
	mapping    int
}

var anyPolicy = mustPolicyKey(certinfo.OIDAnyPolicy)

func mustPolicyKey(o stdasn1.ObjectIdentifier) string {
	key, err := PolicyKey(o)
	if err != nil {
		panic(err)
	}
	return key
}

// PolicyKey gives the content octets of an identifier, by which policies are compared.
func PolicyKey(o stdasn1.ObjectIdentifier) (string, error) {
	der, err := stdasn1.Marshal(o)
	if err != nil || len(der) > 129 {
		return "", fmt.Errorf("policy %v is not an object identifier", o)
	}
	return string(der[2:]), nil
}

// newPolicyState sets the state variables for a path of n certificates below its anchor (RFC 5280,
// 6.1.2).
func newPolicyState(initial Policies, n int) *policyState {
	root := newLevel()
	root.put(&policyNode{policy: anyPolicy, expected: map[string]bool{anyPolicy: true}})

	// n + 1 is out of reach: a countdown from there ends behind the last certificate.
	countdown := func(now bool) int {
		if now {
			return 0
		}
		return n + 1
	}

	return &policyState{
		initial:    initial,
		levels:     []*level{root},
		explicit:   countdown(initial.Explicit),
		inhibitAny: countdown(initial.InhibitAny),
		mapping:    countdown(initial.InhibitMapping),
	}
}

// process is RFC 5280, 6.1.3 (d) to (f).
func (p *policyState) process(c *certinfo.Certificate, last bool) *refusal.Error {
	// 6.1.4 (a), and 4.2.1.5 for the last one.
	for _, m := range c.PolicyMappings {
		if m.IssuerDomain == anyPolicy || m.SubjectDomain == anyPolicy {
			return refusal.New(c, refusal.ReasonPolicy, "policy mapping from or to anyPolicy")
		}
	}

	// Policies that cannot be read restrict nothing by themselves: the path has none from here on,
	// which is refused only where one is required.
	if e := rules.Unusable(c, certinfo.OIDCertificatePolicies); e != nil && p.unusable == nil {
		p.unusable = rules.RefuseExtension(c, *e)
		p.unusable.Detail += "; a certificate policy is required"
	}

	switch {
	case !c.HasPolicies || p.unusable != nil:
		p.levels = nil // no policy is valid for the path
	case p.levels != nil:
		next := p.grow(c, p.inhibitAny > 0 || !last && c.SelfIssued())
		// The graph is bounded by RFC 9618, but not the number of policies in each certificate.
		if p.nodes += len(next.nodes); p.nodes > maxPolicyNodes {
			return refusal.New(c, refusal.ReasonWork, "more than %d certificate policies in the chain", maxPolicyNodes)
		}

		if len(next.nodes) == 0 {
			p.levels = nil
		} else {
			p.levels = append(p.levels, next)
		}
	}

	if p.explicit == 0 && p.levels == nil {
		return p.refuse(c, "no certificate policy is valid up to here, and one is required")
	}
	return nil
}

// refuse explains why no policy is valid: by the extension that cannot be used, where there is one.
func (p *policyState) refuse(c *certinfo.Certificate, why string) *refusal.Error {
	if p.unusable != nil {
		return p.unusable
	}

	return refusal.New(c, refusal.ReasonPolicy, "%s", why)
}

// grow makes the next depth (RFC 9618, 5.2).
func (p *policyState) grow(c *certinfo.Certificate, anyAllowed bool) *level {
	above := p.levels[len(p.levels)-1]
	expecting := map[string][]*policyNode{} // by expected policy
	var order []string
	for _, key := range above.order {
		node := above.nodes[key]
		for policy := range node.expected {
			if expecting[policy] == nil {
				order = append(order, policy)
			}
			expecting[policy] = append(expecting[policy], node)
		}
	}
	// Expected policies are the keys of a map: sorted, so that the
	// graph does not depend on its order.
	slices.Sort(order)

	next := newLevel()
	hasAny := false

	for _, policy := range c.Policies {
		switch parents := expecting[policy.RawOID]; {
		case policy.RawOID == anyPolicy:
			hasAny = true
		case parents != nil:
			next.put(&policyNode{
				policy:   policy.RawOID,
				expected: map[string]bool{policy.RawOID: true},
				parents:  parents,
			})
		// Of a policy that nobody expects, only anyPolicy above can be the parent.
		case above.nodes[anyPolicy] != nil:
			next.put(&policyNode{
				policy:   policy.RawOID,
				expected: map[string]bool{policy.RawOID: true},
				parents:  []*policyNode{above.nodes[anyPolicy]},
			})
		}
	}

	// anyPolicy stands for each expected policy that the certificate does not name itself.
	if hasAny && anyAllowed {
		for _, policy := range order {
			if next.nodes[policy] == nil {
				next.put(&policyNode{
					policy:   policy,
					expected: map[string]bool{policy: true},
					parents:  expecting[policy],
				})
			}
		}
	}

	return next
}

// prepare is RFC 5280, 6.1.4 (b), (h), (i), (j).
func (p *policyState) prepare(c *certinfo.Certificate) {
	p.mapPolicies(c)

	if !c.SelfIssued() {
		p.explicit = decrement(p.explicit)
		p.mapping = decrement(p.mapping)
		p.inhibitAny = decrement(p.inhibitAny)
	}

	if pc := c.PolicyConstraints; pc != nil {
		if pc.RequireExplicitPolicy >= 0 {
			p.explicit = min(p.explicit, pc.RequireExplicitPolicy)
		}
		if pc.InhibitPolicyMapping >= 0 {
			p.mapping = min(p.mapping, pc.InhibitPolicyMapping)
		}
	}

	if c.InhibitAnyPolicy >= 0 {
		p.inhibitAny = min(p.inhibitAny, c.InhibitAnyPolicy)
	}
}

func decrement(n int) int { return max(n-1, 0) }

// mapPolicies applies the policy mappings of a CA certificate (RFC 5280, 6.1.4 (b)).
func (p *policyState) mapPolicies(c *certinfo.Certificate) {
	mapped := map[string]map[string]bool{}
	var order []string
	for _, m := range c.PolicyMappings {
		if mapped[m.IssuerDomain] == nil {
			mapped[m.IssuerDomain] = map[string]bool{}
			order = append(order, m.IssuerDomain)
		}
		mapped[m.IssuerDomain][m.SubjectDomain] = true
	}

	if p.levels == nil {
		return
	}

	here := p.levels[len(p.levels)-1]
	for _, policy := range order {
		node := here.nodes[policy]
		switch {
		// Mapping is inhibited: a policy that the CA maps is not valid below it.
		case p.mapping == 0:
			here.drop(policy)
		case node != nil:
			node.expected = mapped[policy]
		// anyPolicy here includes the policy, which gets a node of its own for its mapping.
		case here.nodes[anyPolicy] != nil:
			here.put(&policyNode{policy: policy, expected: mapped[policy], parents: here.nodes[anyPolicy].parents})
		}
	}

	if len(here.nodes) == 0 {
		p.levels = nil
	}
}

// finish is RFC 5280, 6.1.5 (a), (b) and (g), in the form of RFC 9618, 5.4. It returns the policies
// of the user's domain that are valid for the path.
func (p *policyState) finish(c *certinfo.Certificate) ([]stdasn1.ObjectIdentifier, *refusal.Error) {
	p.explicit = decrement(p.explicit)
	if pc := c.PolicyConstraints; pc != nil && pc.RequireExplicitPolicy == 0 {
		p.explicit = 0
	}

	authority := p.authoritySet()
	valid := authority
	if len(p.initial.Set) > 0 {
		valid = nil
		for _, policy := range p.initial.Set {
			if slices.Contains(authority, policy) || slices.Contains(authority, anyPolicy) {
				valid = append(valid, policy)
			}
		}
	}

	switch {
	case p.explicit > 0:
	case len(valid) == 0:
		return nil, p.refuse(c, "no certificate policy that is asked for is valid for the chain")
	case p.initial.all && len(valid) < len(p.initial.Set):
		return nil, refusal.New(c, refusal.ReasonPolicy, "%d of %d required certificate policies are valid for the chain", len(valid), len(p.initial.Set))
	}

	var oids []stdasn1.ObjectIdentifier
	for _, policy := range valid {
		// A length octet below 128 is the whole length (X.690,
		// 8.1.3.4); a longer identifier is left out.
		var o stdasn1.ObjectIdentifier
		der := append([]byte{6, byte(len(policy))}, policy...)
		if rest, err := stdasn1.Unmarshal(der, &o); err == nil && len(rest) == 0 && len(policy) < 128 {
			oids = append(oids, o)
		}
	}

	return oids, nil
}

// authoritySet gives the policies that lead from the user's domain down to the last certificate;
// anyPolicy among them when the last certificate is good for all.
func (p *policyState) authoritySet() []string {
	if p.levels == nil {
		return nil
	}

	// Live nodes lead to the last certificate. Their topmost ones
	// below anyPolicy are those of the user's domain.
	var set []string
	bottom := p.levels[len(p.levels)-1]
	for _, node := range bottom.nodes {
		node.live = true
	}

	for depth := len(p.levels) - 1; depth >= 0; depth-- {
		l := p.levels[depth]
		for _, key := range l.order {
			node := l.nodes[key]
			if !node.live {
				continue
			}
			for _, parent := range node.parents {
				parent.live = true
				if parent.policy == anyPolicy && key != anyPolicy && !slices.Contains(set, key) {
					set = append(set, key)
				}
			}
			// anyPolicy at the bottom: the last certificate is good for every policy.
			if depth == len(p.levels)-1 && key == anyPolicy {
				set = append(set, anyPolicy)
			}
		}
	}

	slices.Sort(set)
	return set
}
