package directory

import (
	"context"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// Try connects to a directory as a login does, with TLS and the bind, asks nothing, and remembers
// nothing. It returns which server has let it in, or why none did.
func Try(ctx context.Context, name string, s mappers.Directory, o mapping.Options) (server string, err error) {
	d, err := New(name, s, o)
	if err != nil {
		return "", err
	}
	c, err := d.open(ctx)
	if err != nil {
		return "", err
	}
	defer clear(c.Password)

	conn, err := ldapconn.Dial(ctx, c)
	if err != nil {
		return "", d.explain(err)
	}
	defer conn.Close()
	return conn.URI, nil
}
