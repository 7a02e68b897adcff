//go:build cgo

package stack

import (
	"testing"

	"pam_pkcs11/internal/simcard"
)

// TestEveryKeyInEveryReader logs in with the right PIN, a wrong one and the right one again, in
// each kind of reader with each kind of key.
func TestEveryKeyInEveryReader(t *testing.T) {
	for _, w := range ways {
		for _, m := range readers {
			for _, k := range keys {
				t.Run(w.name+"/"+m.name+"/"+k.name, func(t *testing.T) {
					r := newRig(t, m, simcard.Options{}).known(k.key())
					granted(t, w.login(r, typist(pin)))
					r.counters(1, 3)
					refused(t, w.login(r, typist(wrongPIN)), "Error 2320")
					r.counters(2, 2)
					granted(t, w.login(r, typist(pin)))
					r.counters(3, 3)
					if n := r.card.Signatures(); n != 2 {
						t.Errorf("the card has signed %d times in two logins", n)
					}
					if r.card.Unlocked() {
						t.Error("the card is unlocked after the login")
					}
				})
			}
		}
	}
}
