package mapper

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/config"
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

	if b.Values.Has("mapfile") {
		if err := inspectMapfile(ctx, b, chain.options); err != nil {
			never("mapfile", err)
		}
	}
	if b.Values.Has("passwd_file") {
		for _, fault := range inspectDirectory(b, chain.options) {
			never(fault.key, fault.err)
		}
	}
	return found, nil
}

// inspectMapfile opens the mapfile, if it is a file, and looks for a line that names somebody.
func inspectMapfile(ctx context.Context, b config.Mapper, o Options) error {
	m, err := mapfileOf(b, o, false)
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

type keyFault struct {
	key string
	err error
}

// inspectDirectory reads the files with which a directory is asked.
func inspectDirectory(b config.Mapper, o Options) []keyFault {
	d, err := newDirectory(b, o)
	if err != nil || !d.configured() {
		return nil // an error of New, or nobody to ask
	}

	var faults []keyFault
	add := func(key, path string, err error) {
		if err == nil {
			return
		}
		if inner := errors.Unwrap(err); inner != nil {
			err = fmt.Errorf("%s = %s: %w", key, path, safefile.Reason(path, inner))
		}
		faults = append(faults, keyFault{key, err})
	}

	// One after the other: a login stops at the first.
	f := d.files
	_, err = tlsFiles{caFile: f.caFile}.config(d)
	add("tls_cacertfile", f.caFile, err)
	_, err = tlsFiles{caDir: f.caDir}.config(d)
	if f.caFile == "" || !errors.Is(err, errNoTLSAuthority) {
		add("tls_cacertdir", f.caDir, err)
	}
	_, err = tlsFiles{cert: f.cert, key: f.key}.config(d)
	add("tls_cert", f.cert, err)
	if d.secretFile != "" {
		_, err = d.readSecret()
		add("passwd_file", d.secretFile, err)
	}
	return faults
}
