//go:build cgo

package stack

import (
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/piv/cache"
)

// TestCommandsOfALogin holds how many commands a login sends to the card, through the driver: the
// counter of tries before the prompt and the lock afterwards are one each. A known card needs
// exactly so many; one that is seen first at most, since the length of its certificate counts.
func TestCommandsOfALogin(t *testing.T) {
	yubiKey, err := models.Find("yubikey-5")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		reader       model
		card         simcard.Options
		key          int // of keys
		first, known int
	}{
		{"RSA-2048, T=1", readers[0], simcard.Options{}, 0, 14, 9},
		{"P-256, T=1", readers[0], simcard.Options{}, 2, 10, 7},
		{"RSA-2048, T=0", readers[1], simcard.Options{}, 0, 19, 11},
		{"P-256, T=0", readers[1], simcard.Options{}, 2, 15, 9},
		{"RSA-2048, short APDUs", readers[2], simcard.Options{}, 0, 14, 9},
		{"RSA-2048, extended APDUs", readers[3], simcard.Options{}, 0, 14, 9},
		// One more for the metadata of a card that has them.
		{"RSA-2048, YubiKey 5", readers[3], yubiKey, 0, 15, 9},
		{"P-256, YubiKey 5", readers[3], yubiKey, 2, 11, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.reader, c.card).known(keys[c.key].key())
			if r.cache, err = cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{}); err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{c.first, c.known, c.known} {
				before := r.card.Counters().APDUs
				granted(t, direct.login(r, typist(pin)))
				n := r.card.Counters().APDUs - before
				if n > want || i > 0 && n != want {
					t.Errorf("login %d: %d commands, not %d", i+1, n, want)
				}
			}
			r.counters(3, 3)
			if n := r.card.Signatures(); n != 3 {
				t.Errorf("the card has signed %d times in three logins", n)
			}
		})
	}
}
