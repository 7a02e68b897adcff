package ocsp

import (
	"context"
	"errors"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// What `pam-pkcs11 config check` can find out about OCSP before anybody logs in.

// Responder is what became of one question to an OCSP responder.
type Responder struct {
	URL  string
	Cert *certinfo.Certificate // asked about
	Err  error                 // nil: it gave an answer that is accepted, or said that it does not know the certificate
}

// Probe asks about each certificate every responder that is configured or that it names, all at
// once.
func (c *Checker) Probe(ctx context.Context, targets []Target) []*Responder {
	var all []*Responder
	var group sync.WaitGroup
	for _, t := range targets {
		for _, r := range c.addresses(t.Cert) {
			out := &Responder{URL: r.url, Cert: t.Cert}
			all = append(all, out)
			group.Go(func() { out.Err = c.probeOne(ctx, &t, r) })
		}
	}
	group.Wait()
	return all
}

// probeOne asks one responder; that it does not know the certificate is an answer too.
func (c *Checker) probeOne(ctx context.Context, t *Target, r responder) error {
	// Whether a delegate is revoked is for logins to find out.
	good := func(context.Context, Target) *refusal.Error { return nil }
	_, err := c.responder(ctx, t, r, good)
	var status statusError
	if errors.As(err, &status) && status == statusUnauthorized || errors.Is(err, errStatusUnknown) {
		return nil
	}
	return withoutAddress(err)
}
