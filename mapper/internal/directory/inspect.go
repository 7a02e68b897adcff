package directory

import (
	"errors"
	"fmt"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/mapping"
)

// Inspect reads the files with which a directory is asked.
func Inspect(name string, s mappers.Directory, o mapping.Options) []mappers.Fault {
	d, err := New(name, s, o)
	if err != nil || !d.Configured() {
		return nil // an error of New, or nobody to ask
	}

	var faults []mappers.Fault
	add := func(key, path string, err error) {
		if err == nil {
			return
		}
		if inner := errors.Unwrap(err); inner != nil {
			err = fmt.Errorf("%s = %s: %w", key, path, safefile.Reason(path, inner))
		}
		faults = append(faults, mappers.Fault{Key: key, Err: err})
	}

	// One key at a time: tlsConfig stops at its first error, and an administrator wants all of
	// them.
	f := d.files
	_, err = d.tlsConfig(mappers.TLSFiles{CAFile: f.CAFile})
	add("tls_cacertfile", f.CAFile, err)
	_, err = d.tlsConfig(mappers.TLSFiles{CADir: f.CADir})
	// Empty directories are a fault only where they are the only source of authorities.
	if f.CAFile == "" || !errors.Is(err, errNoTLSAuthority) {
		add("tls_cacertdir", f.CADir, err)
	}

	_, err = d.tlsConfig(mappers.TLSFiles{Cert: f.Cert, Key: f.Key})
	add("tls_cert", f.Cert, err)

	if d.secretFile != "" {
		_, err = d.readSecret()
		add("passwd_file", d.secretFile, err)
	}
	return faults
}
