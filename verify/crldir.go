package verify

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
)

// crlDir is the source of crl_offline: the CRLs in crl_dir, read when the first certificate needs one.
type crlDir struct {
	path   string
	policy safefile.Policy
	once   sync.Once
	crls   memorySource
	err    error
}

const maxCRLFile = 512 << 20

func newCRLDir(o Options) *crlDir {
	policy := safefile.Data()
	policy.MaxSize = maxCRLFile
	if o.StrictPermissions {
		policy = policy.Strict()
	}
	return &crlDir{path: strings.TrimPrefix(o.CRLDir, "file://"), policy: policy}
}

func (d *crlDir) lists(s *search, cert *certinfo.Certificate, point *certinfo.DistributionPoint) ([]crlList, error) {
	d.once.Do(func() { d.err = d.load() })
	if d.err != nil {
		return nil, d.err
	}
	return d.crls.lists(s, cert, point)
}

func (d *crlDir) load() error {
	dir, err := safefile.OpenDir(d.path, d.policy)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		data, _, err := safefile.ReadFile(d.path, d.policy)
		if err != nil {
			return fmt.Errorf("crl_dir: %w", err)
		}
		return d.add(data)
	case err != nil:
		return fmt.Errorf("crl_dir: %w", err)
	}
	defer dir.Close()
	names, err := dir.Names(maxCAFiles)
	if err != nil {
		return fmt.Errorf("crl_dir: %w", err)
	}
	for _, name := range names {
		f, _, err := dir.Open(name)
		if err != nil {
			continue
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err == nil {
			err = d.add(data)
		}
		if err != nil {
			d.err = errors.Join(d.err, fmt.Errorf("%s: %w", filepath.Join(d.path, name), err))
		}
	}
	return nil
}

func (d *crlDir) add(data []byte) error {
	more, err := newMemorySource(data)
	d.crls = append(d.crls, more...)
	return err
}
