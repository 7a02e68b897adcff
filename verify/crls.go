package verify

import (
	"context"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl/store"
)

// What is done with CRLs beside a check, and what package crl/store is given for it.

// CRLReport is what is known about one CRL, or what became of one address.
type CRLReport = store.Report

// CRLRestart is a list that is refused because a newer one of its key and scope was seen before.
type CRLRestart = store.Restart

// CRLProgress is told how far the reading of a CRL is, by one goroutine at a time. Total is -1 when
// it is not known.
type CRLProgress = store.Progress

// CRLMirror says that what begins with From is asked at To and the rest (crl_mirror). Both end with
// /, or neither does and only the whole address From is meant.
type CRLMirror = store.Mirror

const (
	// DefaultStore is the directory of what is kept between logins.
	DefaultStore = store.DefaultStore
	// LongestCRLPeriod is the longest time between two runs of UpdateCRLs for which logins rely on
	// them.
	LongestCRLPeriod = store.LongestPeriod
)

// client fetches for this verifier; maxBytes bounds a body.
func (v *Verifier) client(allowLocal bool, maxBytes int64) *fetch.Client {
	return &fetch.Client{
		Proxy:      v.options.Proxy,
		NoProxy:    v.options.NoProxy,
		Resolver:   v.options.Resolver,
		AllowLocal: allowLocal,
		MaxBytes:   maxBytes,
	}
}

// newKeeper makes the keeper of this verifier's CRLs.
func (v *Verifier) newKeeper() *store.Keeper {
	o := v.options
	return store.New(store.Options{
		Word:              o.Policy.CRL,
		Dir:               o.CRLDir,
		StrictPermissions: o.StrictPermissions,
		Rules:             v.rules,
		LeafOnly:          o.CRLLeafOnly,
		Grace:             o.CRLGrace,
		MaxSize:           o.MaxCRLSize,
		URLs:              o.CRLURLs,
		Mirrors:           o.CRLMirrors,
		LDAPServers:       o.CRLLDAPServers,
		Period:            o.CRLPeriod,
		StoreDir:          o.StoreDir,
		Now:               o.Now,
		Logger:            o.Logger,
		Client:            v.client,
		Hooks:             o.hooks,
	}, caDir{v}, &v.wanted)
}

// caDir gives package crl/store its view of ca_dir.
type caDir struct{ v *Verifier }

// All lists the CA certificates.
func (d caDir) All() []*certinfo.Certificate { return d.v.store.All }

// Named lists those with a subject.
func (d caDir) Named(subject certinfo.Name) []*certinfo.Certificate {
	return d.v.store.Named(subject)
}

// Has reports whether this very certificate is there.
func (d caDir) Has(c *certinfo.Certificate) bool { return d.v.store.Has(c) }

// Reaches reports whether a path leads to the certificate; whether it is revoked is for logins to
// find out.
func (d caDir) Reaches(c *certinfo.Certificate, others []*certinfo.Certificate) bool {
	ctx, cancel := context.WithTimeout(context.Background(), defaultDeadline)
	defer cancel()
	return d.v.finder().Reaches(ctx, c, others, d.v.options.Now())
}

// UpdateCRLs fetches the CRLs of crl_url, of the certificates of ca_dir and of the distribution
// points recorded at logins, and builds the indexes of all CRLs in the store and in crl_dir. It
// needs Options.StoreDir and the right to write there. Each address and each CRL has a report; the
// error is that nothing could be done.
func (v *Verifier) UpdateCRLs(ctx context.Context, progress store.Progress) ([]store.Report, error) {
	return v.crls.Update(ctx, progress)
}

// ListCRLs lists the CRLs that are kept or configured, without reading them. One that is refused
// because a newer one was seen before has an error; where another one is as new as that, it is no
// fault.
func (v *Verifier) ListCRLs() []store.Report { return v.crls.List() }

// CheckCRLs reads the CRLs of a file from their beginning to their end, with their signatures and
// dates.
func (v *Verifier) CheckCRLs(path string, progress store.Progress) ([]store.Report, error) {
	return v.crls.Check(path, progress)
}

// RefusedCRLs finds the lists that are refused because a newer one of their key and scope was seen
// before: those in a file, or of an issuer by its name (RFC 4514) in crl_dir, in the store and at
// the addresses that UpdateCRLs asks. The errors are of places that could not be looked at.
func (v *Verifier) RefusedCRLs(ctx context.Context, issuerOrFile string) ([]store.Restart, error) {
	return v.crls.Refused(ctx, issuerOrFile)
}

// AcceptCRL notes a list as the newest of its key and scope, so that logins accept it, and fetches
// it when it came from an address.
func (v *Verifier) AcceptCRL(ctx context.Context, r store.Restart) error {
	return v.crls.Accept(ctx, r)
}

// Granted records the distribution points of a chain that logged in, with its CA certificates that
// are not in ca_dir, so that UpdateCRLs fetches and checks its lists ahead of the next login. It
// does nothing without a CRL word, and for others than the owner of the store.
func (v *Verifier) Granted(r *Result) {
	if r != nil && r.Anchored {
		v.crls.Granted(r.Chain)
	}
}
