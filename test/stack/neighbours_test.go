//go:build cgo

package stack

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/rig"
)

// secondReader is the name of a reader that was plugged in beside the first.
const secondReader = "Test Reader 01 00"

// another is another program, which has connected to the card in a reader. It ends with the test.
func (r *testRig) another(reader string, mode pcsc.ShareMode) (*pcsc.Context, *pcsc.Card) {
	r.t.Helper()
	c, err := r.Client()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Release() })
	card, err := c.Connect(reader, mode, pcsc.ProtocolAny)
	if err != nil {
		r.t.Fatal(err)
	}
	return c, card
}

// TestAnotherProgramKeepsTheCard: where another program has the card for itself alone, the login
// ends by itself, without the PIN having been asked for, and the next one goes well.
func TestAnotherProgramKeepsTheCard(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, readers[0], simcard.Options{}).known(p256Key())
			_, card := r.another(rig.ReaderName, pcsc.ShareExclusive)

			began := time.Now()
			refused(t, w.login(r, typist(pin)), "Error 2404")
			if took := time.Since(began); took > deadline {
				t.Errorf("it took %v", took)
			}
			r.counters(0, 3)

			if err := card.Disconnect(pcsc.LeaveCard); err != nil {
				t.Error(err)
			}
			granted(t, w.login(r, typist(pin)))
			r.counters(1, 3)
		})
	}
}

// TestAnotherProgramForgetsItsTransaction: a transaction in which nothing happens is ended by the
// daemon after a while, and the login that has waited for it goes on. Had it given up, that would
// be right too.
func TestAnotherProgramForgetsItsTransaction(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, readers[0], simcard.Options{}).known(p256Key())
			_, card := r.another(rig.ReaderName, pcsc.ShareShared)
			if err := card.BeginTransaction(); err != nil {
				t.Fatal(err)
			}

			began := time.Now()
			end := w.login(r, typist(pin))
			if took := time.Since(began); took > deadline {
				t.Errorf("it took %v", took)
			}
			if end.granted != (r.card.Signatures() == 1) {
				t.Errorf("the card has signed %d times: %v", r.card.Signatures(), end)
			}
			r.counters(end.typed, 3)
		})
	}
}

// TestALoginWaitsForNoOtherReader: alice's card is read and used while another reader is held by
// another program, from before the login until after it; and while a desktop program keeps a shared
// connection to her own card.
func TestALoginWaitsForNoOtherReader(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, readers[0], simcard.Options{}).known(p256Key())
			profile, _ := ccidtest.Model(ccidtest.LevelShort)
			held, err := simcard.New(simcard.Options{ATR: simcard.ATRT1})
			if err != nil {
				t.Fatal(err)
			}
			r.PlugAnother(profile, held)
			r.awaitReader(secondReader, pcsc.StatePresent)

			other, card := r.another(secondReader, pcsc.ShareShared)
			if err := card.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Connect(rig.ReaderName, pcsc.ShareShared, pcsc.ProtocolAny); err != nil {
				t.Fatal(err)
			}
			granted(t, w.login(r, typist(pin)))
			r.counters(1, 3)
		})
	}
}

// muteReaders are readers beside the login's that do not answer before mend is called.
var muteReaders = map[string]func(r *testRig, card *simcard.Card) (mend func()){
	"its card does not answer": func(r *testRig, card *simcard.Card) func() {
		answers := make(chan struct{})
		card.Watch(func(int, [4]byte) error { <-answers; return nil }, nil)
		profile, _ := ccidtest.Model(ccidtest.LevelShort)
		r.PlugAnother(profile, card)
		return sync.OnceFunc(func() { close(answers) })
	},
	"it is not done with power-up": func(r *testRig, card *simcard.Card) func() {
		profile, _ := ccidtest.Model(ccidtest.LevelShort)
		d := r.PlugAnother(profile, card)
		r.awaitReader(secondReader, pcsc.StatePresent)
		_, connected := r.another(secondReader, pcsc.ShareShared)
		if err := connected.Disconnect(pcsc.UnpowerCard); err != nil {
			r.t.Fatal(err)
		}

		var mended atomic.Bool
		d.Inject(ccidtest.To(message.TypePowerOn, func(x *ccidtest.Exchange) bool {
			if !mended.Load() {
				x.Answers = nil
			}
			return mended.Load()
		}))
		return func() { mended.Store(true) }
	},
}

// TestAMuteReader keeps nobody waiting: the login in the other reader has its card's signature, with
// no command more than without it, while the mute one has not answered yet.
func TestAMuteReader(t *testing.T) {
	for _, w := range ways {
		for name, plug := range muteReaders {
			t.Run(w.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, readers[0], simcard.Options{}).known(p256Key())
				granted(t, w.login(r, typist(pin)))
				alone := r.card.Counters().APDUs

				mute, err := simcard.New(simcard.Options{ATR: simcard.ATRT1})
				if err != nil {
					t.Fatal(err)
				}
				mend := plug(r, mute)
				defer mend()
				r.awaitReader(secondReader, pcsc.StatePresent)
				for i := range 2 { // the second while the daemon is still about the first one's question
					end := w.login(r, typist(pin))
					granted(t, end)
					if w.name == direct.name && !strings.Contains(end.log, "slot not waited for") {
						t.Errorf("the mute reader was waited for: %v", end)
					}
					if n := r.card.Counters().APDUs; n != (i+2)*alone {
						t.Errorf("%d commands in %d logins, and one alone has %d", n, i+2, alone)
					}
				}
				r.counters(3, 3)

				mend()
				granted(t, w.login(r, typist(pin)))
				r.counters(4, 3)
			})
		}
	}
}

// TestASlowReaderHasTheCard: while the card in the quick reader is bob's, alice's is waited for, and
// bob's gets no PIN.
func TestASlowReaderHasTheCard(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, readers[0], simcard.Options{})
			r.put(simcard.KeyAuthentication, "bob", p256Key())
			second, err := simcard.New(simcard.Options{PIN: pin, ATR: simcard.ATRT1})
			if err != nil {
				t.Fatal(err)
			}
			cert := theStage(t).CA.Leaf("alice", testca.WithKey(p256Key()))
			if err := second.SetKey(simcard.KeyAuthentication, p256Key().Private, cert.DER); err != nil {
				t.Fatal(err)
			}
			slow := muteReaders["its card does not answer"](r, second)
			r.awaitReader(secondReader, pcsc.StatePresent)

			// It answers when the login has asked bob's card a second time: once it was found to be
			// bob's, and hers waited for.
			selected := 0
			r.card.Watch(func(_ int, header [4]byte) error {
				if header[1] == 0xA4 {
					if selected++; selected == 2 {
						slow()
					}
				}
				return nil
			}, nil)
			defer slow()
			granted(t, w.login(r, typist(pin)))
			r.counters(0, 3)
			if n := second.Verifies(); n != 1 {
				t.Errorf("alice's card has got %d PINs", n)
			}
		})
	}
}

// TestAThousandLogins: logins at ten different cards, as fast as they go, leave nothing open and
// never fail.
func TestAThousandLogins(t *testing.T) {
	const cards, each = 10, 100
	var rigs []*testRig
	for i := range cards {
		rigs = append(rigs, newRig(t, readers[i%len(readers)], simcard.Options{}).known(keys[2+i%2].key()))
	}
	login := func(times int) {
		var work sync.WaitGroup
		for _, r := range rigs {
			work.Go(func() {
				for range times {
					granted(t, direct.login(r, typist(pin)))
				}
			})
		}
		work.Wait()
	}

	login(1)
	before := openFiles(t)
	began := time.Now()
	login(each)
	t.Logf("%.0f logins a second", cards*each/time.Since(began).Seconds())
	for _, r := range rigs {
		r.counters(each+1, 3)
	}
	// A connection is closed by its server when it finds the client gone.
	var after int
	if !slowtest.Poll(patience, time.Millisecond, func() bool {
		after = openFiles(t)
		return after <= before
	}) {
		t.Errorf("%d files were open before the logins, %d are afterwards", before, after)
	}
}

// openFiles is how many this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		// Those of the runtime come and go.
		if target, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}
