package mapper

import (
	"context"
	"errors"

	"pam_pkcs11/config"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mapfile"
)

// Inspection is what can be said about a mapper before anybody logs in.
type Inspection struct {
	Faults []*config.Error // of its files, with the place of the key that names the file
	Never  bool            // it can name nobody as it is
}

// Inspect opens what the block of a mapper points to, as a login would: mapfile, passwords,
// certificates. Nothing is fetched and no server is asked. verified means that names may be taken
// from certificates, as in Chain.Find. The error is that of New.
func Inspect(ctx context.Context, b config.Mapper, o Options, verified bool) (Inspection, error) {
	chain, err := New([]config.Mapper{b}, o)
	if err != nil {
		return Inspection{}, err
	}
	l := chain.links[0]

	var found Inspection
	never := func(key string, err error) {
		found.Never = true
		found.Faults = append(found.Faults, b.Fault(key, err))
	}

	// Without a checked chain the texts of a certificate are whatever its holder wrote: such a
	// mapper is not asked then.
	if !verified && !l.mapper.Binds() {
		never("", errors.New("it goes by a text of the certificate, whose issuer is not checked (cert_policy = ca, or unverified_names = true)"))
	}

	if n, ok := l.mapper.(*nullMapper); ok && !n.always {
		never("", errors.New("it says no to every certificate (default_match = true says yes)"))
	}

	if file := b.Mapfile(); file.Address != "" {
		if err := mapfile.Inspect(ctx, file, chain.options); err != nil {
			never("mapfile", err)
		}
	}
	if s, ok := b.Directory(); ok {
		for _, fault := range directory.Inspect(b.Name, s, chain.options) {
			never(fault.Key, fault.Err)
		}
	}
	return found, nil
}
