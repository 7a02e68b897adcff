package piv_test

import (
	"crypto"
	"strings"
	"testing"

	"pam_pkcs11/internal/simcard"
)

// TestCounts holds how many commands a login costs.
func TestCounts(t *testing.T) {
	for _, c := range []struct {
		name         string
		atr          []byte
		key          func() crypto.Signer
		first, known int
	}{
		{"RSA-2048 T=1", simcard.ATRT1, rsaKey, 14, 9},
		{"P-256 T=1", simcard.ATRT1, p256, 10, 7},
		{"RSA-2048 T=0", simcard.ATRT0, rsaKey, 19, 11},
		{"P-256 T=0", simcard.ATRT0, p256, 15, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{ATR: c.atr})
			w.put(simcard.KeyAuthentication, c.key(), "Alice Example")

			for _, want := range []int{c.first, c.known, c.known} {
				sent, err := w.login(rightPIN)
				if err != nil {
					t.Fatal(err)
				}
				if len(sent) != want {
					t.Errorf("%d commands, want %d:\n%s", len(sent), want, strings.Join(sent, "\n"))
				}
			}
			if n := w.card.Verifies(); n != 3 {
				t.Errorf("%d PINs were sent, 3 were typed", n)
			}
		})
	}
}
