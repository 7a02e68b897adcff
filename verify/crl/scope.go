package crl

import (
	"bytes"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/rules"
)

// Whether a CRL covers a certificate: issuer and scope, RFC 5280, 6.3.3 (b) to (d).

// ImplicitPoint is the distribution point that every certificate has: the full CRL of its issuer
// (RFC 5280, 6.3.3).
func ImplicitPoint(cert *certinfo.Certificate) *certinfo.DistributionPoint {
	issuer := certinfo.GeneralName{Tag: certinfo.TagDirectoryName, Name: cert.Issuer, OK: true}
	return &certinfo.DistributionPoint{Name: &certinfo.DistributionPointName{FullName: []certinfo.GeneralName{issuer}}}
}

// inScope reports whether a complete CRL covers the certificate at this distribution point; why
// says what does not fit.
func inScope(h *Head, cert *certinfo.Certificate, point *certinfo.DistributionPoint) (ok bool, why string) {
	// 6.3.3 (b) (1): an indirect CRL counts only where the certificate itself names its issuer.
	if !h.Issuer.Equal(cert.Issuer) {
		if !hasDirectoryName(point.CRLIssuer, h.Issuer) {
			return false, "is of another issuer"
		}
		if h.Point == nil || !h.Point.Indirect {
			return false, "is not an indirect CRL, and of another issuer"
		}
	} else if len(point.CRLIssuer) > 0 && !hasDirectoryName(point.CRLIssuer, h.Issuer) {
		return false, "is not of the CRL issuer that the distribution point names"
	}

	// 6.3.3 (b) (2): the list may leave certificates out; without the extension it is about all.
	p := h.Point
	switch {
	case p == nil:
		return true, ""
	case p.onlyAttrs:
		return false, "is about attribute certificates only"
	case p.onlyUser && rules.IsCA(cert):
		return false, "is about end-entity certificates only"
	case p.onlyCA && !rules.IsCA(cert):
		return false, "is about CA certificates only"
	case p.name != nil && !pointNamesMeet(h, cert, point):
		return false, "is of another distribution point"
	}
	return true, ""
}

func hasDirectoryName(names []certinfo.GeneralName, name certinfo.Name) bool {
	return slices.ContainsFunc(names, func(n certinfo.GeneralName) bool {
		return n.Tag == certinfo.TagDirectoryName && n.OK && n.Name.Equal(name)
	})
}

// pointNamesMeet is RFC 5280, 6.3.3 (b) (2) (i).
func pointNamesMeet(h *Head, cert *certinfo.Certificate, point *certinfo.DistributionPoint) bool {
	ours := fullNames(h.Point.name, h.Issuer)
	theirs := point.CRLIssuer
	// A relative name hangs below the CRL issuer, which by default is the certificate's issuer.
	if point.Name != nil {
		base := cert.Issuer
		// RFC 5280, 4.2.1.13: a relative name needs one CRL issuer to
		// hang below; with several it means nothing.
		if len(point.CRLIssuer) > 0 {
			base = nil
			if n := point.CRLIssuer[0]; len(point.CRLIssuer) == 1 && n.Tag == certinfo.TagDirectoryName && n.OK {
				base = n.Name
			}
		}
		theirs = fullNames(point.Name, base)
	}

	for _, a := range ours {
		for _, b := range theirs {
			if sameGeneralName(a, b) {
				return true
			}
		}
	}
	return false
}

// fullNames resolves a name relative to the CRL issuer (RFC 5280, 4.2.1.13).
func fullNames(n *certinfo.DistributionPointName, issuer certinfo.Name) []certinfo.GeneralName {
	if n.Relative == nil {
		return n.FullName
	}
	if issuer == nil {
		return nil
	}
	// Clone and Clip: the name is the certificate's own and must not grow.
	whole := append(slices.Clip(slices.Clone(issuer)), n.Relative)
	return []certinfo.GeneralName{{Tag: certinfo.TagDirectoryName, Name: whole, OK: true}}
}

func sameGeneralName(a, b certinfo.GeneralName) bool {
	switch {
	case a.Tag != b.Tag:
		return false
	case a.Tag == certinfo.TagDirectoryName:
		return a.OK && b.OK && a.Name.Equal(b.Name)
	}
	return bytes.Equal(a.Raw, b.Raw)
}

// reasonsCovered is RFC 5280, 6.3.3 (d).
func reasonsCovered(h *Head, point *certinfo.DistributionPoint) certinfo.ReasonFlags {
	mask := certinfo.AllReasons

	if point.HasReasons {
		mask &= point.Reasons
	}
	if h.Point != nil && h.Point.reasons != 0 {
		mask &= h.Point.reasons
	}

	return mask
}

// deltaFits is RFC 5280, 6.3.3 (c), and the conditions of 5.2.4 for combining the two.
func deltaFits(delta, base *Head) bool {
	return delta.DeltaBase != nil && delta.Number != nil && base.Number != nil &&
		delta.Issuer.Equal(base.Issuer) &&
		bytes.Equal(delta.RawPoint, base.RawPoint) && bytes.Equal(delta.authorityKeyID, base.authorityKeyID) &&
		delta.DeltaBase.Cmp(base.Number) <= 0 && base.Number.Cmp(delta.Number) <= 0
}

// WebURLs are the addresses of distribution points that may be followed; a file is for the
// configuration only.
func WebURLs(points []certinfo.DistributionPoint) []string {
	var urls []string
	for _, p := range points {
		if p.Name == nil {
			continue
		}

		for _, n := range p.Name.FullName {
			if n.Tag != certinfo.TagURI || !n.OK {
				continue
			}
			// A file address would make this machine read its own files at a certificate's word.
			scheme, _, _ := strings.Cut(n.Text, ":")
			switch strings.ToLower(scheme) {
			case "http", "https", "ldap", "ldaps":
				if len(urls) < maxURLsOfPoint {
					urls = append(urls, n.Text)
				}
			}
		}
	}
	return urls
}

// maxURLsOfPoint bounds how many addresses one certificate can make this machine ask.
const maxURLsOfPoint = 8
