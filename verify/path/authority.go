package path

import (
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Which certificates may stand above others (RFC 5280, 6.1.4 (k)). ca_dir holds more than
// authorities: people put their self-signed card certificate there, and that card's key must not
// issue for others.

// restoreV1 is what brings back the authority of anchors that do not say that they are one.
const restoreV1 = "v1_anchors = true"

// isAuthority reports whether the certificate may stand above others: by its basic constraints, or,
// with v1_anchors, as an anchor that has none.
func (f *Finder) isAuthority(c *certinfo.Certificate) bool {
	return rules.IsCA(c) || f.V1Anchors && f.isV1Anchor(c)
}

// isV1Anchor reports whether v1_anchors is about the certificate: a self-signed one of ca_dir
// without basic constraints, which either cannot have any (versions 1 and 2) or may sign
// certificates by its keyUsage. Version 3 without both is what tools make for a card or a server;
// no key makes it an authority.
func (f *Finder) isV1Anchor(c *certinfo.Certificate) bool {
	if c.Extension(certinfo.OIDBasicConstraints) != nil || !f.Store.Has(c) || !selfSigned(c) {
		return false
	}
	return c.Version < 3 || c.HasKeyUsage && c.KeyUsage&certinfo.KeyUsageKeyCertSign != 0
}

// notAuthority refuses an issuer that is none.
func (f *Finder) notAuthority(issuer, child *certinfo.Certificate) *refusal.Error {
	// Basic constraints that cannot be read are no missing ones: v1_anchors does not help then.
	if e := rules.Unusable(issuer, certinfo.OIDBasicConstraints); e != nil {
		return rules.RefuseExtension(issuer, *e)
	}

	if f.isV1Anchor(issuer) {
		err := refusal.New(issuer, refusal.ReasonNotCA, "has no basicConstraints, so it is trusted as itself only, but is the issuer of %s; "+
			"if it is an authority, replace it, or write %s", refusal.Describe(child), restoreV1)
		err.Restore = restoreV1
		return err
	}

	return refusal.New(issuer, refusal.ReasonNotCA, "is no CA (basic constraints), but the issuer of %s", refusal.Describe(child))
}

// v1Findings names each file with an anchor whose authority depends on v1_anchors.
func (f *Finder) v1Findings() []Finding {
	var all []Finding
	for _, c := range f.Store.All {
		if !f.isV1Anchor(c) {
			continue
		}
		finding := Finding{
			Path:    f.Store.origin[c],
			Text:    fmt.Sprintf("%s has no basicConstraints: it is trusted as itself only, and issues for nobody", refusal.Describe(c)),
			Restore: restoreV1,
		}
		// The key is set already: the finding then warns of what it allows.
		if f.V1Anchors {
			finding.Text = fmt.Sprintf("%s has no basicConstraints: whatever its key signs is trusted (%s)", refusal.Describe(c), restoreV1)
			finding.Restore = ""
		}

		all = append(all, finding)
	}
	return all
}
