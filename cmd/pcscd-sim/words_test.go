package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/container"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
)

// described makes the card of a description that has these lines about it.
func described(t *testing.T, lines ...string) (*simcard.Card, error) {
	t.Helper()
	lines = append([]string{"reader R", "card piv", "certificate 9C " + someFile(t)}, lines...)
	all, err := parse("test", strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return nil, err
	}
	card, err := all[0].newCard()
	if err != nil {
		return nil, err
	}
	return card.(*simcard.Card), nil
}

// says sends commands, and compares the last answer.
func says(t *testing.T, card *simcard.Card, want string, commands ...string) {
	t.Helper()
	var got []byte
	for _, c := range append([]string{"00A4040009A0000003080000100000"}, commands...) {
		b, err := hex.DecodeString(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = card.Transmit(b); err != nil {
			t.Fatal(err)
		}
	}
	if text := fmt.Sprintf("%X", got); text != want {
		t.Errorf("%v: %s, want %s", commands, text, want)
	}
}

// someFile has a certificate: a card that is given one makes no keys of its own, which takes long.
func someFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, testca.NewRoot("Example CA").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// someFiles are a key, its certificate and an object.
func someFiles(t *testing.T) (key, certificate, object string, der []byte) {
	t.Helper()
	dir := t.TempDir()
	k := testca.P256()
	leaf := testca.NewRoot("Example CA").Leaf("alice", testca.WithKey(k))
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key = write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return key, write("cert.pem", leaf.PEM()), write("object", []byte{1, 2, 3}), leaf.DER
}

// TestWords: what the words of a description make of a card.
func TestWords(t *testing.T) {
	key, certificate, object, der := someFiles(t)
	gzipped, err := container.Form{Compression: container.Gzip}.Object(der)
	if err != nil {
		t.Fatal(err)
	}
	const verify, wrong, ask = "0020008008313233343536FFFF", "0020008008363534333231FFFF", "00200080"
	for _, tt := range []struct {
		lines    []string
		commands []string
		want     string
	}{
		{[]string{"pin 654321", "tries 5 7"}, []string{wrong}, "9000"},
		{[]string{"tries 5"}, []string{wrong}, "63C4"},
		{[]string{"puk 87654321"}, []string{"002C0080103837363534333231363534333231FFFF", wrong}, "9000"},
		{[]string{"global 666666 9"}, []string{"00200000"}, "63C9"},
		{[]string{"usage 4010"}, []string{"00CB3FFF035C017E00"}, "7E124F0BA0000003080000100001005F2F0240109000"},
		{[]string{"discovery no"}, []string{"00CB3FFF035C017E00"}, "6A82"},
		{[]string{"version 5.7.1", "serial-number 1"}, []string{"00F8000000"}, "000000019000"},
		{[]string{"metadata full"}, []string{"00F7008000"}, "0101FF050101060203039000"},
		{[]string{"model yubikey-5", "version 5.4.3"}, []string{"00FD000000"}, "0504039000"},
		{[]string{"model nitrokey-3", "tries 1"}, []string{wrong}, "6983"},
		{[]string{"pins any-bytes no-forget"}, []string{"0020FF80"}, "6A86"},
		{[]string{"select absent-deselects bare"}, []string{"00A4040007A000000151000000", ask}, "6D00"},
		{[]string{"foreign yes"}, []string{"00A4040008F053494D4341524400", ask}, "63C3"},
		{[]string{"contactless free"}, []string{ask}, "6982"},
		{[]string{"object 5FC106 " + object}, []string{"00CB3FFF055C035FC10600"}, "53030102039000"},
		{[]string{"object 5FC102 none", "absent 53 00 9000"}, []string{"00CB3FFF055C035FC10200"}, "53009000"},
		{[]string{"answer 5FC105 6A80"}, []string{"00CB3FFF055C035FC10500"}, "6A80"},
		{[]string{"history 3 http://x/"}, []string{"00CB3FFF055C035FC10C00"}, "5313C10100C20103F309687474703A2F2F782FFE009000"},
		{[]string{"limits short-only"}, []string{"00CB3FFF0000055C035FC1020000"}, "6700"},
		{[]string{"factory yes"}, []string{"00CB3FFF055C035FC10200"}, "6A82"},
	} {
		card, err := described(t, tt.lines...)
		if err != nil {
			t.Errorf("%v: %v", tt.lines, err)
			continue
		}
		says(t, card, tt.want, tt.commands...)
	}

	card, err := described(t, "key 9A "+key, "certificate 9A "+certificate+" gzip", "guid 000102030405060708090A0B0C0D0E0F", "policy 9A never default")
	if err != nil {
		t.Fatal(err)
	}
	if card.String() != "PIV card 000102030405060708090A0B0C0D0E0F" {
		t.Error(card)
	}
	says(t, card, "6A82", "00CB3FFF055C035FC10600") // selects PIV
	answer, _ := card.Transmit([]byte{0, 0xCB, 0x3F, 0xFF, 0, 0, 5, 0x5C, 3, 0x5F, 0xC1, 5, 0, 0})
	if !bytes.Contains(answer, gzipped) {
		t.Errorf("%X", answer)
	}
	answer, _ = card.Transmit([]byte{0, 0x87, 0x11, 0x9A, 6, 0x7C, 4, 0x82, 0, 0x81, 0, 0})
	if !bytes.Equal(answer, []byte{0x6A, 0x80}) {
		t.Errorf("a key that needs no PIN: %X", answer)
	}
}

// TestTraceAndProfile: a trace has a line for each command, and what it costs.
func TestTraceAndProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	card, err := described(t, "profile yubikey5", "trace "+file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(card.ATR(), models.ATRYubiKey5) {
		t.Errorf("%X", card.ATR())
	}
	says(t, card, "9000", "0020008008313233343536FFFF")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "2 00200080 13 2 9000 10000000\n"; !strings.HasSuffix(string(text), want) {
		t.Errorf("%q, want %q at its end", text, want)
	}
}

// TestTouchByFile: the card is touched as soon as the file is there.
func TestTouchByFile(t *testing.T) {
	key, _, _, _ := someFiles(t)
	file := filepath.Join(t.TempDir(), "finger")
	card, err := described(t, "key 9A "+key, "policy 9A default always", "touch "+file)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []byte)
	go func() {
		var answer []byte
		for _, c := range []string{
			"00A4040009A0000003080000100000", "0020008008313233343536FFFF", "0087119A0A7C08820081040102030400",
		} {
			b, _ := hex.DecodeString(c)
			answer, _ = card.Transmit(b)
		}
		done <- answer
	}()
	await(t, card.Waiting)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if answer := <-done; !bytes.HasSuffix(answer, []byte{0x90, 0x00}) {
		t.Errorf("%X", answer)
	}
}

// TestWrongWords: each is refused with a reason.
func TestWrongWords(t *testing.T) {
	for _, line := range []string{
		"model", "model none", "profile none", "tries 0", "tries 3 x", "usage 40", "guid 00", "atr x", "version 5", "version 5.x.1",
		"serial-number x", "object 5FC102", "object x y", "object 5FC102 /nowhere", "answer 5FC102 90", "absent 9", "history 99",
		"policy 9A once", "policy 9A often never", "touch soon", "touch-wait 0s", "ed25519 E0E0", "pins none", "select none",
		"trace /nowhere/file", "signatures fine", "word", "pin 12345", "puk 1",
	} {
		if _, err := described(t, line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(ruleWords)) {
		for rule := range ruleWords[word] {
			if _, err := described(t, word+" "+rule); err != nil {
				t.Errorf("%s %s: %v", word, rule, err)
			}
		}
	}
}
