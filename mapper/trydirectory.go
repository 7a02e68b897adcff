package mapper

import (
	"context"

	"pam_pkcs11/config"
	"pam_pkcs11/mapper/internal/directory"
)

// TryDirectory connects to the servers of a mapper as a login does, with TLS and the bind, and asks
// them nothing. It returns which server has let it in, or why none did; asks is false for a mapper
// that asks no server.
func TryDirectory(ctx context.Context, b config.Mapper, o Options) (server string, asks bool, err error) {
	s, ok := b.Directory()
	if !ok || !s.Configured() {
		return "", false, nil
	}
	server, err = directory.Try(ctx, b.Name, s, o.Complete())
	return server, true, err
}
