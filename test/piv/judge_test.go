package piv

import (
	"strings"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
)

// OpenSC, which knows the real cards, judges here what the simulated one can be told to do: it has to
// get along with it as with the card that is imitated.

// judged is a daemon with one card, which has the key of alice in some places.
func judged(t *testing.T, o simcard.Options, keys map[simcard.KeyRef]*testca.Key) (*world, *simcard.Card) {
	t.Helper()
	card, err := simcard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.NewRoot("Example CA")
	for ref, key := range keys {
		if err := card.SetKey(ref, key.Private, ca.Leaf("alice", testca.WithKey(key)).DER); err != nil {
			t.Fatal(err)
		}
	}
	_, line := gemPCTwin(t, card)
	return newWorld(t, daemon, "serial:"+line), card
}

func alice() map[simcard.KeyRef]*testca.Key {
	return map[simcard.KeyRef]*testca.Key{simcard.KeyAuthentication: testca.RSA(2048, "alice")}
}

// loginWith are pkcs11-tool's arguments for a login that shows private keys.
func loginWith(pin string) []string { return []string{"--login", "--pin", pin, "--list-objects"} }

func TestOpenSCAndTheSelection(t *testing.T) {
	for name, rules := range map[string]simcard.SelectRules{
		"YubiKey 5":        {AbsentDeselects: true, Template: simcard.APTBare},
		"YubiKey 4.2.6":    {ReselectLoses: true, AbsentDeselects: true, Template: simcard.APTBare},
		"PIV by default":   {AfterReset: simcard.PIV, Template: simcard.APTWholeAID},
		"other by default": {AfterReset: simcard.Foreign, Template: simcard.APTLengths},
		"label":            {Label: "PivApplet v0.9.0", Template: simcard.APTAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			w, card := judged(t, simcard.Options{Select: rules, Foreign: true}, alice())
			w.says("Private Key Object", "pkcs11-tool", loginWith("123456")...)
			w.signs("01", "SHA256-RSA-PKCS")
			if n := card.Counters(); n.Verifies == 0 || n.Signatures != 1 || n.ForeignVerifies != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

func TestOpenSCAndThePINs(t *testing.T) {
	t.Run("6983 on the last try", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{Tries: 1, PINs: simcard.PINRules{LastBlocks: true}}, alice())
		w.refused("CKR_PIN_LOCKED", "pkcs11-tool", loginWith("654321")...)
	})
	t.Run("any bytes", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{PIN: "pass:1", PINs: simcard.PINRules{AnyBytes: true}}, alice())
		w.says("Private Key Object", "pkcs11-tool", loginWith("pass:1")...)
	})
	t.Run("global PIN", func(t *testing.T) {
		w, card := judged(t, simcard.Options{GlobalPIN: "666666"}, alice())
		w.says("Global PIN", "pkcs11-tool", "--list-slots")
		w.refused("CKR_PIN_INCORRECT", "pkcs11-tool", loginWith("123456")...)
		w.says("Private Key Object", "pkcs11-tool", loginWith("666666")...)
		if pin, _ := card.Tries(); pin != 3 || card.GlobalTries() != 3 {
			t.Error("the tries of another PIN were counted")
		}
	})
	t.Run("global PIN that is not preferred", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{GlobalPIN: "666666", Usage: &simcard.UsageBoth}, alice())
		w.says("Private Key Object", "pkcs11-tool", loginWith("123456")...)
	})
	t.Run("no discovery, no forgetting", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{NoDiscovery: true, PINs: simcard.PINRules{Forget: 0x6A86}}, alice())
		w.says("Private Key Object", "pkcs11-tool", loginWith("123456")...)
	})
	t.Run("no contacts", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{Contactless: simcard.ContactlessFree},
			map[simcard.KeyRef]*testca.Key{simcard.KeyCardAuth: testca.RSA(2048, "alice")})
		if out := w.run("pkcs11-tool", "--list-objects"); strings.Count(out, "Certificate Object") != 1 {
			t.Error(out)
		}
		w.refused("CKR_", "pkcs11-tool", loginWith("123456")...)
	})
}

