package config

import (
	"path"
	"slices"
	"time"
)

// looserRules are functions that report for a key whether the later block (l) lets in what an
// earlier one (e) keeps out.
var looserRules = []struct {
	key    string
	looser func(l, e *Module) bool
}{
	{"cert_policy", func(l, e *Module) bool { return looserPolicy(l.Policy, e.Policy) }},
	{"ca_dir", func(l, e *Module) bool {
		return l.Policy.CA && e.Policy.CA && path.Clean(l.CADir) != path.Clean(e.CADir)
	}},
	{"eku", func(l, e *Module) bool { return looserEKU(l.EKU, e.EKU) }},
	{"partial_chain", func(l, e *Module) bool { return l.Chain.Partial && !e.Chain.Partial }},
	{"v1_anchors", func(l, e *Module) bool { return l.Chain.V1Anchors && !e.Chain.V1Anchors }},
	{"allow_sha1", func(l, e *Module) bool { return l.Chain.AllowSHA1 && !e.Chain.AllowSHA1 }},
	{"min_rsa_bits", func(l, e *Module) bool { return l.Chain.MinRSABits < e.Chain.MinRSABits }},
	{"clock_skew", func(l, e *Module) bool { return l.Chain.ClockSkew > e.Chain.ClockSkew }},
	{"required_policies", func(l, e *Module) bool { return looserPolicies(l.Chain, e.Chain) }},
	{"crl_scope", func(l, e *Module) bool {
		return asksStatus(e) && l.CRL.LeafOnly && !e.CRL.LeafOnly
	}},
	{"crl_grace", func(l, e *Module) bool {
		return e.Policy.CRL != "" && l.CRL.Grace > e.CRL.Grace
	}},
	{"revocation", func(l, e *Module) bool {
		return asksStatus(e) && l.SoftRevocation && !e.SoftRevocation
	}},
	{"ocsp_responder_cert", func(l, e *Module) bool {
		return l.Policy.OCSP && !containsAll(e.OCSP.ResponderCerts, l.OCSP.ResponderCerts)
	}},
	{"ocsp_delegate_without_status", func(l, e *Module) bool {
		return l.Policy.OCSP && l.OCSP.DelegateWithoutStatus && !e.OCSP.DelegateWithoutStatus
	}},
	{"ocsp_nonce", func(l, e *Module) bool {
		return e.Policy.OCSP && e.OCSP.Nonce == "required" && l.OCSP.Nonce != "required"
	}},
	{"ocsp_max_age", func(l, e *Module) bool {
		return e.Policy.OCSP && olderAnswers(l.OCSP, e.OCSP)
	}},
}

// ageWithoutNext is how long an answer without nextUpdate counts where ocsp_max_age is 0.
const ageWithoutNext = time.Hour

// olderAnswers reports whether l accepts older answers than e. Where ocsp_max_age is 0 an answer
// counts until its nextUpdate, and one that has none for ageWithoutNext: any longer age is looser.
func olderAnswers(l, e OCSP) bool {
	switch {
	case l.MaxAge == e.MaxAge:
		return false
	case e.MaxAge == 0:
		return l.MaxAge > ageWithoutNext
	}
	return l.MaxAge == 0 || l.MaxAge > e.MaxAge
}

// asksStatus reports whether a block asks if certificates are revoked.
func asksStatus(m *Module) bool { return m.Policy.CRL != "" || m.Policy.OCSP }

// looserPolicy reports whether l lets in what e keeps out. crl_online asks for a list that may be
// newer than the one that is there, which the other two words do not. Of responders and lists the
// first that gives a status decides: where one was asked alone, the other beside it may say "good"
// of what was refused.
func looserPolicy(l, e Policy) bool {
	switch {
	case e.CA && !l.CA, e.Signature && !l.Signature, e.OCSP && !l.OCSP:
		return true
	case e.OCSP && e.CRL == "" && l.CRL != "", e.CRL != "" && !e.OCSP && l.OCSP:
		return true
	case e.CRL == "online":
		return l.CRL != "online"
	}
	return e.CRL != "" && l.CRL == ""
}

// loginPurposes are those of which a certificate with purposes must have one where eku is empty:
// clientAuth, smartcardLogon, anyExtendedKeyUsage.
var loginPurposes = []string{"1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2", "2.5.29.37.0"}

func looserEKU(l, e EKU) bool {
	switch {
	case e.Ignore:
		return false
	case l.Ignore:
		return true
	case len(e.Required) > 0:
		return !containsAll(l.Required, e.Required)
	case len(l.Required) > 0:
		// Each purpose must be there, so one of loginPurposes among them asks for as much as the
		// default.
		isLogin := func(oid string) bool { return slices.Contains(loginPurposes, oid) }
		return !slices.ContainsFunc(l.Required, isLogin)
	}
	return false
}

// looserPolicies compares required_policies and required_policies_match.
func looserPolicies(l, e Chain) bool {
	inBoth := func(oid string) bool { return slices.Contains(e.RequiredPolicies, oid) }

	switch {
	case len(e.RequiredPolicies) == 0:
		return false
	case len(l.RequiredPolicies) == 0:
		return true
	// l wants as much only where it asks for all of its policies and all of e's are among them.
	case e.RequireAllPolicies && len(e.RequiredPolicies) > 1:
		return !l.RequireAllPolicies || !containsAll(l.RequiredPolicies, e.RequiredPolicies)
	// A chain with all of l's policies has the one of them that e accepts too.
	case l.RequireAllPolicies:
		return !slices.ContainsFunc(l.RequiredPolicies, inBoth)
	}

	// Any one of l's may be the only one that a chain has: e must accept each.
	return !containsAll(e.RequiredPolicies, l.RequiredPolicies)
}

// containsAll reports whether all of some are among all.
func containsAll(all, some []string) bool {
	for _, one := range some {
		if !slices.Contains(all, one) {
			return false
		}
	}
	return true
}
