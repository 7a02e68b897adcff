//go:build cgo

package piv

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// TestLoginWithThePIVCard is the whole project but the cable: libpam, the module, its worker, opensc-pkcs11.so, libpcsclite, our
// pcscd, our driver, and a simulated reader with the card. The module is that of make build.
func TestLoginWithThePIVCard(t *testing.T) {
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		t.Fatal("the package opensc-pkcs11 is missing")
	}
	stage, err := scene.New("../../build")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stage.Close() })
	key := testca.RSA(2048, "alice")
	card, err := simcard.New(simcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := card.SetKey(simcard.KeyAuthentication, key.Private, stage.CA.Leaf("alice", testca.WithKey(key)).DER); err != nil {
		t.Fatal(err)
	}
	_, line := gemPCTwin(t, card)
	w := newWorld(t, daemon, "serial:"+line)
	foreign := scene.ForeignCard("PIV", "123456", libraries[0], "PCSCLITE_CSOCK_NAME="+w.path("s"))
	conf, err := stage.Config("piv", foreign, []string{"card_only = true;", "use_mappers = cn;", "allow_unknown_user = true;"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.Service("piv", "required MODULE config_file="+conf); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, user, pin string
		want            error
		verifies        int // PINs that the card has seen after it
	}{
		{"alice", "alice", "123456", nil, 1},
		{"a wrong PIN", "alice", "654321", pam.ErrAuth, 2},
		{"another user: no PIN for the card", "bob", "123456", pam.ErrCredInsufficient, 2},
		{"alice again", "alice", "123456", nil, 3},
	} {
		said, err := authenticate(stage, tt.user, tt.pin)
		if !errors.Is(err, tt.want) || card.Verifies() != tt.verifies {
			t.Fatalf("%s: %v, want %v; %d PINs, want %d\n%s", tt.name, err, tt.want, card.Verifies(), tt.verifies, said)
		}
	}
}

// authenticate is one pam_authenticate.
func authenticate(stage *scene.Scene, user, pin string) (said string, err error) {
	converse := func(style pam.Style, text string) (string, error) {
		said += text + "\n"
		if style == pam.PromptEchoOff {
			return pin, nil
		}
		return "", nil
	}
	tx, err := pam.StartConfDir("piv", user, pam.ConversationFunc(converse), stage.ServiceDir())
	if err != nil {
		return said, err
	}
	err = tx.Authenticate(0)
	return said, errors.Join(err, tx.End())
}
