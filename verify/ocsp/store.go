package ocsp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pam_pkcs11/internal/safefile"
)

// The store of OCSP answers: one file for each certificate, with the answer as it came. It is
// checked anew at each use, so writing to it gains nothing, and what a crash leaves behind is at
// worst an answer that is not accepted.

const (
	maxKeptInMemory = 256 // answers
	lockWait        = time.Second
	lockStep        = 5 * time.Millisecond
)

// Store keeps answers for the life of the verifier and, in a directory, beyond it. What the
// directory cannot take is still there in memory. A nil Store keeps nothing.
type Store struct {
	dir   string                               // "": in memory only
	Write func(path string, data []byte) error // a test lets it fail

	mu     sync.Mutex // guards memory
	memory map[string][]byte
}

// NewStore keeps answers in memory and in a directory, "" for none.
func NewStore(dir string) *Store {
	return &Store{dir: dir, Write: writeWhole, memory: map[string][]byte{}}
}

// storeKey names an answer by the issuer's key and name and the serial number. The first two are
// DER and end by themselves.
func storeKey(t *Target) string {
	h := sha256.New()
	h.Write(t.Issuer.RawSPKI)
	h.Write(t.Cert.RawIssuer)
	h.Write(t.Cert.SerialBytes)
	return hex.EncodeToString(h.Sum(nil))
}

// path is the file of an answer.
func (s *Store) path(key string) string { return filepath.Join(s.dir, key+".ocsp") }

// load returns the answer that is kept; nil when there is none. The error is why that of the
// directory is not used.
func (s *Store) load(t *Target) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	key := storeKey(t)
	if raw := s.remembered(key); raw != nil || s.dir == "" {
		return raw, nil
	}
	return readKept(s.path(key))
}

// readKept reads an answer of the directory.
func readKept(path string) ([]byte, error) {
	data, _, err := safefile.ReadFile(path, safefile.Policy{MaxSize: maxAnswer})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// remembered returns the answer in memory, nil for none.
func (s *Store) remembered(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory[key]
}

// remember keeps an answer in memory, where there is room or it replaces another one.
func (s *Store) remember(key string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.memory[key]; known || len(s.memory) < maxKeptInMemory {
		s.memory[key] = raw
	}
}

// keep replaces the answer that load gave by another. A "good" is kept while its time lasts, and
// not when another process wrote meanwhile: that may have been a "revoked". Where a "revoked"
// cannot be written, no "good" stays.
func (s *Store) keep(t *Target, loaded []byte, v *Verdict) error {
	if s == nil || !v.Revoked() && v.single.nextUpdate.IsZero() {
		return nil
	}

	key := storeKey(t)
	// The memory first: whatever becomes of the file, this process has the answer.
	s.remember(key, v.answer.raw)
	if s.dir == "" {
		return nil
	}
	path := s.path(key)
	err := s.replace(path, loaded, v)
	// A file with "good" would outlive the "revoked" that could not be written.
	if err != nil && v.Revoked() {
		if gone := os.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// replace writes an answer to the directory, in place of the one that was loaded.
func (s *Store) replace(path string, loaded []byte, v *Verdict) error {
	if err := s.makeDir(); err != nil {
		return err
	}

	// A "good" is only a saving of time and waits for nobody; a "revoked" has to be kept.
	wait := time.Duration(0)
	if v.Revoked() {
		wait = lockWait
	}

	unlock, err := s.lock(wait)
	if unlock == nil {
		return err
	}
	defer unlock()

	if now, err := readKept(path); err == nil && !v.Revoked() && !bytes.Equal(now, loaded) {
		return nil
	}
	return s.Write(path, v.answer.raw)
}

// makeDir makes the store where it is missing. Its parent can be read by everybody, since the CRL
// indexes are there too.
func (s *Store) makeDir() error {
	info, err := os.Lstat(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		parent := filepath.Dir(s.dir)
		// Chmod, so that an administrator's umask does not hide the parent.
		if err := os.Mkdir(parent, 0o755); err == nil {
			err = os.Chmod(parent, 0o755)
			if err != nil {
				return err
			}
		}

		if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err = os.Lstat(s.dir)
	}
	if err != nil {
		return err
	}

	// Answers tell who logs in, and a directory that others can write may hold anything.
	owner, ok := info.Sys().(*syscall.Stat_t)
	ours := ok && int(owner.Uid) == os.Geteuid()
	if !info.IsDir() || !ours || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of our own that nobody else can write", s.dir)
	}
	return nil
}

// lock takes the store's lock for writing; nil when another process has it for longer than wait.
func (s *Store) lock(wait time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}

	for end := time.Now().Add(wait); ; time.Sleep(lockStep) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("lock of %s: %w", s.dir, err), f.Close())
		case time.Now().After(end):
			if wait > 0 {
				err = fmt.Errorf("%s is locked by another process", s.dir)
				return nil, errors.Join(err, f.Close())
			}
			// Not to wait is no error: another process writes, and its answer is as good.
			return nil, f.Close()
		}
	}
}

// writeWhole replaces a file as a whole or not at all.
func writeWhole(path string, data []byte) error {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// The rename comes last: a file that was not synced must not take the place of a whole one.
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(fresh, path)
	}

	if err != nil {
		_ = os.Remove(fresh) // what counts is the error above
	}
	return err
}
