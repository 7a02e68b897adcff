package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/mapping"
)

// Store keeps small records between logins, each of which is a process of its own: files of mode
// 0600 in a directory that only root can enter. Without a directory, or when not run by root, it
// keeps nothing.
type Store struct {
	dir string
	log *slog.Logger
}

// maxRecord bounds a record, in octets.
const maxRecord = 64 << 10

// NewStore returns nil where nothing is kept. The methods of a nil Store do nothing.
func NewStore(o mapping.Options) *Store {
	if o.StoreDir == "" || os.Geteuid() != 0 {
		return nil
	}
	return &Store{dir: o.StoreDir, log: o.Logger}
}

// Read fills record from the file of that name; false when there is none that can be trusted.
func (s *Store) Read(name string, record any) bool {
	if s == nil {
		return false
	}

	policy := safefile.Secret()
	// A record names a user: one that anybody else could have written is refused.
	policy.MaxSize = maxRecord
	data, _, err := safefile.ReadFile(filepath.Join(s.dir, name), policy.Strict())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Debug("record not read", "error", err)
		}
		return false
	}

	if err := json.Unmarshal(data, record); err != nil {
		s.log.Warn("record not understood", "path", filepath.Join(s.dir, name), "error", err)
		return false
	}
	return true
}

// Write replaces the file of that name; what cannot be written is logged, and not kept.
func (s *Store) Write(name string, record any) {
	if s == nil {
		return
	}
	if err := s.Replace(name, record); err != nil {
		s.log.Warn("record not written", "error", err)
	}
}

// Replace writes the file of that name under another one first: a reader never sees half of a
// record.
func (s *Store) Replace(name string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := s.makeDir(); err != nil {
		return err
	}

	f, err := os.CreateTemp(s.dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // is gone after the rename

	_, err = f.Write(data)
	// A fault of the disk may be reported by Close only.
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(s.dir, name))
}

// makeDir makes the directory, whose parent must exist, and refuses one that others can enter.
func (s *Store) makeDir() error {
	if err := os.Mkdir(s.dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(s.dir)
	if err != nil {
		return err
	}

	// Lstat: a symbolic link is no directory, and could lead anywhere.
	owner, ok := info.Sys().(*syscall.Stat_t)
	isRoots := ok && owner.Uid == 0
	if !info.IsDir() || !isRoots || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory that only root can enter", s.dir)
	}
	return nil
}

// Remove forgets the record of that name.
func (s *Store) Remove(name string) {
	if s != nil {
		_ = os.Remove(filepath.Join(s.dir, name))
	}
}
