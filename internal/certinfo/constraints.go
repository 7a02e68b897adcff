package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on what one certificate may carry; each is far above what CAs issue.
const (
	maxPolicies = 512
	maxSubtrees = 2048
)

// The extensions with which a CA says what those below it may do: certificate policies and name
// constraints.

// Policy is one entry of certificatePolicies; two policies are the same when RawOID is. OID may be
// nil, see Extension.
type Policy struct {
	OID    stdasn1.ObjectIdentifier
	RawOID string // content octets, usable as a map key
}

// PolicyMapping is one pair of policyMappings, by content octets of the identifiers.
type PolicyMapping struct{ IssuerDomain, SubjectDomain string }

// PolicyConstraints is the extension of RFC 5280, 4.2.1.11; -1 stands for an absent field.
type PolicyConstraints struct{ RequireExplicitPolicy, InhibitPolicyMapping int }

// NameConstraints is the extension of RFC 5280, 4.2.1.10. minimum is 0 and maximum absent, or the
// base is unusable.
type NameConstraints struct{ Permitted, Excluded []GeneralName }

// readPolicies reads the content of certificatePolicies (RFC 5280, 4.2.1.4).
func readPolicies(s *cryptobyte.String) ([]Policy, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errors.New("not a sequence with a policy in it")
	}

	seen := map[string]bool{}
	var policies []Policy
	for !seq.Empty() {
		var info, qualifiers cryptobyte.String
		if !seq.ReadASN1(&info, asn1.SEQUENCE) || len(policies) == maxPolicies {
			return nil, errors.New("malformed policy, or too many")
		}

		oid, raw, ok := readOID(&info)
		var has bool
		if !ok || !info.ReadOptionalASN1(&qualifiers, &has, asn1.SEQUENCE) || !info.Empty() {
			return nil, errors.New("malformed policy")
		}

		if !wellFormedQualifiers(qualifiers) {
			return nil, errors.New("malformed policy qualifier")
		}
		// RFC 5280, 4.2.1.4: a policy must not be there more than once.
		if seen[string(raw)] {
			return nil, errors.New("a policy is listed twice")
		}

		seen[string(raw)] = true
		policies = append(policies, Policy{OID: oid, RawOID: string(raw)})
	}
	return policies, nil
}

// wellFormedQualifiers reports whether each PolicyQualifierInfo is an identifier and one value (RFC
// 5280, 4.2.1.4). What they say is for people.
func wellFormedQualifiers(list cryptobyte.String) bool {
	for !list.Empty() {
		var info, value cryptobyte.String
		var tag asn1.Tag
		if !list.ReadASN1(&info, asn1.SEQUENCE) {
			return false
		}
		if _, _, ok := readOID(&info); !ok || !info.ReadAnyASN1(&value, &tag) || !info.Empty() {
			return false
		}
	}
	return true
}

// readPolicyMappings reads the content of policyMappings (RFC 5280, 4.2.1.5).
func readPolicyMappings(s *cryptobyte.String) ([]PolicyMapping, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errors.New("not a sequence with a mapping in it")
	}

	var mappings []PolicyMapping
	for !seq.Empty() {
		var pair cryptobyte.String
		if !seq.ReadASN1(&pair, asn1.SEQUENCE) || len(mappings) == maxPolicies {
			return nil, errors.New("malformed mapping, or too many")
		}
		// Octets are enough to compare: an identifier that is too
		// large for an OID is mapped all the same.
		_, from, ok1 := readOID(&pair)
		_, to, ok2 := readOID(&pair)
		if !ok1 || !ok2 || !pair.Empty() {
			return nil, errors.New("malformed mapping")
		}
		mappings = append(mappings, PolicyMapping{string(from), string(to)})
	}
	return mappings, nil
}

// readPolicyConstraints reads the content of policyConstraints (RFC 5280, 4.2.1.11).
func readPolicyConstraints(s *cryptobyte.String) (*PolicyConstraints, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errors.New("not a sequence with a constraint in it")
	}

	pc := PolicyConstraints{-1, -1}
	// The fields are in the order of their tags, 0 and 1.
	for i, field := range []*int{&pc.RequireExplicitPolicy, &pc.InhibitPolicyMapping} {
		tag := asn1.Tag(i).ContextSpecific()
		if !seq.PeekASN1Tag(tag) {
			continue
		}
		n, ok := readSmallInteger(&seq, tag)
		if !ok {
			return nil, errors.New("not a number")
		}
		*field = n
	}

	if !seq.Empty() {
		return nil, errTrailing
	}
	return &pc, nil
}

// readNameConstraints reads the content of nameConstraints (RFC 5280, 4.2.1.10), which must not be
// empty.
func readNameConstraints(s *cryptobyte.String) (*NameConstraints, error) {
	var seq, permitted, excluded cryptobyte.String
	var hasPermitted, hasExcluded bool
	malformed := errors.New("malformed")
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, malformed
	}
	permittedTag := asn1.Tag(0).ContextSpecific().Constructed()
	excludedTag := asn1.Tag(1).ContextSpecific().Constructed()
	read := seq.ReadOptionalASN1(&permitted, &hasPermitted, permittedTag) &&
		seq.ReadOptionalASN1(&excluded, &hasExcluded, excludedTag) && seq.Empty()
	if !read || !(hasPermitted || hasExcluded) {
		return nil, malformed
	}

	var nc NameConstraints
	var err error
	if nc.Permitted, err = readSubtrees(permitted); err != nil {
		return nil, err
	}
	if nc.Excluded, err = readSubtrees(excluded); err != nil {
		return nil, err
	}

	return &nc, nil
}

// readSubtrees reads a GeneralSubtrees. The base of an address is address and mask, and a base may
// lack what a name must have (a domain without a local part), so package verify checks the forms
// when it applies them; OK here means that kind and bounds can be applied.
func readSubtrees(seq cryptobyte.String) ([]GeneralName, error) {
	var bases []GeneralName
	for !seq.Empty() {
		var subtree cryptobyte.String
		if !seq.ReadASN1(&subtree, asn1.SEQUENCE) || len(bases) == maxSubtrees {
			return nil, errors.New("malformed subtree, or too many")
		}
		base, err := readGeneralName(&subtree)
		if err != nil {
			return nil, err
		}

		// The rules of names are not those of bases: text and length are checked anew.
		switch base.Tag {
		case TagRFC822Name, TagDNSName, TagURI:
			text, err := decodeString(tagIA5String, base.Raw)
			base.Text = text
			base.OK = err == nil && (text == "" || checkText(text) == nil)
		case TagIPAddress:
			// Address and mask, of either family.
			base.OK = len(base.Raw) == 8 || len(base.Raw) == 32
		}

		if base.OK {
			base.Why = ""
		}

		// RFC 5280, 4.2.1.10: minimum is 0, and DER leaves the
		// default out; some CAs write it all the same.
		bounds := subtree
		if minimum, ok := readSmallInteger(&bounds, asn1.Tag(0).ContextSpecific()); ok && minimum == 0 {
			subtree = bounds
		}
		if !subtree.Empty() {
			base.OK = false
			base.Why = "minimum or maximum is set"
		}

		bases = append(bases, base)
	}
	return bases, nil
}
