package mapper

import (
	"context"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// Expect announces that Find, or with a user Match, will be asked about the certificates unless
// their checks fail. Where the first mapper that is asked needs a server, Expect connects to it
// beside the checks: it connects and binds, and asks nothing. ctx is that of the questions; a
// connection that nobody has used when it ends is closed. With no certificates yet, it connects
// only if the first mapper asks its server about every certificate.
func (c *Chain) Expect(ctx context.Context, certs []*certinfo.Certificate, user string, verified bool) {
	if len(certs) == 0 {
		c.expectAny(ctx, user, verified)
		return
	}

	for _, cert := range certs {
		for _, l := range c.links {
			if l.refuses(Checked{Cert: cert}, verified) != "" || !l.mayCover(cert, c.known) {
				continue
			}

			if e, ok := l.mapper.(mapping.Prefetcher); ok && e.Expects(cert, user) {
				e.Connect(ctx)
				return
			}

			// A later mapper is asked only where this one says no: its server may never be needed.
			break
		}
	}
}

// expectAny is Expect before the certificates are known.
func (c *Chain) expectAny(ctx context.Context, user string, verified bool) {
	for _, l := range c.links {
		if !verified && !l.mapper.Binds() {
			continue
		}

		// A block with issuers is not for every certificate.
		if e, ok := l.mapper.(mapping.Prefetcher); ok && len(l.issuers) == 0 && e.Expects(nil, user) {
			e.Connect(ctx)
		}
		return
	}
}
