package path

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"pam_pkcs11/internal/safefile"
)

// Files that the administrator keeps. A weakness that is tolerated is reported as a problem.

// Load reads a file, or every file of a directory. A file that is refused or damaged is skipped and
// reported; a path that cannot be read at all is an error.
func (s *Store) Load(path string, strict bool) error {
	path = strings.TrimPrefix(path, "file://")
	if path == "" {
		return fmt.Errorf("%s is not set", s.Key)
	}

	policy := safefile.Data()
	policy.MaxSize = maxCAFile
	if strict {
		policy = policy.Strict()
	}

	dir, err := safefile.OpenDir(path, policy)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		data, resolved, err := safefile.ReadFile(path, policy)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Key, err)
		}
		s.report(resolved)
		s.AddFile(path, data)
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", s.Key, err)
	}
	defer dir.Close()

	s.report(dir.Resolved)
	names, err := dir.Names(maxCAFiles)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Key, err)
	}
	s.loadDirectory(path, dir, names)
	return nil
}

// loadDirectory reads the files of a directory in the order of names, up to the limits of ca_dir.
func (s *Store) loadDirectory(path string, dir *safefile.Dir, names []string) {
	octets := 0
	for _, name := range names {
		// Hash links to CRLs may stand beside those to certificates; they are for crl_dir.
		if strings.HasPrefix(name, ".") || crlLink().MatchString(name) {
			continue
		}

		if octets > maxCAOctets || len(s.All) >= maxCACerts {
			s.problem(path, "too much in it: the files from %s on are not read", name)
			return
		}

		// A file that cannot be used must not take the others with it.
		n, err := s.loadEntry(filepath.Join(path, name), dir, name)
		if err != nil {
			s.problem(filepath.Join(path, name), "%v", err)
		}

		octets += n
	}
}

// loadEntry reads one file of the directory and gives its length. A file that is there under
// several names, as hash links make it, is read once.
func (s *Store) loadEntry(path string, dir *safefile.Dir, name string) (int, error) {
	f, resolved, err := dir.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s.report(resolved)

	if s.read[resolved.Path] {
		return 0, nil
	}

	s.read[resolved.Path] = true
	// One octet more shows that a file has grown past the limit since it was opened.
	data, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err == nil && len(data) > maxCAFile {
		err = fmt.Errorf("is longer than %d bytes", maxCAFile)
	}
	if err != nil {
		return len(data), err
	}

	s.AddFile(path, data)
	return len(data), nil
}

// report passes on what safefile tolerated. A weakness of the directories above is reported once.
func (s *Store) report(r safefile.Resolved) {
	for _, weakness := range r.Reports {
		p := Problem{weakness.Path, weakness.Problem}
		if !s.reported[p] {
			s.reported[p] = true
			s.problem(p.Path, "%s", p.Text)
		}
	}
}
