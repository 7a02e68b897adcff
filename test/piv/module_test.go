package piv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// cardWithKeys is a card with an RSA key, one on P-256 that wants the PIN at every use, and one on P-384 that wants none.
func cardWithKeys(t *testing.T) *simcard.Card {
	t.Helper()
	card, err := simcard.New(simcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.NewRoot("Example CA")
	for ref, key := range map[simcard.KeyRef]*testca.Key{
		simcard.KeyAuthentication: testca.RSA(2048, "alice"), simcard.KeySignature: testca.P256(),
		simcard.KeyCardAuth: testca.EC(elliptic.P384()),
	} {
		if err := card.SetKey(ref, key.Private, ca.Leaf("alice", testca.WithKey(key)).DER); err != nil {
			t.Fatal(err)
		}
	}
	return card
}

// TestOurModuleOnThePIVCard has package pkcs11 do a login on the card, through opensc-pkcs11.so, and counts how often the card
// sees a PIN: that is what a user's tries depend on.
func TestOurModuleOnThePIVCard(t *testing.T) {
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		t.Fatal("the package opensc-pkcs11 is missing")
	}
	card := cardWithKeys(t)
	_, line := gemPCTwin(t, card)
	w := newWorld(t, daemon, "serial:"+line)
	m, err := pkcs11.Load(libraries[0], pkcs11.Options{Environment: []string{"PCSCLITE_CSOCK_NAME=" + w.path("s")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	slots, err := m.Cards().Slots(t.Context())
	chosen := token.Selector{}.Select(slots)
	if err != nil || len(chosen) != 1 {
		t.Fatal(slots, err)
	}
	s, err := m.OpenSession(chosen[0].ID, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	objects, err := s.Certificates()
	if err != nil || len(objects) != 3 {
		t.Fatalf("%d certificates, %v", len(objects), err)
	}
	verifies := func(want int, after string) {
		t.Helper()
		if n := card.Verifies(); n != want {
			t.Errorf("%d PINs presented to the card after %s, want %d", n, after, want)
		}
	}
	verifies(0, "looking at the card")
	if err := s.Login(pinOf(t, "654321")); !errors.Is(err, pkcs11.CKR_PIN_INCORRECT) {
		t.Fatal("a wrong PIN:", err)
	}
	verifies(1, "a wrong PIN")
	pin := pinOf(t, "123456")
	if err := s.Login(pin); err != nil {
		t.Fatal(err)
	}
	verifies(2, "the right PIN")
	for _, o := range objects {
		sign(t, s, o, pin)
	}
	verifies(3, "three signatures, of which one wants the PIN anew")
}

func pinOf(t *testing.T, text string) *secret.PIN {
	t.Helper()
	p, err := secret.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Wipe)
	return p
}

// sign has one key sign, and verifies it.
func sign(t *testing.T, s *pkcs11.Session, o pkcs11.Object, pin *secret.PIN) {
	t.Helper()
	key, err := s.SigningKey(o)
	if err != nil {
		t.Errorf("%s: %v", o.Label, err)
		return
	}
	message := []byte("a challenge of the login")
	signature, err := s.Sign(key, o.Cert, message, func() error { return s.LoginContextSpecific(pin) })
	if err != nil {
		t.Errorf("%s: %v", o.Label, err)
		return
	}
	h := signature.Scheme.Hash.New()
	h.Write(message)
	good := false
	switch public := o.Cert.PublicKey.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(public, signature.Scheme.Hash, h.Sum(nil), signature.Bytes) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(public, h.Sum(nil), signature.Bytes)
	}
	if !good {
		t.Errorf("%s: a wrong signature", o.Label)
	}
}
