package main

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

const (
	pin      = "271828"
	password = "correct horse"
)

// readerName is what libccid and our driver call the reader that is simulated.
const readerName = "Gemalto PC Twin Reader"

// stage is where the story plays: a scene, and for each card a daemon with the reader that it is
// in.
type stage struct {
	*scene.Scene
	build   string
	readers map[string]*reader
}

// reader is a card in its reader, and the daemon that has the reader.
type reader struct {
	*scene.Readers
	control *scene.Control
}

// newStage makes the cards and what their logins need: for each a daemon, a configuration and a PAM
// service of its name.
func newStage(build string) (s *stage, err error) {
	sc, err := scene.New(build)
	if err != nil {
		return nil, err
	}
	s = &stage{Scene: sc, build: build, readers: make(map[string]*reader)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()

	alice := s.CA.Leaf("alice", testca.WithKey(testca.RSA(2048, "alice")))
	expired := s.CA.Leaf("alice", testca.Expired())
	stranger := testca.NewRoot("Unknown CA").Leaf("alice")
	bob := s.CA.Leaf("bob")
	for _, c := range []struct {
		name string
		cert *testca.Cert
		key  *testca.Key
	}{
		{"alice", alice, alice.Key},
		{"expired", expired, expired.Key},
		{"stranger", stranger, stranger.Key},
		{"bob", bob, bob.Key},
		{"copied", alice, testca.RSA(2048, "thief")},
		{"none", nil, nil},
	} {
		var key crypto.PrivateKey
		if c.key != nil {
			key = c.key.Private
		}
		if err := s.insert(c.name, c.cert, key); err != nil {
			return s, fmt.Errorf("the card %s: %w", c.name, err)
		}
	}
	return s, s.passwordService()
}

// insert starts a daemon with a reader, the card of that name in it, and makes the PAM service that
// uses it.
func (s *stage) insert(name string, cert *testca.Cert, key crypto.PrivateKey) error {
	dir := filepath.Join(s.Dir, "cards", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	words := []string{"level tpdu"}
	if cert != nil {
		card, err := scene.PIVCard(dir, "9A", cert, key)
		if err != nil {
			return err
		}
		words = append(append(words, card...), "pin "+pin)
	}
	daemon, err := scene.StartReaders(scene.ReadersOptions{
		Program: filepath.Join(s.build, "pcscd-sim"),
		Dir:     dir,
		Kind:    "usb",
		Flags:   []string{"--debug", "--apdu"},
	}, scene.Reader{Name: readerName, Words: words})
	if err != nil {
		return err
	}
	r := &reader{Readers: daemon}
	s.readers[name] = r
	if r.control, err = daemon.Control(0); err != nil {
		return err
	}
	if cert != nil {
		if err := r.control.Do("trace"); err != nil {
			return err
		}
	}
	return s.service(name, name, "required MODULE")
}

// service makes a PAM service for a card. Each line of auth that calls the module gets its
// configuration.
func (s *stage) service(name, card, control string, global ...string) error {
	conf, err := s.BuiltinConfig(name, s.readers[card].Socket, append([]string{
		"card_only = true;",
		"use_mappers = cn;",
		"allow_unknown_user = true;",
		`pin_pattern = "[0-9]+";`,
	}, global...), []string{"card_access = system;", "piv_cache = no;"})
	if err != nil {
		return err
	}
	return s.Service(name, control+" config_file="+conf)
}

// passwordService is a service that asks for a password where a card says nothing of the user.
func (s *stage) passwordService() error {
	conf, err := s.BuiltinConfig("password", s.readers["bob"].Socket, []string{
		"use_mappers = cn;",
		"allow_unknown_user = true;",
		"foreign_card = skip;",
	}, []string{"card_access = system;", "piv_cache = no;"})
	if err != nil {
		return err
	}
	check := filepath.Join(s.Dir, "conf", "check-password")
	text := fmt.Sprintf("#!/bin/sh\nIFS= read -r typed\n[ \"$typed\" = '%s' ]\n", password)
	if err := os.WriteFile(check, []byte(text), 0o755); err != nil {
		return err
	}
	return s.Service("password", "sufficient MODULE config_file="+conf, "required pam_exec.so quiet expose_authtok "+check)
}

// close takes the stage down.
func (s *stage) close() error {
	var err error
	for _, r := range s.readers {
		if r.control != nil {
			err = errors.Join(err, r.control.Close())
		}
		err = errors.Join(err, r.Stop())
	}
	return errors.Join(err, s.Close())
}
