package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
)

// probeCard prints how long C_Login and a signature take of a library alone, in nanoseconds, a second after everything
// else was done: the path of the library, then the variables that it needs.
func probeCard(args []string) error {
	m, err := pkcs11.Load(args[0], pkcs11.Options{Environment: args[1:]})
	if err != nil {
		return err
	}
	defer m.Close()
	slots, err := m.Slots()
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slot.Token == nil || slot.Token.Label != user {
			continue
		}
		session, err := m.OpenSession(slot.ID, false)
		if err != nil {
			return err
		}
		defer session.Close()
		return timeCard(session)
	}
	return errors.New("the library shows no card of " + user)
}

func timeCard(session *pkcs11.Session) error {
	objects, err := session.Certificates()
	if err != nil || len(objects) != 1 {
		return fmt.Errorf("%d certificates: %w", len(objects), err)
	}
	word, err := secret.New([]byte(pin))
	if err != nil {
		return err
	}
	defer word.Wipe()
	time.Sleep(typing)
	began := time.Now()
	if err := session.Login(word); err != nil {
		return err
	}
	key, err := session.SigningKey(objects[0])
	if err != nil {
		return err
	}
	if _, err := session.Sign(key, objects[0].Cert, make([]byte, 128), func() error { return session.LoginContextSpecific(word) }); err != nil {
		return err
	}
	fmt.Println(time.Since(began).Nanoseconds())
	return nil
}

// cardAlone runs probeCard on the bench's card.
func (b *crlBench) cardAlone() (time.Duration, error) {
	out, err := exec.Command(b.self, append([]string{"-probe", "card", b.card.Store().Library}, b.card.Variables()...)...).Output()
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(out), "\n") // the second line is the memory of the probe
	var took int64
	_, err = fmt.Sscan(first, &took)
	return time.Duration(took), err
}
