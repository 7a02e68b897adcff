package verify

import (
	"context"
	"errors"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// What `pam-pkcs11 config check` can tell about OCSP before anybody logs in.

// WithoutResponder lists the CA certificates of ca_dir that ocsp_on will ask about and that name no responder. It is
// empty when ocsp_url names one, and tells nothing about users' certificates, which are not at hand.
func (v *Verifier) WithoutResponder() []*certinfo.Certificate {
	if len(v.options.OCSP.URLs) > 0 || v.options.CRLLeafOnly {
		return nil
	}
	var all []*certinfo.Certificate
	for _, c := range v.store.all {
		if len(c.OCSPServers) == 0 && !v.anchors(c) {
			all = append(all, c)
		}
	}
	return all
}

// anchors tells whether a certificate of ca_dir ends chains, so that its own status is not asked for.
func (v *Verifier) anchors(c *certinfo.Certificate) bool {
	return selfSigned(c) || v.options.PartialChain && rules.IsCA(c)
}

// Responder is what became of one question to an OCSP responder.
type Responder struct {
	URL  string
	Cert *certinfo.Certificate // asked about
	Err  error                 // nil: it gave an answer that can be believed, or said that it does not know the certificate
}

// AskResponders asks each responder that is configured or named by a CA certificate of ca_dir about that certificate,
// all at once. Certificates whose issuer is not in ca_dir are left out; a configured responder is then asked about the
// anchors, of which it need not know anything.
func (v *Verifier) AskResponders(ctx context.Context) []*Responder {
	ctx, cancel := networkContext(ctx)
	defer cancel()
	checker := &ocspChecker{v: v, store: newOCSPStore("")}
	var all []*Responder
	var group sync.WaitGroup
	for _, t := range v.probes(ctx) {
		for _, r := range checker.addresses(t.cert) {
			out := &Responder{URL: r.url, Cert: t.cert}
			all = append(all, out)
			group.Go(func() { out.Err = checker.probe(ctx, &t, r) })
		}
	}
	group.Wait()
	return all
}

// probe puts the question; that the responder does not know the certificate is an answer too.
func (c *ocspChecker) probe(ctx context.Context, t *ocspTarget, r responder) error {
	good := func(context.Context, ocspTarget) *refusal.Error { return nil }
	_, err := c.responder(ctx, t, r, good)
	var status ocspStatusError
	if errors.As(err, &status) && status == ocspUnauthorized || errors.Is(err, errStatusUnknown) {
		return nil
	}
	return withoutAddress(err)
}

// probes pairs the certificates of ca_dir with their issuers there.
func (v *Verifier) probes(ctx context.Context) []ocspTarget {
	s := newSearch(ctx, v, v.options.Now(), nil)
	var below, anchors []ocspTarget
	for _, c := range v.store.all {
		if selfSigned(c) {
			anchors = append(anchors, ocspTarget{c, c, c.PublicKey})
			continue
		}
		for _, issuer := range s.issuers(c) {
			if issuer.PublicKeyErr == nil && s.signedBy(c, issuer, issuer.PublicKey) == nil {
				below = append(below, ocspTarget{c, issuer, issuer.PublicKey})
				break
			}
		}
	}
	if len(below) == 0 && len(v.options.OCSP.URLs) > 0 {
		return anchors
	}
	return below
}
