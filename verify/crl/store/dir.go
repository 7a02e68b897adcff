package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
)

// listDir is the CRLs of a directory or of one file. They are found when the first certificate
// needs one, by reading the ends of each CRL; a CRL is read as a whole when it may cover a
// certificate, and then once.
type listDir struct {
	key    string // of the configuration, for messages
	path   string
	policy safefile.Policy
	wanted *crl.Wanted
	logger *slog.Logger
	opened func(path string) // of Hooks

	store    *store // with the indexes; may be nil
	optional bool   // a missing directory is no error

	once     sync.Once // guards the fields below
	crls     crl.Memory
	problems []problem
	err      error
	seen     map[string]bool // files, by resolved path
}

const (
	maxFiles           = 10000
	defaultMaxSize     = 512 << 20
	maxReportedInError = 3
	maxProblems        = 100
)

// problem is what is wrong with one file.
type problem struct{ path, text string }

// newListDir prepares a directory or file; nothing is read before it is needed.
func newListDir(o Options, key, path string, w *crl.Wanted) *listDir {
	policy := safefile.Data()
	policy.MaxSize = o.MaxSize
	if o.StrictPermissions {
		policy = policy.Strict()
	}

	return &listDir{
		key:    key,
		path:   strings.TrimPrefix(path, "file://"),
		policy: policy,
		wanted: w,
		logger: o.Logger,
		opened: o.Hooks.Opened,
		seen:   map[string]bool{},
	}
}

// Lists gives the lists that may cover the certificate, and doubts where a file that was not used
// may hold one.
func (d *listDir) Lists(ctx context.Context, q *crl.Query) ([]crl.List, error) {
	d.once.Do(d.load)
	if d.err != nil {
		if d.optional && errors.Is(d.err, fs.ErrNotExist) {
			return nil, nil
		}
		if d.path != "" {
			q.Doubt("%s", oneLine(d.err))
		}
		return nil, d.err
	}

	for i := range d.problems {
		q.Doubt("%s %s", d.problems[i].path, d.problems[i].text)
	}

	found, err := d.crls.Lists(ctx, q)
	mayBeEmpty := d.optional && len(d.problems) == 0
	if err == nil && len(found) == 0 && !mayBeEmpty {
		return nil, d.noneFound(q.Cert)
	}
	return found, err
}

// noneFound explains why there is no CRL: perhaps it is one of those that were not used.
func (d *listDir) noneFound(cert *certinfo.Certificate) error {
	text := fmt.Sprintf("%s %s holds none of %q", d.key, d.path, refusal.Clip(cert.Issuer.RFC4514()))
	for i, p := range d.problems {
		if i == maxReportedInError {
			text += ", and more"
			break
		}
		text += fmt.Sprintf("; not used: %s: %s", p.path, p.text)
	}
	return errors.New(text)
}

// problem notes and logs a file that is not used.
func (d *listDir) problem(path string, err error) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, problem{path, err.Error()})
		d.logger.Warn(d.key+": not used", "file", path, "problem", err)
	}
}

// load finds the CRLs. One file that cannot be used does not hide the others.
func (d *listDir) load() {
	if d.path == "" {
		d.err = fmt.Errorf("%s is not set", d.key)
		return
	}

	dir, err := safefile.OpenDir(d.path, d.policy)
	switch {
	// A path that is no directory is a file with the lists.
	case errors.Is(err, syscall.ENOTDIR):
		f, resolved, err := safefile.Open(d.path, d.policy)
		if err != nil {
			d.err = fmt.Errorf("%s: %w", d.key, err)
			return
		}
		d.addFile(d.path, f, resolved)
		return
	case err != nil:
		d.err = fmt.Errorf("%s: %w", d.key, err)
		return
	}
	defer dir.Close()
	d.report(dir.Resolved)

	names, err := dir.Names(maxFiles)
	if err != nil {
		d.err = fmt.Errorf("%s: %w", d.key, err)
		return
	}

	for _, name := range names {
		// The store keeps other files beside its lists; hidden files are left out everywhere.
		if strings.HasPrefix(name, ".") || d.key == "store" && !strings.HasSuffix(name, ".crl") {
			continue
		}

		path := filepath.Join(d.path, name)
		f, resolved, err := dir.Open(name)
		if err != nil {
			d.problem(path, err)
			continue
		}
		d.addFile(path, f, resolved)
	}
}

// addFile takes the CRLs of a file. One with several names, as hash links make it, is read once.
func (d *listDir) addFile(path string, f *os.File, resolved safefile.Resolved) {
	defer f.Close()
	d.report(resolved)
	if d.seen[resolved.Path] {
		return
	}
	d.seen[resolved.Path] = true

	id, err := crl.Identify(f)
	if err != nil {
		d.problem(path, err)
		return
	}
	// The end of a PEM body may be guessed to save a read; where that failed it is searched for.
	found, faults := d.crlsIn(path, resolved.Path, f, id, false)
	if slices.Contains(faults, crl.ErrGuess) {
		found, faults = d.crlsIn(path, resolved.Path, f, id, true)
	}

	for _, fault := range faults {
		d.problem(path, fault)
	}
	d.crls = append(d.crls, found...)
}

// crlsIn prepares the CRLs of a file.
func (d *listDir) crlsIn(path, resolved string, f *os.File, id crl.FileID, exact bool) (found []crl.List, faults []error) {
	parts, err := crl.FindParts(f, id.Size(), exact)
	if err != nil {
		faults = append(faults, err)
	}

	for _, part := range parts {
		file := &indexedList{
			Stream: crl.Stream{Wanted: d.wanted, Open: d.opener(path, resolved, id, part)},
			path:   path,
			id:     id,
			part:   part,
		}
		// A guessed end that was wrong shows as a list that does not parse.
		switch err := file.prepare(f, d.store, d.logger); {
		case err == nil:
			found = append(found, file)
		case part.Guessed:
			faults = append(faults, crl.ErrGuess)
		default:
			faults = append(faults, err)
		}
	}

	return found, faults
}

// opener opens a CRL for its pass. The file must be the one that was looked at.
func (d *listDir) opener(path, resolved string, id crl.FileID, part crl.Part) func() (io.ReadCloser, int64, error) {
	return func() (io.ReadCloser, int64, error) {
		f, _, err := safefile.Open(resolved, d.policy)
		if err != nil {
			return nil, 0, err
		}

		// What was found out about the list holds for this state of the file only.
		now, err := crl.Identify(f)
		if err == nil && now != id {
			err = crl.ErrChanged
		}
		if err != nil {
			f.Close()
			return nil, 0, err
		}

		if d.opened != nil {
			d.opened(path)
		}
		return part.BodyOf(f), part.Der, nil
	}
}

// report passes on what safefile tolerated.
func (d *listDir) report(r safefile.Resolved) {
	for _, weakness := range r.Reports {
		d.logger.Warn(d.key+": weak permissions", "file", weakness.Path, "problem", weakness.Problem)
	}
}
