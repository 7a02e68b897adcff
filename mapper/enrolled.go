package mapper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/mapper/internal/mapping"
)

// enrolledMapper knows keys that were paired with accounts (package enrolled). It reads its file
// once: a chain lives as long as a login.
type enrolledMapper struct {
	path   string
	strict bool
	log    *slog.Logger
	read   func() (*enrolled.File, error)
}

func newEnrolled(o Options) *enrolledMapper {
	m := &enrolledMapper{
		path:   cmp.Or(o.EnrolledFile, enrolled.DefaultFile),
		strict: o.StrictPermissions,
		log:    o.Logger,
	}
	m.read = sync.OnceValues(m.load)
	return m
}

// load reads the file and logs what is wrong with it. A file that does not exist yet is no fault:
// no key is enrolled.
func (m *enrolledMapper) load() (*enrolled.File, error) {
	file, err := enrolled.Read(m.path, m.strict)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &enrolled.File{}, nil
	case err != nil:
		m.log.Warn("enrolled keys: the file is not used", "path", m.path, "problem", err)
		return nil, fmt.Errorf("enrolled keys: %w", err)
	}

	// A bad line costs its own key alone: the others still log in.
	for _, r := range file.Reports {
		m.log.Warn("enrolled keys: "+r.Problem, "path", r.Path)
	}
	for _, f := range file.Faults {
		m.log.Warn("enrolled keys: a line is not used", "path", m.path, "line", f.Line, "problem", f.Text)
	}
	return file, nil
}

// Binds implements mapping.Mapper.
func (m *enrolledMapper) Binds() bool { return true }

// Enrols implements mapping.Enroller. It fails closed: an unreadable file or a faulty entry is a
// no.
func (m *enrolledMapper) Enrols(cert *certinfo.Certificate) bool {
	file, err := m.read()
	if err != nil {
		return false
	}

	entry, found, err := file.Lookup(enrolled.KeyOf(cert))
	switch {
	case !found:
		return false
	case err == nil && entry.Chain:
		err = fmt.Errorf("line %d asks for a chain to an authority of ca_dir", entry.Line)
	}

	if err != nil {
		m.log.Warn("enrolled keys: the key alone lets nobody in", "path", m.path, "problem", err)
	}
	return err == nil
}

// Find implements mapping.Mapper.
func (m *enrolledMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	key := enrolled.KeyOf(cert)
	mapping.TellRead(ctx, key.String())
	mapping.TellAsked(ctx, "enrolled keys "+m.path)

	file, err := m.read()
	if err != nil {
		return nil, err
	}

	entry, found, err := file.Lookup(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", m.path, err, mapping.ErrAmbiguous)
	case !found:
		return nil, nil
	case entry.Chain && !mapping.HasChain(ctx):
		return nil, fmt.Errorf("%s: line %d asks for a chain to an authority of ca_dir, and the certificate has none", m.path, entry.Line)
	}

	// An entry may ask for a chain. Its key then does not stand for itself, as with Checked.Alone.
	mapping.TellHeard(ctx, fmt.Sprintf("line %d: %s", entry.Line, entry.User))
	return []mapping.Answer{{User: entry.User, Value: key.String(), Origin: mapping.OriginEnrolled}}, nil
}

// Match implements mapping.Mapper.
func (m *enrolledMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	found, err := m.Find(ctx, cert)
	a := mapping.Pick(found, user, false)
	return a, a.User != "" && err == nil, err
}
