package mapper

import (
	"context"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// Expect tells that Find, or with a user Match, will be asked about the certificates unless their
// checks fail. Where the first mapper that is asked needs a server, it connects to it beside the
// checks: connects and introduces itself, and asks nothing. ctx is that of the questions; what
// nobody has used when it ends is closed. Without certificates, which then are not known yet, it
// connects only where there is a question whatever they are.
func (c *Chain) Expect(ctx context.Context, certs []*certinfo.Certificate, user string, verified bool) {
	if len(certs) == 0 {
		c.expectAny(ctx, user, verified)
		return
	}
	for _, cert := range certs {
		for _, l := range c.links {
			if l.refuses(Checked{Cert: cert}, verified) != "" || !l.maySpeakFor(cert, c.known) {
				continue
			}
			if e, ok := l.mapper.(mapping.Prefetcher); ok && e.Expects(cert, user) {
				e.Connect(ctx)
				return
			}
			break
		}
	}
}

func (c *Chain) expectAny(ctx context.Context, user string, verified bool) {
	for _, l := range c.links {
		if !verified && !l.mapper.Binds() {
			continue
		}
		if e, ok := l.mapper.(mapping.Prefetcher); ok && len(l.issuers) == 0 && e.Expects(nil, user) {
			e.Connect(ctx)
		}
		return
	}
}
