package config

import (
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// fillOCSP comes after the policy, without which its keys have no effect.
func (b *builder) fillOCSP(v schema.Values) {
	m := &b.conf.Module
	m.SoftRevocation = v.String("revocation") == "soft"
	m.OCSP = OCSP{
		URLs:           v.List("ocsp_url"),
		ResponderCerts: v.List("ocsp_responder_cert"),
		Nonce:          v.String("ocsp_nonce"),
		MaxAge:         v.Duration("ocsp_max_age"),

		DelegateWithoutStatus: v.String("ocsp_delegate_without_status") == "accept",
	}

	if m.Policy.OCSP {
		return
	}

	b.checkOldOCSP()

	for _, key := range []string{"ocsp_url", "ocsp_responder_cert"} {
		if v.Set(key) {
			b.Note(v.Get(key).At, finding.NoteNoEffect, key+
				" has no effect without ocsp_on in cert_policy")
		}
	}
}

// checkOldOCSP refuses a file that asks for OCSP in the way of Red Hat's old builds only: it would
// lose a check.
func (b *builder) checkOldOCSP() {
	if !b.global.Bool("enable_ocsp") {
		return
	}

	// ocsp_on needs ca (Policy.problem), so the advice names it where the block has none.
	words := []string{"ca", "signature", "ocsp_on"}
	if b.conf.Module.Policy.CA {
		words = append(b.module.List("cert_policy"), "ocsp_on")
	}

	b.refuse(b.global.Get("enable_ocsp").At, "enable_ocsp = true is not how OCSP is asked for now",
		"write cert_policy = "+scconf.QuoteValues(words)+
			"; in the block pkcs11_module, or enable_ocsp = false")
}
