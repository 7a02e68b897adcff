package mapper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/safefile"
)

// store keeps small records between logins, each of which is a process of its own: files of mode 0600 in
// a directory that only root can enter. Without a directory, or when not run by root, it keeps nothing.
type store struct {
	dir string
	log *slog.Logger
}

const maxRecord = 64 << 10

func newStore(o Options) *store {
	if o.StoreDir == "" || os.Geteuid() != 0 {
		return nil
	}
	return &store{dir: o.StoreDir, log: o.Logger}
}

// read fills record from the file of that name; false when there is none that can be trusted.
func (s *store) read(name string, record any) bool {
	if s == nil {
		return false
	}
	policy := safefile.Secret()
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

// write replaces the file of that name; what cannot be written is not kept.
func (s *store) write(name string, record any) {
	if s == nil {
		return
	}
	if err := s.replace(name, record); err != nil {
		s.log.Warn("record not written", "error", err)
	}
}

func (s *store) replace(name string, record any) error {
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
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(s.dir, name))
}

// makeDir makes the directory, whose parent must be there, and refuses one that others can enter.
func (s *store) makeDir() error {
	if err := os.Mkdir(s.dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(s.dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || owner.Uid != 0 || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory that only root can enter", s.dir)
	}
	return nil
}

func (s *store) remove(name string) {
	if s != nil {
		_ = os.Remove(filepath.Join(s.dir, name))
	}
}

// deadStore carries the memory of dead servers from login to login. It changes the order of servers
// only, and what it says ends after half a minute.
type deadStore struct {
	store *store
	name  string
	now   func() time.Time
}

func newDeadStore(o Options, block string) *deadStore {
	return &deadStore{newStore(o), "ldap-dead-" + recordName(block) + ".json", o.Now}
}

func (d *deadStore) load() *ldapconn.DeadServers {
	servers := &ldapconn.DeadServers{Now: d.now}
	var known map[string]time.Time
	if d.store.read(d.name, &known) {
		servers.Import(known)
	}
	return servers
}

func (d *deadStore) save(servers *ldapconn.DeadServers) {
	if servers == nil {
		return
	}
	known := servers.Export()
	var before map[string]time.Time
	switch had := d.store.read(d.name, &before); {
	case len(known) == 0 && had:
		d.store.remove(d.name)
	case len(known) > 0 && !sameKeys(known, before):
		d.store.write(d.name, known)
	}
}

// sameKeys: a record that names the same servers is not written anew at each login.
func sameKeys(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}
