package crl

import (
	"context"
	"errors"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// List is one CRL, however it is kept.
type List interface {
	// Head returns what stands around the entries. It may change, for the worse, when the list is
	// read to its end.
	Head() *Head
	// Lookup finds the entry for a certificate by its issuer's name and the content octets of its
	// serial number.
	Lookup(issuer certinfo.Name, serial []byte) (Entry, bool, error)
	// SignedBy checks that the CRL is signed with the key of a certificate; key is it with
	// inherited parameters.
	SignedBy(signer *certinfo.Certificate, key any) error
}

// Fetched is a CRL that an address gave.
type Fetched interface {
	List
	Fetched()
}

// Query asks for the CRLs that may cover a certificate.
type Query struct {
	Cert, Issuer *certinfo.Certificate
	Point        *certinfo.DistributionPoint // that is being looked at
	Settled      bool                        // the known CRLs say enough: no address need be waited for

	// Asked holds the addresses that were asked about the certificate; a source adds those it asks.
	Asked map[string]bool
	// Doubt records why CRLs of other keys may prove nothing.
	Doubt func(format string, args ...any)
}

// Source gives the CRLs, base and delta, that may cover a certificate. The evaluation itself
// checks issuer, scope, dates and signature of each.
type Source interface {
	Lists(ctx context.Context, q *Query) ([]List, error)
}

// Network is the part of a source that asks addresses.
type Network interface {
	// Announce starts what Lists will ask for about a certificate.
	Announce(ctx context.Context, cert, issuer *certinfo.Certificate)
	// MayBeSignedBy announces that certificates of a path may have signed the CRLs that come.
	MayBeSignedBy(certs []*certinfo.Certificate)
	// Rest asks the configured addresses that were not asked.
	Rest(ctx context.Context, q *Query) ([]List, error)
}

// Notes remembers which CRLs were seen before.
type Notes interface {
	// Rollback is an error when a CRL is older than one that was seen of the same key and scope
	// (ErrOlder), or when that cannot be found out. With an error the CRL must prove nothing.
	Rollback(spki []byte, h *Head) error
	// SeenOf names the note of a CRL that was seen of a CA's own key, beside one of the CA's name
	// that another key signed; "" is that there is none.
	SeenOf(ca *certinfo.Certificate, other *Head) string
}

// Issuers finds the certificates that may have signed a CRL.
type Issuers interface {
	// Named lists the known certificates with a subject.
	Named(subject certinfo.Name) []*certinfo.Certificate
	// SignerPath looks for a good path from an anchor to the signer of a CRL. revoked is called
	// with each, the anchor first.
	SignerPath(
		ctx context.Context,
		signer, anchor *certinfo.Certificate,
		revoked func([]*certinfo.Certificate) *refusal.Error,
	) *refusal.Error
}

// ErrOlder is the error of a CRL when a newer one of its key and scope was seen before.
var ErrOlder = errors.New("is older than one that was seen before (CRL number or thisUpdate)")
