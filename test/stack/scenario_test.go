//go:build cgo

package stack

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/container"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/piv"
	"pam_pkcs11/test/rig"
	"pam_pkcs11/token"
)

// rsaKey and p256Key are the keys of most scenarios.
func rsaKey() *testca.Key  { return keys[0].key() }
func p256Key() *testca.Key { return keys[2].key() }

// scenarios are what can be the matter with a card, or happen to it between logins. Each has its
// rig to itself.
var scenarios = []struct {
	name string
	card simcard.Options
	play func(t *testing.T, r *testRig, w way)
}{
	{"three wrong PINs lock it", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		for i := range 3 {
			said := "Error 2320"
			if i == 2 {
				said = "Error 2346"
			}
			refused(t, w.login(r, typist(wrongPIN)), said)
			r.counters(i+1, 2-i)
		}
		end := w.login(r, typist(pin))
		refused(t, end, "Error 2346")
		if len(end.asked) > 0 {
			t.Errorf("a PIN was asked for that could not help: %v", end)
		}
		r.counters(3, 0)
	}},
	{"the last try is right", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(rsaKey())
		for range 2 {
			refused(t, w.login(r, typist(wrongPIN)), "Error 2320")
		}
		r.counters(2, 1)
		end := w.login(r, typist(pin))
		granted(t, end)
		if len(end.asked) != 1 || !strings.Contains(end.asked[0], "last try") {
			t.Errorf("the prompt does not tell of the last try: %q", end.asked)
		}
		r.counters(3, 3)
	}},
	{"the PIN was changed", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		const fresh = "314159"
		r.session(func(ctx context.Context, s token.Session) error {
			return s.ChangePIN(ctx, secretOf(t, pin), secretOf(t, fresh))
		})
		refused(t, w.login(r, typist(pin)), "Error 2320")
		granted(t, w.login(r, typist(fresh)))
		r.counters(2, 3)
	}},
	{"it was unblocked", simcard.Options{Tries: 1, PUKTries: 3}, func(t *testing.T, r *testRig, w way) {
		r.known(rsaKey())
		refused(t, w.login(r, typist(wrongPIN)), "Error 2346")
		refused(t, w.login(r, typist(pin)), "Error 2346")
		const fresh = "314159"
		r.session(func(ctx context.Context, s token.Session) error {
			return s.Unblock(ctx, secretOf(t, puk), secretOf(t, fresh))
		})
		granted(t, w.login(r, typist(fresh)))
		r.counters(2, 1)
	}},
	{"the global PIN serves, and the card prefers it", simcard.Options{GlobalPIN: "161803"}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		refused(t, w.login(r, typist(wrongPIN)), "Error 2320")
		if n := r.card.GlobalTries(); n != 2 {
			t.Errorf("%d tries of the global PIN are left, not 2", n)
		}
		granted(t, w.login(r, typist("161803")))
		r.counters(2, 3)
	}},
	{"the certificate is compressed", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		cert := r.put(simcard.KeyAuthentication, "alice", rsaKey())
		if err := r.card.SetCertificate(simcard.KeyAuthentication, cert.DER, container.Form{Compression: container.Gzip}); err != nil {
			t.Fatal(err)
		}
		granted(t, w.login(r, typist(pin)))
		r.counters(1, 3)
	}},
	{"it is another user's", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.put(simcard.KeyAuthentication, "bob", p256Key())
		// On a busy machine the PIN is asked for before it is known whose card it is; the card does
		// not get it.
		refused(t, w.login(r, typist(pin)), "Error 2358")
		r.counters(0, 3)
	}},
	{"only 9C has a certificate", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.put(simcard.KeySignature, "alice", rsaKey())
		granted(t, w.login(r, typist(pin)))
		r.counters(1, 3)
	}},
	{"the key of its certificate is another", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		cert := r.put(simcard.KeyAuthentication, "alice", rsaKey())
		if err := r.card.SetKey(simcard.KeyAuthentication, testca.RSA(2048, "thief").Private, cert.DER); err != nil {
			t.Fatal(err)
		}
		refused(t, w.login(r, typist(pin)), "Error 2342")
		r.counters(1, 3)
	}},
	{"another program has verified the PIN", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		done := r.verified()
		defer done()
		refused(t, w.login(r, typist(wrongPIN)), "Error 2320")
		if r.card.Signatures() != 0 {
			t.Error("the card has signed without the user's PIN")
		}
		refused(t, w.login(r, typist("")), "Error 2318")
		granted(t, w.login(r, typist(pin)))
		r.counters(3, 3) // one of them is the other program's
	}},
	{"a PIN of letters does not reach it", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		refused(t, w.login(r, typist("secret")), "Error 2366")
		r.counters(0, 3)
	}},
	{"it is pulled while the user types", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(rsaKey())
		p := typist(pin)
		p.asked = func(string) { r.Pull(); r.await(pcsc.StateEmpty) }
		refused(t, w.login(r, p), "Error 2368")
		r.counters(0, 3)
		r.Insert()
		r.await(pcsc.StatePresent)
		granted(t, w.login(r, typist(pin)))
	}},
	{"bob's card takes its place while the user types", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(rsaKey())
		bob := newRig(t, readers[0], simcard.Options{})
		bob.put(simcard.KeyAuthentication, "bob", p256Key())
		p := typist(pin)
		p.asked = func(string) {
			r.Pull()
			r.await(pcsc.StateEmpty)
			r.Swap(bob.card)
			r.await(pcsc.StatePresent)
		}
		refused(t, w.login(r, p), "Error 2368")
		r.counters(0, 3)
		bob.counters(0, 3)
	}},
	{"nobody gives a name", simcard.Options{}, func(t *testing.T, r *testRig, w way) {
		r.known(p256Key())
		p := typist(pin)
		p.noUser = true
		granted(t, w.login(r, p))
		r.counters(1, 3)
	}},
}

// TestScenarios plays what can be the matter with a card, on both ways, in a reader of T=1 and in
// one of T=0.
func TestScenarios(t *testing.T) {
	for _, w := range ways {
		for _, m := range readers[:2] {
			for _, s := range scenarios {
				t.Run(w.name+"/"+m.name+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					s.play(t, newRig(t, m, s.card), w)
				})
			}
		}
	}
}

// touched is a YubiKey 5 whose key in 9A wants to be touched, with an answer to reset that offers the
// protocol of a reader's cards only: it is the same card to whoever looks at the historical bytes.
func touched(t *testing.T, m model, change func(*simcard.Options)) simcard.Options {
	t.Helper()
	o, err := models.Find("yubikey-5")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(m.atr, simcard.ATRT0) {
		atr, err := iso7816.ParseATR(o.ATR)
		if err != nil {
			t.Fatal(err)
		}
		o.ATR = append([]byte{0x3B, byte(len(atr.Historical))}, atr.Historical...) // no TD1: T=0
	}
	o.Policies = map[simcard.KeyRef]simcard.Policy{simcard.KeyAuthentication: {Touch: simcard.TouchAlways}}
	change(&o)
	return o
}

// TestTouch has a key that waits to be touched, in each kind of reader.
func TestTouch(t *testing.T) {
	const takes = 200 * time.Millisecond
	for _, w := range ways {
		for _, m := range readers {
			t.Run(w.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, m, touched(t, m, func(o *simcard.Options) { o.TouchAfter = takes })).known(rsaKey())
				end := w.login(r, typist(pin))
				granted(t, end)
				if !strings.Contains(end.said, "Touch") {
					t.Errorf("nobody was told to touch it: %v", end)
				}
				r.counters(1, 3)

				r = newRig(t, m, touched(t, m, func(o *simcard.Options) { o.TouchWait = takes })).known(p256Key())
				refused(t, w.login(r, typist(pin)), "Error 2402")
				r.counters(1, 3)
			})
		}
	}
}

// TestPINPad has the PIN typed at the reader's keys.
func TestPINPad(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRigWith(t, readers[0], simcard.Options{}, ccidtest.PINPad()).known(rsaKey())

			r.Press(ccidtest.Pad{Old: pin})
			granted(t, w.login(r, typist()))
			r.counters(1, 3)
			r.Press(ccidtest.Pad{Old: wrongPIN})
			refused(t, w.login(r, typist()), "Error 2320")
			r.counters(2, 2)
			r.Press(ccidtest.Pad{Cancel: true})
			refused(t, w.login(r, typist()), "Error 2316")
			r.counters(2, 2)
			r.Press(ccidtest.Pad{Old: pin})
			granted(t, w.login(r, typist()))
			r.counters(3, 3)
		})
	}
}

// TestTwoCards: alice's card is in the second reader, bob's in the first, and hers alone gets the
// PIN.
func TestTwoCards(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, readers[0], simcard.Options{})
			r.put(simcard.KeyAuthentication, "bob", p256Key())
			second, err := simcard.New(simcard.Options{PIN: pin, ATR: simcard.ATRT1})
			if err != nil {
				t.Fatal(err)
			}
			cert := theStage(t).CA.Leaf("alice", testca.WithKey(rsaKey()))
			if err := second.SetKey(simcard.KeyAuthentication, rsaKey().Private, cert.DER); err != nil {
				t.Fatal(err)
			}
			profile, _ := ccidtest.Model(ccidtest.LevelShort)
			r.PlugAnother(profile, second)
			r.awaitReader(secondReader, pcsc.StatePresent)

			granted(t, w.login(r, typist(pin)))
			r.counters(0, 3)
			if n := second.Verifies(); n != 1 {
				t.Errorf("alice's card has got %d PINs", n)
			}
		})
	}
}

// session opens the card with the built-in module, as the tools do.
func (r *testRig) session(do func(context.Context, token.Session) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := piv.New(pcsc.NewClient(r.Socket), piv.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer m.Close()
	slots, err := m.Slots(ctx)
	if err != nil || len(slots) != 1 || slots[0].Token == nil {
		r.t.Fatalf("the slots are %+v, %v", slots, err)
	}
	s, err := m.Open(ctx, slots[0])
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	if err := do(ctx, s); err != nil {
		r.t.Error(err)
	}
}

func secretOf(t *testing.T, s string) *secret.PIN {
	t.Helper()
	p, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Wipe)
	return p
}

// verified has another program verify the PIN, and stay connected until done is called.
func (r *testRig) verified() (done func()) {
	r.t.Helper()
	other, err := pcsctest.NewOther(pcsc.NewClient(r.Socket), rig.ReaderName)
	if err == nil {
		err = other.Do("verify " + pin)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return func() {
		if err := other.Close(); err != nil {
			r.t.Error(err)
		}
	}
}
