package config

import (
	"net/url"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

func (b *builder) fillChain(v schema.Values) {
	b.conf.Module.Chain = Chain{
		Partial:            v.Bool("partial_chain"),
		V1Anchors:          v.Bool("v1_anchors"),
		AllowSHA1:          v.Bool("allow_sha1"),
		MinRSABits:         v.Int("min_rsa_bits"),
		ClockSkew:          v.Duration("clock_skew"),
		RequiredPolicies:   v.List("required_policies"),
		RequireAllPolicies: v.String("required_policies_match") == "all",
		ExpiryWarningDays:  v.Int("expiry_warning_days"),
	}
}

// fillCRL comes after the policy, without which some of its keys have no effect.
func (b *builder) fillCRL(v schema.Values) {
	m := &b.conf.Module
	m.CRL = CRL{
		LeafOnly: v.String("crl_scope") == "leaf",
		Grace:    v.Duration("crl_grace"),
		URLs:     v.List("crl_url"),
		MaxSize:  int64(v.Int("crl_max_size")) << 20,
	}

	m.Proxy = v.String("proxy")
	if m.Proxy != "" {
		u, err := url.Parse(m.Proxy)
		isHTTP := err == nil && u.Scheme == "http" && u.Hostname() != ""

		// A path would mean nothing to a proxy: the line is more likely the address of a list.
		if !isHTTP || u.Path != "" && u.Path != "/" {
			b.refuse(v.Get("proxy").At, finding.Quote(m.Proxy)+" is not a proxy",
				"write http://HOST:PORT")
		}
	}

	b.fillFetching(v)

	if m.Policy.CRL == "" && len(m.CRL.URLs) > 0 {
		b.Note(v.Get("crl_url").At, finding.NoteNoEffect,
			"crl_url has no effect without a crl word in cert_policy")
	}
}
