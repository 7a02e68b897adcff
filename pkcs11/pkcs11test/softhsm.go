// Package pkcs11test makes smart cards for tests: SoftHSM2 tokens in a directory of their own, and
// a PKCS#11 library that fails as it is told.
package pkcs11test

import (
	"errors"
	"os"
	"path/filepath"
)

// Library returns the path of SoftHSM2's PKCS#11 library.
func Library() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("libsofthsm2.so is not there: install the Debian package softhsm2")
}

// Store is a directory of SoftHSM tokens.
type Store struct {
	Dir     string
	Library string // SoftHSM's
}

// NewStore makes an empty store in a directory, which must exist and stays the caller's. SoftHSM
// shows one blank token more than there are.
func NewStore(dir string) (*Store, error) {
	library, err := Library()
	if err != nil {
		return nil, err
	}
	s := &Store{Dir: dir, Library: library}
	tokens := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return nil, err
	}
	conf := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	return s, os.WriteFile(s.Conf(), []byte(conf), 0o644)
}

// Conf returns the path of the store's softhsm2.conf.
func (s *Store) Conf() string { return filepath.Join(s.Dir, "softhsm2.conf") }

// Environment is what SoftHSM needs to show this store, for pkcs11.Options and the key environment
// of a configuration.
func (s *Store) Environment() []string { return []string{"SOFTHSM2_CONF=" + s.Conf()} }

// Token is a card to be made.
type Token struct {
	Label   string
	PIN     string // "" leaves the user's PIN not initialised; then there can be no objects
	SOPIN   string // "" is "12345678"
	Objects []Object
}

// Add makes a token. It uses SoftHSM in this process, so no pkcs11.Module of SoftHSM may be open.
func (s *Store) Add(t Token) error {
	if t.SOPIN == "" {
		t.SOPIN = "12345678"
	}
	return provision(s.Library, s.Conf(), t)
}

// Finalize ends a use of SoftHSM in this process that a test left open on purpose.
func Finalize() error {
	library, err := Library()
	if err != nil {
		return err
	}
	return finalizeLibrary(library)
}
