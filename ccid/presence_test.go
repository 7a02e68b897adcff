package ccid_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// TestEvents: a card comes, goes, is exchanged so fast that only the notification tells, and is there at the start.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(profile(descriptor(extended &^ 4)))
		card := &ccidtest.PatternCard{Bytes: atrT1}
		d.Insert(0, 0, card)
		w := &world{T: t, device: d, reader: open(t, d, 0, plan.Options{})}
		w.slot = w.reader.Slots()[0]
		w.events(true)
		d.Remove(0, 0)
		w.events(false)
		d.Insert(0, 0, card)
		w.events(true)
		ready(t, w.slot, t1)
		time.Sleep(time.Second)
		d.Remove(0, 0)
		d.Insert(0, 0, card)
		w.events(false, true)
		w.reader.Close()
		if _, open := <-w.slot.Events(); open {
			t.Error("an event after the end")
		}
	})
}

// TestStrayNotifications: nonsense on the interrupt endpoint, and a flood of it, are no events, and cost no more than
// a few questions a second.
func TestStrayNotifications(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		w.drain()
		for _, raw := range [][]byte{{}, {0x50}, {0x51}, {0x51, 0, 0, 1}, {0x50, 0}, {0x50, 1}, {0x50, 0xFC}, {0x77, 3}, bytes.Repeat([]byte{0x50}, 64)} {
			w.device.Notify(0, raw)
		}
		w.events()
		before := w.device.Counts().Messages
		for range 10000 {
			w.device.Notify(0, []byte{0x50, 0x03})
			time.Sleep(time.Millisecond)
		}
		if n := w.device.Counts().Messages - before; n > 250 {
			t.Errorf("%d messages because of notifications in 10 s", n)
		}
		exchange(t, w.slot, t1, apdu(1, 1))
	})
}

// TestBrokenInterrupt: an interrupt endpoint that fails is no end: the reader is asked.
func TestBrokenInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(profile(descriptor(extended)))
		r, err := ccid.Open(t.Context(), broken{d.Transport(0)}, d.Info(), interfaceOf(t, d, 0), plan.Options{}, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		w := &world{T: t, device: d, reader: r, slot: r.Slots()[0]}
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		w.events(true)
		d.Remove(0, 0)
		w.events(false)
		before := d.Counts().Messages
		time.Sleep(10 * time.Second)
		if n := d.Counts().Messages - before; n > 30 {
			t.Errorf("%d questions in 10 s", n)
		}
	})
}

// broken has an interrupt endpoint that is halted.
type broken struct{ device.Transport }

func (broken) Interrupt(context.Context, []byte) (int, error) { return 0, device.ErrStall }

// TestPoll: a reader without interrupt endpoint is asked, and a card that was exchanged between two questions is
// reported as gone once.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := profile(descriptor(extended &^ 4))
		p.Interfaces[0].Interrupt = false
		d := ccidtest.New(p)
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		if s.Events() != nil {
			t.Error("the reader cannot tell")
		}
		want := func(present bool) {
			t.Helper()
			if got, err := s.Present(t.Context()); got != present || err != nil {
				t.Errorf("Present: %v, %v, want %v", got, err, present)
			}
		}
		want(false)
		card := &ccidtest.PatternCard{Bytes: atrT1}
		d.Insert(0, 0, card)
		want(true)
		ready(t, s, t1)
		want(true)
		d.Remove(0, 0)
		d.Insert(0, 0, card)
		want(false)
		want(true)
		ready(t, s, t1)
		if err := s.PowerDown(t.Context()); err != nil {
			t.Error(err)
		}
		want(true)
		d.Remove(0, 0)
		want(false)
		if err := s.PowerDown(t.Context()); err != nil {
			t.Errorf("switching off without a card: %v", err)
		}
	})
}

// severalSlots is a reader with slots that work one after the other, or at the same time.
func severalSlots(n int, atOnce bool) ccidtest.Profile {
	p := profile(descriptor(tpdu))
	p.Interfaces[0].CCID.MaxSlotIndex = byte(n - 1)
	if atOnce {
		p.Interfaces[0].CCID.MaxBusySlots = byte(n)
	}
	return p
}

// TestSlots: each slot of a reader is used by a goroutine of its own, with stray frames between; none gets another's
// answer.
func TestSlots(t *testing.T) {
	for _, n := range []int{2, 5, 8, 16} {
		for _, atOnce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d slots, at once %v", n, atOnce), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { useSlots(t, n, atOnce) })
			})
		}
	}
}

func useSlots(t *testing.T, n int, atOnce bool) {
	d := ccidtest.New(severalSlots(n, atOnce))
	r := open(t, d, 0, plan.Options{})
	if len(r.Slots()) != n || r.Plan().Concurrent != atOnce {
		t.Fatalf("%d slots, concurrent %v", len(r.Slots()), r.Plan().Concurrent)
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	d.Inject(ccidtest.Always(func(x *ccidtest.Exchange) bool {
		for i := range x.Answers {
			x.Answers[i].After = time.Duration(random.IntN(30)) * time.Millisecond
		}
		return true
	}))
	var work sync.WaitGroup
	for i, s := range r.Slots() {
		d.Insert(0, i, &ccidtest.PatternCard{Bytes: atrBoth})
		work.Go(func() {
			protocol := uint32(1 + i%2)
			ready(t, s, protocol)
			for k := range 30 {
				exchange(t, s, protocol, apdu((i*k)%250, 1+(i+k)%255))
			}
		})
	}
	work.Wait()
	for i, s := range r.Slots() {
		if present, err := s.Present(t.Context()); !present || err != nil {
			t.Errorf("slot %d: %v, %v", i, present, err)
		}
	}
}

// TestASlotThatWaits: while a card takes its time, the other slots of a reader that can do this work on.
func TestASlotThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(severalSlots(2, true))
		r := open(t, d, 0, plan.Options{})
		for i, s := range r.Slots() {
			d.Insert(0, i, &ccidtest.PatternCard{Bytes: atrT1})
			ready(t, s, t1)
		}
		d.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Extensions(10, 1, time.Second)))
		var work sync.WaitGroup
		start := time.Now()
		work.Go(func() { exchange(t, r.Slots()[0], t1, apdu(1, 1)) })
		synctest.Wait()
		for range 100 {
			exchange(t, r.Slots()[1], t1, apdu(2, 2))
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("the other slot took %v", d)
		}
		work.Wait()
	})
}

// TestSlotEvents: each slot has its own events.
func TestSlotEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(severalSlots(6, false))
		r := open(t, d, 0, plan.Options{})
		for i, s := range r.Slots() {
			w := &world{T: t, device: d, slot: s}
			d.Insert(0, i, &ccidtest.PatternCard{Bytes: atrT1})
			w.events(true)
			d.Remove(0, i)
			w.events(false)
		}
		for i, s := range r.Slots() {
			select {
			case e := <-s.Events():
				t.Errorf("slot %d: %v", i, e)
			default:
			}
		}
	})
}

// TestSecondarySlots: the slots of GemCore POS Pro and SIM Pro beside the first have data rates of their own, of which
// nothing of the first slot's is freed or changed when readers are opened and closed, in any order.
func TestSecondarySlots(t *testing.T) {
	for name, row := range map[string]struct {
		product uint16
		slots   byte
	}{"GemCore POS Pro": {0x3479, 5}, "GemCore SIM Pro": {0x3480, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := profile(descriptor(device.FeatureTPDU | 0x30))
				p.Info.Vendor, p.Info.Product, p.Info.Release = 0x08E6, row.product, 0x0200
				p.Interfaces[0].CCID.MaxSlotIndex, p.Interfaces[0].CCID.MaxDataRate = row.slots-1, 500000
				p.Interfaces[0].Rates = []uint32{10753, 250000, 500000}
				p.Interfaces[0].CCID.DataRatesSupported = 3
				for range 3 {
					d, rec := ccidtest.New(p), &recorder{}
					r := open(t, d, 0, plan.Options{})
					d.Inject(rec.fault)
					for i, s := range r.Slots() {
						d.Insert(0, i, &ccidtest.PatternCard{Bytes: atrT0})
						rec.all()
						ready(t, s, t0)
						want := byte(0x96) // 250000 bit/s
						if i > 0 {
							want = 0x95 // 125000: the most that the others have
						}
						if got := rec.only(message.TypeSetParameters)[0][0]; got != want {
							t.Errorf("slot %d: bmFindexDindex %02X, want %02X", i, got, want)
						}
						exchange(t, s, t0, apdu(10, 10))
					}
					for i := range r.Slots() {
						r.Slots()[len(r.Slots())-1-i].PowerDown(t.Context())
					}
					r.Close()
				}
			})
		})
	}
}

// TestComposite: the readers of a composite device are found by their numbers, whatever stands between them, and used
// at the same time; opening and closing one leaves the other alone.
func TestComposite(t *testing.T) {
	for _, numbers := range [][2]byte{{0, 1}, {1, 2}, {3, 1}, {2, 4}} {
		t.Run(fmt.Sprint(numbers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := profile(descriptor(tpdu))
				p.Interfaces = append(p.Interfaces, p.Interfaces[0])
				p.Interfaces[1].CCID.Features = extended
				p.Interfaces[0].Number, p.Interfaces[1].Number = numbers[0], numbers[1]
				d := ccidtest.New(p)
				a, b := open(t, d, numbers[0], plan.Options{}), open(t, d, numbers[1], plan.Options{})
				if a.Plan().Level != plan.LevelTPDU || b.Plan().Level != plan.LevelExtendedAPDU {
					t.Fatalf("levels %v, %v", a.Plan().Level, b.Plan().Level)
				}
				for i, r := range []*ccid.Reader{a, b} {
					d.Insert(numbers[i], 0, &ccidtest.PatternCard{Bytes: atrT1})
					ready(t, r.Slots()[0], t1)
				}
				for n := range 20 {
					exchange(t, a.Slots()[0], t1, apdu(n, 300))
					exchange(t, b.Slots()[0], t1, apdu(300, n))
				}
				a.Close()
				exchange(t, b.Slots()[0], t1, apdu(1, 1))
				again := open(t, d, numbers[0], plan.Options{})
				ready(t, again.Slots()[0], t1)
				b.Close()
				exchange(t, again.Slots()[0], t1, apdu(1, 1))
			})
		})
	}
}

// TestSilence: while nothing happens, nothing of ours runs: time passes without a message.
func TestSilence(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		w.drain()
		before := w.device.Counts().Messages
		time.Sleep(longest)
		if n := w.device.Counts().Messages - before; n != 0 {
			t.Errorf("%d messages in an hour", n)
		}
	})
}

// TestYesAndNo: a reader that says that a card is there, and that there is none when it is to be powered, is asked again
// and again, but not all the time; and when the card makes contact it is found.
func TestYesAndNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(profile(descriptor(extended)))
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		d.Inject(ccidtest.Times(20, ccidtest.To(message.TypePowerOn, ccidtest.Status(0x42, 0xFE))))
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		start, tries := time.Now(), 0
		for present := range s.Events() {
			if !present {
				continue
			}
			tries++
			if _, err := s.PowerUp(t.Context()); err == nil {
				break
			}
		}
		if d := time.Since(start); tries != 21 || d < 7*time.Second || d > 20*time.Second {
			t.Errorf("%d tries in %v", tries, d)
		}
	})
}
