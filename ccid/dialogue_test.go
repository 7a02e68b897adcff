package ccid_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// dialogues is how many random dialogues are held.
const dialogues = 100_000

// TestRandomDialogues: in dialogues with stale, cut, doubled, lost and reordered frames, of wrong sequence numbers, slots
// and types, no answer is ever taken that is not the card's to that very command.
func TestRandomDialogues(t *testing.T) {
	n := dialogues
	if testing.Short() {
		n /= 10
	}
	for name, f := range map[string]device.Feature{"extended": extended, "TPDU": tpdu} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { holdDialogues(t, f, n/2) })
		})
	}
}

func holdDialogues(t *testing.T, f device.Feature, n int) {
	random := rand.New(rand.NewPCG(7, uint64(f)))
	p := severalSlots(2, true)
	p.Interfaces[0].CCID.Features, p.Interfaces[0].Interrupt = f, false // all that is said is said by this goroutine
	d := ccidtest.New(p)
	r, err := ccid.Open(t.Context(), d.Transport(0), d.Info(), interfaceOf(t, d, 0), plan.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, s := range r.Slots() {
		d.Insert(0, i, &ccidtest.PatternCard{Bytes: atrT1})
		ready(t, s, t1)
	}
	d.Inject(ccidtest.Always(mischief(rand.New(rand.NewPCG(8, uint64(f))))))
	answers, failures := 0, 0
	for i := range n {
		s := r.Slots()[i%2]
		command := apdu(random.IntN(64), 1+random.IntN(64))
		got, err := s.Transmit(t.Context(), t1, command, nil)
		switch {
		case err != nil:
			failures++
			if random.IntN(4) == 0 || code(err) == 612 || code(err) == 616 {
				repower(t, s)
			}
		case !bytes.Equal(got, ccidtest.Pattern(command)):
			t.Fatalf("dialogue %d: % X is no answer to % X", i, got, command)
		default:
			answers++
		}
	}
	t.Logf("%d dialogues: %d right answers, %d errors, none wrong", n, answers, failures)
	if answers < n/2 {
		t.Errorf("only %d of %d had an answer", answers, n)
	}
}

// repower makes a card ready again, in spite of the mischief.
func repower(t *testing.T, s *ccid.Slot) {
	t.Helper()
	for range 100 {
		if _, err := s.PowerUp(t.Context()); err != nil {
			continue
		}
		if s.SetProtocol(t.Context(), t1) == nil {
			return
		}
	}
	t.Fatal("the card cannot be made ready any more")
}

// mischief does something to one exchange in five. Frames that are held back come with a later exchange.
func mischief(random *rand.Rand) ccidtest.Fault {
	var held []ccidtest.Transfer
	return func(x *ccidtest.Exchange) bool {
		if len(held) > 0 && random.IntN(2) == 0 {
			x.Answers = append(held, x.Answers...)
			held = nil
		}
		if len(x.Answers) == 0 || random.IntN(5) != 0 {
			return true
		}
		a := &x.Answers[len(x.Answers)-1]
		stray := ccidtest.Transfer{Data: bytes.Clone(a.Data)}
		if len(stray.Data) > 10 {
			stray.Data[10+random.IntN(len(stray.Data)-10)] ^= byte(1 + random.IntN(255))
		}
		switch random.IntN(10) {
		case 0: // stale: another number
			stray.Data[6] -= byte(1 + random.IntN(200))
			x.Answers = append([]ccidtest.Transfer{stray}, x.Answers...)
		case 1: // another slot
			stray.Data[5] ^= byte(1 + random.IntN(255))
			x.Answers = append([]ccidtest.Transfer{stray}, x.Answers...)
		case 2: // another type
			stray.Data[0] ^= byte(1 + random.IntN(3))
			x.Answers = append([]ccidtest.Transfer{stray}, x.Answers...)
		case 3: // cut
			a.Data = a.Data[:random.IntN(len(a.Data))]
		case 4: // twice
			x.Answers = append(x.Answers, ccidtest.Transfer{Data: bytes.Clone(a.Data)})
		case 5: // comes with a later exchange
			held = append(held, x.Answers...)
			x.Answers = nil
		case 6: // late
			a.After = time.Duration(random.IntN(5000)) * time.Millisecond
		case 7: // a wrong length
			a.Data[1] ^= byte(1 + random.IntN(255))
		case 8: // lost
			x.Answers = nil
		case 9: // empty packets, and the order turned round
			x.Answers = append(x.Answers, ccidtest.Transfer{}, stray)
			stray.Data[6]++
			x.Answers[0], x.Answers[len(x.Answers)-1] = x.Answers[len(x.Answers)-1], x.Answers[0]
		}
		return true
	}
}
