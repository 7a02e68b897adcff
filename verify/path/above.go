package path

import (
	"bytes"
	"slices"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/sig"
)

// MayBeAbove reports whether a certificate of ca_dir may stand above this one: as itself, as an
// issuer by name or by key identifier, or above one of the others, which come from the card. Those
// that the trust settings of their files keep out count, too. It looks at no signature and no date,
// and so says yes too often rather than too seldom.
func (f *Finder) MayBeAbove(cert *certinfo.Certificate, others []*certinfo.Certificate) bool {
	reached := []*certinfo.Certificate{cert}
	// The certificates from the card are followed upwards, each once, so that loops between them
	// end.
	for i := 0; i < len(reached); i++ {
		below := reached[i]

		if f.Store.Has(below) || f.Store.mayIssue(below) {
			return true
		}

		for _, o := range others {
			if o != nil && mayIssue(o, below) && !slices.Contains(reached, o) {
				reached = append(reached, o)
			}
		}
	}

	return false
}

// mayIssue reports whether a certificate of ca_dir may have issued c, or is c.
func (s *Store) mayIssue(c *certinfo.Certificate) bool {
	if len(s.Named(c.Issuer)) > 0 || s.rejected[string(c.Raw)] != "" {
		return true
	}

	may := func(issuer *certinfo.Certificate) bool { return issuer.Equal(c) || mayIssue(issuer, c) }
	return slices.ContainsFunc(s.unwanted, may) || slices.ContainsFunc(s.All, may)
}

// mayIssue reports whether the name, or the identifier of the key, is that of c's issuer.
func mayIssue(issuer, c *certinfo.Certificate) bool {
	return issuer.Subject.Equal(c.Issuer) ||
		len(c.AuthorityKeyID) > 0 && bytes.Equal(c.AuthorityKeyID, issuer.SubjectKeyID)
}

// SignsItself reports whether a certificate that anybody may have made is self-signed: the same
// name, and a signature of its own key.
func SignsItself(c *certinfo.Certificate) bool {
	if !c.SelfIssued() || c.PublicKeyErr != nil {
		return false
	}

	scheme, err := c.SignatureAlgorithm.Scheme()
	return err == nil && sig.Check(c.PublicKey, scheme, c.RawTBS, c.Signature) == nil
}
