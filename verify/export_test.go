package verify

import (
	"context"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/crl/store"
	"pam_pkcs11/verify/ocsp"
	"pam_pkcs11/verify/path"
)

// What the tests, which are outside of the package, see and change inside of it.

// VerdictReserve is verdictReserve.
const VerdictReserve = verdictReserve

// Hooks is what tests change of the CRLs' store.
func (o *Options) Hooks() *store.Hooks { return &o.hooks }

// Options is what the verifier works with.
func (v *Verifier) Options() *Options { return &v.options }

// CAs is what was read of ca_dir.
func (v *Verifier) CAs() *path.Store { return v.store }

// CRLs keeps the lists.
func (v *Verifier) CRLs() *store.Keeper { return v.crls }

// Initial is the policies that a path begins with.
func (v *Verifier) Initial() *path.Policies { return &v.initial }

// Finder looks for paths.
func (v *Verifier) Finder() *path.Finder { return v.finder() }

// OCSP is the checker of a verifier whose Policy asks about revocation; nil without ocsp_on.
func (v *Verifier) OCSP() *ocsp.Checker { return v.revoked.(*revocationPolicy).ocsp }

// UseCRLs puts these lists in the place of those of Options; Policy must ask about revocation.
func (v *Verifier) UseCRLs(source crl.Source) {
	v.revoked.(*revocationPolicy).crl = &crl.Checker{Source: source, Rules: v.rules}
}

// AskLeafOnly says whether revocation is asked of the leaf alone; Policy must ask about it.
func (v *Verifier) AskLeafOnly(only bool) { v.revoked.(*revocationPolicy).leafOnly = only }

// UseRevocation asks about revocation as logins do, with no source yet.
func (v *Verifier) UseRevocation(soft, leafOnly bool) {
	v.revoked = &revocationPolicy{soft: soft, leafOnly: leafOnly, logger: v.options.Logger}
}

// UseCRLsAlone asks these lists about revocation, without OCSP and without `revocation`.
func (v *Verifier) UseCRLsAlone(source crl.Source, leafOnly bool) {
	v.options.Policy.CRL = "offline"
	v.revoked = crlsAlone{&crl.Checker{Source: source, Rules: v.rules, LeafOnly: leafOnly}}
}

// crlsAlone asks about revocation without OCSP and without `revocation`.
type crlsAlone struct{ *crl.Checker }

func (c crlsAlone) Check(ctx context.Context, s *path.Search, certs []*certinfo.Certificate) *Error {
	return c.Run(s.Now, certs, s).Path(ctx, certs)
}
