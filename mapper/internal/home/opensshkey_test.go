package home

import (
	"crypto"
	//lint:ignore SA1019 old cards have such keys
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestOpenSSHKeyAsTheLibraryHasIt: each kind of key is written and named as golang.org/x/crypto/ssh does it, and what
// that refuses is refused.
func TestOpenSSHKeyAsTheLibraryHasIt(t *testing.T) {
	bits := func(n uint) *big.Int { return new(big.Int).SetBit(big.NewInt(5), int(n)-1, 1) }
	var keys []crypto.PublicKey
	for range 40 { // the top bit of a number, and zeros at its beginning
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, &key.PublicKey, public)
	}
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, &key.PublicKey)
	}
	for _, size := range []uint{1024, 1031, 2047, 2048, 4096} {
		for _, e := range []int{3, 0x80, 0xFFFF, 65537, 1<<31 - 1} {
			keys = append(keys, &rsa.PublicKey{N: bits(size), E: e})
		}
	}
	for _, size := range []uint{1023, 1024, 1025, 2048} {
		keys = append(keys, &dsa.PublicKey{Parameters: dsa.Parameters{P: bits(size), Q: bits(160), G: bits(1000)}, Y: bits(1024)})
	}
	for _, public := range keys {
		got, ok := newOpenSSHKey(public)
		want, err := ssh.NewPublicKey(public)
		if ok != (err == nil) {
			t.Errorf("%T %v: %v, the library says %v", public, public, ok, err)
			continue
		}
		if !ok {
			continue
		}
		if line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(want))); got.String() != line {
			t.Errorf("%T: %s, want %s", public, got, line)
		}
		if f := ssh.FingerprintSHA256(want); got.fingerprint() != f {
			t.Errorf("%T: %s, want %s", public, got.fingerprint(), f)
		}
	}
	for _, public := range []crypto.PublicKey{nil, &dsa.PublicKey{}, "a string"} {
		if _, ok := newOpenSSHKey(public); ok {
			t.Errorf("%T is a key", public)
		}
	}
}
