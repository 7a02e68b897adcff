package mapper

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/config"
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/safefile"
)

// Inspection is what can be told about a mapper before anybody logs in.
type Inspection struct {
	Faults []*config.Error // of its files, with the place of the key that names the file
	Never  bool            // it can name nobody as it is
}

// Inspect opens what the block of a mapper points to, as a login would: mapfile, passwords, certificates. Nothing is
// fetched and no server is asked. verified tells that names may be taken from certificates, as in Chain.Find.
// The error is that of New.
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
	if !verified && !l.mapper.binds() {
		never("", errors.New("it goes by a text of the certificate, whose issuer is not checked (cert_policy = ca, or unverified_names = true)"))
	}
	if n, ok := l.mapper.(*nullMapper); ok && !n.always {
		never("", errors.New("it says no to every certificate (default_match = true says yes)"))
	}

	if file := b.Mapfile(); file.Address != "" {
		if err := inspectMapfile(ctx, file, chain.options); err != nil {
			never("mapfile", err)
		}
	}
	if s, ok := b.Directory(); ok {
		for _, fault := range inspectDirectory(b.Name, s, chain.options) {
			never(fault.Key, fault.Err)
		}
	}
	return found, nil
}

// inspectMapfile opens the mapfile, if it is a file, and looks for a line that names somebody.
func inspectMapfile(ctx context.Context, s mappers.Mapfile, o Options) error {
	m, err := mapfileOf(s, o, false)
	if m == nil || m.remote != nil || err != nil {
		return err
	}
	f, err := m.open(ctx)
	if err != nil {
		return fmt.Errorf("mapfile %s: %w", m.path, safefile.Reason(m.path, err))
	}
	defer f.Close()

	some := false
	err = eachBlock(ctx, f, mapBlock, maxMapLine, func(data []byte) bool {
		for len(data) > 0 && !some {
			var line []byte
			line, data = cutLine(data)
			_, _, some = splitLine(line)
		}
		return !some
	})
	switch {
	case err != nil:
		return fmt.Errorf("mapfile %s: %w", m.path, err)
	case !some:
		return fmt.Errorf("mapfile %s: no line in it names anybody, as KEY%sLOGIN does", m.path, arrow)
	}
	return nil
}

// inspectDirectory reads the files with which a directory is asked.
func inspectDirectory(name string, s mappers.Directory, o Options) []mappers.Fault {
	d, err := newDirectory(name, s, o)
	if err != nil || !d.configured() {
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

	// One after the other: a login stops at the first.
	f := d.files
	_, err = d.tlsConfig(mappers.TLSFiles{CAFile: f.CAFile})
	add("tls_cacertfile", f.CAFile, err)
	_, err = d.tlsConfig(mappers.TLSFiles{CADir: f.CADir})
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
