package piv

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/container"
	"pam_pkcs11/internal/simcard/models"
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

// TestOpenSCAndTheContainers: the certificate comes out of each form that OpenSC knows. Net iD's is
// not among them: that is from the source of yubikey-manager.
func TestOpenSCAndTheContainers(t *testing.T) {
	w, card := judged(t, simcard.Options{}, alice())
	der := testca.NewRoot("Example CA").Leaf("alice", testca.WithKey(testca.RSA(2048, "alice"))).DER
	for name, form := range map[string]container.Form{
		"gzip":        {Compression: container.Gzip},
		"71 first":    {InfoFirst: true},
		"without 71":  {NoInfo: true},
		"old":         {MSCUID: true},
		"without end": {NoEnd: true},
	} {
		if err := card.SetCertificate(simcard.KeyAuthentication, der, form); err != nil {
			t.Fatal(err)
		}
		if got := w.certificate("01"); !bytes.Equal(got.Raw, der) {
			t.Errorf("%s: another certificate", name)
		}
	}
	for name, absent := range map[string]*simcard.Answer{
		"5300": &simcard.AbsentEmpty, "nothing": &simcard.AbsentSilent, "6A81": &simcard.AbsentFunction,
		"6A88": &simcard.AbsentReference, "empty 70": &simcard.AbsentCertificate,
	} {
		card.SetAnswer(simcard.ObjectAuthentication, absent)
		if out, err := w.try("pkcs11-tool", "--list-objects"); strings.Contains(out, "Certificate Object") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestOpenSCAndTheKeys: algorithms, and signatures that must not pass.
func TestOpenSCAndTheKeys(t *testing.T) {
	keys := map[simcard.KeyRef]*testca.Key{
		simcard.KeyAuthentication: testca.RSA(4096, "alice"),
		simcard.KeySignature:      testca.EC(elliptic.P384()),
		simcard.KeyCardAuth:       testca.RSA(1024, "alice"),
	}
	t.Run("right", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{ATR: models.ATRYubiKey5}, keys)
		w.signs("02", "ECDSA-SHA256")
		w.signs("04", "SHA256-RSA-PKCS")
	})
	t.Run("wrong", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{Signatures: simcard.SignaturesWrong}, keys)
		w.write("message", []byte("a message"))
		w.run("pkcs11-tool", "--login", "--pin", "123456", "--sign", "--id", "02", "--mechanism", "ECDSA-SHA256",
			"--signature-format", "openssl", "--input-file", "message", "--output-file", "signature")
		if w.certificate("02").CheckSignature(x509.ECDSAWithSHA256, []byte("a message"), w.read("signature")) == nil {
			t.Error("the signature is right")
		}
	})
	t.Run("not touched", func(t *testing.T) {
		w, _ := judged(t, simcard.Options{
			TouchWait: 10 * time.Millisecond,
			Policies:  map[simcard.KeyRef]simcard.Policy{simcard.KeySignature: {Touch: simcard.TouchAlways}},
		}, keys)
		w.write("message", []byte("a message"))
		w.refused("CKR_", "pkcs11-tool", "--login", "--pin", "123456", "--sign", "--id", "02", "--mechanism", "ECDSA-SHA256",
			"--input-file", "message", "--output-file", "signature")
	})
}

// TestOpenSCAndTheModels: each of the cards that exist logs in and signs. A card whose PIN is reference
// 00 and that has no discovery object is left out: OpenSC 0.23 sends 80 to it.
func TestOpenSCAndTheModels(t *testing.T) {
	for _, m := range models.Models {
		if m.Options.PINs.AtZero {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			w, card := judged(t, m.Options, alice())
			w.signs("01", "SHA256-RSA-PKCS")
			if pin, _ := card.Tries(); pin != max(m.Options.Tries, 3) {
				t.Errorf("%d tries left", pin)
			}
		})
	}
}

// TestYubicosToolAndItsCommands: yubico-piv-tool takes the card for a YubiKey.
func TestYubicosToolAndItsCommands(t *testing.T) {
	if _, err := exec.LookPath("yubico-piv-tool"); err != nil {
		t.Fatal("the package yubico-piv-tool is missing: ", err)
	}
	o, err := models.Find("yubikey-5")
	if err != nil {
		t.Fatal(err)
	}
	w, card := judged(t, o, alice())
	says := func(words string, args ...string) {
		t.Helper()
		w.says(words, "yubico-piv-tool", append([]string{"--reader", "Gem", "--verbose=3"}, args...)...)
	}
	says("5.7.1", "-a", "version")
	says("Serial Number:\t10203040", "-a", "status")
	says("PIN tries left:\t3", "-a", "status")
	says("Successfully verified PIN", "-a", "verify-pin", "-P", "123456")
	w.refused("2 tries left", "yubico-piv-tool", "--reader", "Gem", "-a", "verify-pin", "-P", "654321")
	says("Successfully changed the pin code", "-a", "change-pin", "-P", "123456", "-N", "secret!")
	says("Successfully unblocked the pin code", "-a", "unblock-pin", "-P", "12345678", "-N", "123456")
	says("BEGIN CERTIFICATE", "-a", "read-certificate", "-s", "9a")
	says("BEGIN PUBLIC KEY", "-a", "generate", "-s", "9c", "-A", "ECCP256")
	says("BEGIN CERTIFICATE", "-a", "attest", "-s", "9c")
	says("Successfully set new CHUID", "-a", "set-chuid")
	if pin, puk := card.Tries(); pin != 3 || puk != 3 {
		t.Errorf("%d and %d tries left", pin, puk)
	}
}

// TestYubicosToolAndOlderKeys: their words for a wrong PIN are understood.
func TestYubicosToolAndOlderKeys(t *testing.T) {
	for name, version := range map[string]string{"yubikey-neo": "1.0.4", "yubikey-4": "4.2.6"} {
		t.Run(name, func(t *testing.T) {
			o, err := models.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			w, card := judged(t, o, alice())
			w.says("Serial Number", "yubico-piv-tool", "--reader", "Gem", "-a", "status")
			w.says(version, "yubico-piv-tool", "--reader", "Gem", "-a", "version")
			w.refused("2 tries left", "yubico-piv-tool", "--reader", "Gem", "-a", "verify-pin", "-P", "654321")
			w.says("Successfully verified PIN", "yubico-piv-tool", "--reader", "Gem", "-a", "verify-pin", "-P", "123456")
			if pin, _ := card.Tries(); pin != 3 {
				t.Errorf("%d tries left", pin)
			}
		})
	}
}
