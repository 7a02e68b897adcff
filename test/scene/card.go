package scene

import (
	"errors"
	"os"
	"path/filepath"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// Card is a smart card: a SoftHSM token with one certificate and one key, in a store of its own.
type Card struct {
	Label string
	PIN   string

	store       *pkcs11test.Store
	library     string
	environment []string // of the library
}

// NewCard makes a card that holds a certificate and a key, which need not belong together. The name tells it from
// the other cards of the scene, the label is what the card calls itself.
func (s *Scene) NewCard(name, label, pin string, cert *testca.Cert, key *testca.Key) (*Card, error) {
	c, err := s.emptyReader(name)
	if err != nil {
		return nil, err
	}
	c.Label, c.PIN = label, pin
	return c, c.store.Add(pkcs11test.Token{Label: label, PIN: pin, Objects: []pkcs11test.Object{
		{Label: label, ID: []byte{1}, Cert: cert.DER, Key: key.Private},
	}})
}

// emptyReader is a store without a token.
func (s *Scene) emptyReader(name string) (*Card, error) {
	dir := filepath.Join(s.path("cards"), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	store, err := pkcs11test.NewStore(dir)
	if err != nil {
		return nil, err
	}
	return &Card{store: store, library: store.Library, environment: store.Environment()}, nil
}

// Store returns the SoftHSM store that holds the card.
func (c *Card) Store() *pkcs11test.Store { return c.store }

// Installed returns the same card for a library that is told of it by its system-wide configuration file: the
// configuration then says nothing of an environment.
func (c *Card) Installed() *Card {
	installed := *c
	installed.environment = nil
	return &installed
}

// Behind returns the same card behind another PKCS#11 library, with more in its environment.
func (c *Card) Behind(library string, environment ...string) *Card {
	behind := *c
	behind.library = library
	behind.environment = append(append([]string(nil), c.environment...), environment...)
	return &behind
}

// Spied returns the same card behind OpenSC's pkcs11-spy, which writes every PKCS#11 call to a file.
func (c *Card) Spied(log string) (*Card, error) {
	found, _ := filepath.Glob("/usr/lib/*/pkcs11-spy.so")
	if len(found) == 0 {
		return nil, errors.New("pkcs11-spy.so is not there: install the Debian package opensc-pkcs11")
	}
	return c.Behind(found[0], "PKCS11SPY="+c.library, "PKCS11SPY_OUTPUT="+log), nil
}

// Variables returns the environment of the card's library, NAME=value.
func (c *Card) Variables() []string { return c.environment }

// ForeignCard is a card behind a PKCS#11 library that is not SoftHSM, with its environment, NAME=value. The scene knows
// nothing of what is on it.
func ForeignCard(label, pin, library string, environment ...string) *Card {
	return &Card{Label: label, PIN: pin, library: library, environment: environment}
}
