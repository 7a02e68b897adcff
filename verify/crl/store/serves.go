package store

import (
	"context"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
)

// Which of the configured addresses a login asks. The store remembers whose list an address gave;
// of forty addresses one or two concern the certificate that is checked, and the others are left to
// the timer. The memory only decides about asking: where the known lists do not cover enough, the
// addresses are asked of which nothing is known, or nothing new.

// servedLists is what is known of the lists of an address.
type servedLists int

const (
	servesUnknown servedLists = iota // nothing, or nothing of the last day
	servesIssuer                     // lists that can cover the certificate
	servesOthers                     // lists of other issuers
)

// configured lists the addresses of crl_url.
func (f *fetcher) configured() (all []address) {
	for _, u := range f.k.options.URLs {
		if _, file, _ := fetch.FilePath(u); !file {
			all = append(all, address{url: u, configured: true})
		}
	}
	return all
}

// serves returns what is known of an address: whether its lists are of the key or the name of the
// certificate's issuer, or of a CRL issuer that the certificate names.
func (f *fetcher) serves(url string, cert, issuer *certinfo.Certificate) servedLists {
	if f.store == nil {
		return servesUnknown
	}
	o := f.store.origin(url)
	age := f.k.options.Now().Sub(o.Checked)

	switch {
	case o.Issuer == "":
		return servesUnknown
	case o.Indirect || issuer != nil && o.Signer == shortName(issuer.RawSPKI) || o.names(cert):
		return servesIssuer
	// By now it may give another's list, and no timer runs.
	case age < 0 || age > LongestPeriod:
		return servesUnknown
	}
	return servesOthers
}

// names reports whether the list is of a name that may cover the certificate.
func (o *origin) names(cert *certinfo.Certificate) bool {
	if o.Issuer == issuerName(cert.Issuer) {
		return true
	}
	// An indirect list is of the CRL issuer that the certificate names, not of its own.
	for i := range cert.CRLDistributionPoints {
		for _, n := range cert.CRLDistributionPoints[i].CRLIssuer {
			if n.Tag == certinfo.TagDirectoryName && n.OK && o.Issuer == issuerName(n.Name) {
				return true
			}
		}
	}
	return false
}

// Rest asks the configured addresses that were not asked, all at once. One that serves others is
// not asked, and so cannot show that there is no list of the certificate's own key.
func (f *fetcher) Rest(ctx context.Context, q *crl.Query) ([]crl.List, error) {
	var groups [][]address
	for _, a := range f.configured() {
		switch {
		case q.Asked[a.url]:
		case f.serves(a.url, q.Cert, q.Issuer) == servesOthers:
			q.Doubt("%s gave a list of another issuer when it was last asked", refusal.Clip(a.url))
		default:
			groups = append(groups, []address{a})
			f.start(ctx, q.Cert, q.Issuer, a)
		}
	}

	lists, err := f.ask(ctx, q, groups)
	return lists, oneLine(err)
}
