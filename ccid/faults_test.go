package ccid_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/slowtest"
)

// world is a reader of one slot with a card that was made ready, in a bubble of time.
type world struct {
	*testing.T
	device *ccidtest.Device
	reader *ccid.Reader
	slot   *ccid.Slot
	card   *ccidtest.PatternCard
}

// inWorld runs a test with a reader of TPDU level (T=1) or of extended APDUs.
func inWorld(t *testing.T, f device.Feature, protocol uint32, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, device: ccidtest.New(profile(descriptor(f))), card: &ccidtest.PatternCard{Bytes: atrBoth}}
		w.reader = open(t, w.device, 0, plan.Options{})
		w.slot = w.reader.Slots()[0]
		w.device.Insert(0, 0, w.card)
		ready(t, w.slot, protocol)
		test(t, w)
	})
}

// TestFramesThatAnswerNothing: whatever comes before the right answer is dropped, and the answer is taken.
func TestFramesThatAnswerNothing(t *testing.T) {
	for name, fault := range map[string]ccidtest.Fault{
		"one stale frame":      ccidtest.Stale(1),
		"forty stale frames":   ccidtest.Stale(40),
		"a frame of slot 1":    ccidtest.ForeignSlot(1),
		"a frame of slot 255":  ccidtest.ForeignSlot(255),
		"another type":         ccidtest.ForeignType(message.TypeParameters),
		"a type of the host":   ccidtest.ForeignType(message.TypeXfrBlock),
		"a slot status":        ccidtest.ForeignType(message.TypeSlotStatus),
		"another's refusal":    refusal(6),
		"a refusal elsewhere":  refusal(5),
		"empty packets":        ccidtest.EmptyPackets(3),
		"the answer twice":     ccidtest.Doubled,
		"a late answer":        ccidtest.Late(2 * time.Second),
		"time extensions":      ccidtest.Extensions(5, 1, 2*time.Second),
		"long time extensions": ccidtest.Extensions(3, 20, 40*time.Second),
		"extensions with 0":    ccidtest.Extensions(3, 0, time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, extended, t1, func(t *testing.T, w *world) {
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, fault))
				exchange(t, w.slot, t1, apdu(20, 100))
				exchange(t, w.slot, t1, apdu(1, 1)) // what is left over does not answer this
				if c := w.device.Counts(); c.Aborts != 0 {
					t.Errorf("the reader counts %+v", c)
				}
			})
		})
	}
}

// TestBadAnswersEndTheCommand: an answer that is cut, too long or none ends the command with an error in time, the
// reader is with us again, and no later command gets what was left over.
func TestBadAnswersEndTheCommand(t *testing.T) {
	for name, fault := range map[string]ccidtest.Fault{
		"cut in the header":       ccidtest.Cut(9),
		"cut after the header":    ccidtest.Cut(10),
		"cut in the data":         ccidtest.Cut(50),
		"dwLength 0":              ccidtest.Length(0),
		"dwLength 2^32-1":         ccidtest.Length(0xFFFFFFFF),
		"longer than dwLength":    ccidtest.Longer(5),
		"no answer":               ccidtest.Silent,
		"a minute late":           ccidtest.Late(time.Minute),
		"late in the abort":       ccidtest.Late(63 * time.Second),
		"read stalls":             ccidtest.Breaks(device.ErrStall),
		"read babbles":            ccidtest.Breaks(device.ErrOverflow),
		"write stalls":            ccidtest.Refuses(device.ErrStall),
		"only another's sequence": ccidtest.Times(1, wrong(6)),
		"only another's slot":     ccidtest.Times(1, wrong(5)),
		"only another's type":     ccidtest.Times(1, wrong(0)),
		"a storm of extensions":   ccidtest.Extensions(30000, 1, 0),
		"a long storm":            ccidtest.Extensions(1000, 255, 2*time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, extended, t1, func(t *testing.T, w *world) {
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, fault))
				start := time.Now()
				answer, err := w.slot.Transmit(t.Context(), t1, apdu(20, 100), nil)
				if err == nil {
					t.Fatalf("an answer of %d bytes", len(answer))
				}
				if c := code(err); c != 612 && c != 613 {
					t.Errorf("code %d: %v", c, err)
				}
				if d := time.Since(start); d > 16*time.Minute {
					t.Errorf("it took %v", d)
				}
				for n := 1; n < 20; n++ {
					exchange(t, w.slot, t1, apdu(n, n))
				}
			})
		})
	}
}

// wrong changes one byte of the header.
func wrong(at int) ccidtest.Fault {
	return func(x *ccidtest.Exchange) bool {
		x.Answers[0].Data[at] ^= 1
		return true
	}
}

// refusal puts a slot status that says "failed" before the answer, with one byte of the header that is not this command's.
func refusal(at int) ccidtest.Fault {
	return func(x *ccidtest.Exchange) bool {
		b := append([]byte{byte(message.TypeSlotStatus), 0, 0, 0, 0}, x.Request[5], x.Request[6], 0x40, 0, 0)
		b[at]--
		x.Answers = append([]ccidtest.Transfer{{Data: b}}, x.Answers...)
		return true
	}
}

// TestUnknownCommand: a reader that answers a command with a failed slot status, as QEMU's does, has answered: nobody
// waits for more, and nothing is aborted.
func TestUnknownCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := profile(descriptor(extended))
		p.Interfaces[0].CCID.PINSupport, p.Info.Vendor, p.Info.Product = 1, 0x08E6, 0x4433 // is asked for its features
		d := ccidtest.New(p)
		d.Inject(ccidtest.To(message.TypeEscape, ccidtest.Unknown))
		start := time.Now()
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrBoth})
		ready(t, s, t1)
		d.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Unknown))
		if answer, err := s.Transmit(t.Context(), t1, apdu(1, 1), nil); code(err) == 0 {
			t.Errorf("% X, %v", answer, err)
		}
		exchange(t, s, t1, apdu(1, 1))
		if c := d.Counts(); c.Aborts != 0 || time.Since(start) > 100*time.Millisecond {
			t.Errorf("it took %v, counts %+v", time.Since(start), c)
		}
	})
}

// TestTheLadder: abort, then the interface afresh, then a reset of the device, each only when the one before did not
// help. After a reset the card counts as gone and back.
func TestTheLadder(t *testing.T) {
	for name, row := range map[string]struct {
		fault ccidtest.Fault
		want  ccidtest.Counts
	}{
		"abort":             {ccidtest.To(message.TypeXfrBlock, ccidtest.Silent), ccidtest.Counts{Aborts: 1}},
		"interface":         {ccidtest.Deaf(false), ccidtest.Counts{Aborts: 1, Reclaims: 1}},
		"halt of the pipe":  {ccidtest.To(message.TypeXfrBlock, ccidtest.Breaks(device.ErrStall)), ccidtest.Counts{Aborts: 1, Reclaims: 1}},
		"reset":             {ccidtest.Deaf(true), ccidtest.Counts{Aborts: 1, Reclaims: 1, Resets: 1}},
		"abort is unknown":  {both(ccidtest.To(message.TypeXfrBlock, ccidtest.Silent), ccidtest.To(message.TypeAbort, ccidtest.Fails(0))), ccidtest.Counts{Aborts: 1}},
		"abort comes after": {ccidtest.To(message.TypeXfrBlock, ccidtest.Late(60200*time.Millisecond)), ccidtest.Counts{Aborts: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, extended, t1, func(t *testing.T, w *world) {
				w.drain()
				w.device.Inject(row.fault)
				if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); err == nil {
					t.Fatal("an answer")
				}
				got := w.device.Counts()
				got.Messages, got.Exchanges = 0, 0
				if got != row.want {
					t.Errorf("counts %+v, want %+v", got, row.want)
				}
				if row.want.Resets > 0 {
					w.events(false, true)
					if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); code(err) != 612 {
						t.Errorf("before power: %v", err)
					}
					ready(t, w.slot, t1)
				}
				exchange(t, w.slot, t1, apdu(10, 200))
			})
		})
	}
}

// both applies two faults, each once.
func both(a, b ccidtest.Fault) ccidtest.Fault {
	var doneA, doneB bool
	return func(x *ccidtest.Exchange) bool {
		doneA = doneA || a(x)
		doneB = doneB || b(x)
		return doneA && doneB
	}
}

// all applies faults together.
func all(faults ...ccidtest.Fault) ccidtest.Fault {
	return func(x *ccidtest.Exchange) bool {
		for _, f := range faults {
			f(x)
		}
		return true
	}
}

// drain forgets the events so far.
func (w *world) drain() {
	for {
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		select {
		case <-w.slot.Events():
		default:
			return
		}
	}
}

// TestNothingHelps: a reader that stays deaf ends every call with an error, and does not stop the next.
func TestNothingHelps(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		w.device.Inject(ccidtest.Always(ccidtest.Silent))
		for range 3 {
			start := time.Now()
			if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); err == nil {
				t.Fatal("an answer")
			}
			if d := time.Since(start); d > 2*time.Minute {
				t.Errorf("it took %v", d)
			}
		}
	})
}

// TestEveryStatus: whatever bStatus and bError are, no call panics, only "done" gives an answer, and the reader works
// afterwards.
func TestEveryStatus(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		for status := range 256 {
			for _, problem := range []byte{0, 1, 5, 7, 0x7F, 0x80, 0xA2, 0xBB, 0xE0, 0xEF, 0xF0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF} {
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Status(byte(status), problem)))
				answer, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil)
				if (err == nil) != (status&0xC0 == 0) {
					t.Fatalf("bStatus %02X, bError %02X: %X, %v", status, problem, answer, err)
				}
				if wantGone := status&0xC0 != 0 && status&0xC0 != 0x80 && status&3 >= 2 && (problem >= 0x80 || problem == 5); err != nil && (code(err) == 616) != wantGone {
					t.Fatalf("bStatus %02X, bError %02X: code %d: %v", status, problem, code(err), err)
				}
				if code(err) == 616 {
					ready(t, w.slot, t1)
				}
			}
		}
		ready(t, w.slot, t1)
		exchange(t, w.slot, t1, apdu(1, 1))
	})
}

// TestChainsThatDoNotEnd: an extended answer whose chain parameter makes no sense, or never ends.
func TestChainsThatDoNotEnd(t *testing.T) {
	for name, fault := range map[string]ccidtest.Fault{
		"always begins":      ccidtest.Always(ccidtest.To(message.TypeXfrBlock, ccidtest.Special(1))),
		"always goes on":     ccidtest.Always(ccidtest.To(message.TypeXfrBlock, ccidtest.Special(3))),
		"always empty":       ccidtest.Always(ccidtest.To(message.TypeXfrBlock, all(ccidtest.Special(0x10), ccidtest.Data(func([]byte) []byte { return nil })))),
		"unknown parameter":  ccidtest.After(3, message.TypeXfrBlock, ccidtest.Special(0x77)),
		"data to a part":     ccidtest.To(message.TypeXfrBlock, ccidtest.Data(func([]byte) []byte { return []byte{1} })),
		"grows for ever":     endless(),
		"continues nonsense": ccidtest.After(4, message.TypeXfrBlock, ccidtest.Special(9)),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, extended, t1, func(t *testing.T, w *world) {
				w.device.Inject(fault)
				if answer, err := w.slot.Transmit(t.Context(), t1, apdu(1000, 1000), nil); err == nil {
					t.Errorf("an answer of %d bytes", len(answer))
				}
			})
		})
	}
}

// endless answers every block with data that goes on.
func endless() ccidtest.Fault {
	data := ccidtest.Data(func([]byte) []byte { return make([]byte, 261) })
	more := ccidtest.Special(3)
	return ccidtest.Always(func(x *ccidtest.Exchange) bool {
		if x.Request[0] == byte(message.TypeXfrBlock) && x.Request[8] != 1 && x.Request[8] != 3 {
			x.Answers[0].Data[7], x.Answers[0].Data[8] = 0, 0
			data(x)
			more(x)
		}
		return true
	})
}

// TestTheCardGoesDuringACommand: the error says so, and events follow.
func TestTheCardGoesDuringACommand(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		w.drain()
		w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.CardOut))
		if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); code(err) != 616 {
			t.Errorf("the card is gone: %v", err)
		}
		w.events(false)
		if _, err := w.slot.PowerUp(t.Context()); code(err) != 616 {
			t.Errorf("no card: %v", err)
		}
		w.device.Insert(0, 0, w.card)
		w.events(true)
		ready(t, w.slot, t1)
		exchange(t, w.slot, t1, apdu(5, 5))
	})
}

// TestTheReaderGoes: at every message of a session, in the middle of the transfer, every call ends at once and says so.
func TestTheReaderGoes(t *testing.T) {
	for n := range 12 {
		inWorld(t, tpdu, t1, func(t *testing.T, w *world) {
			left := n
			w.device.Inject(func(x *ccidtest.Exchange) bool {
				left--
				return left < 0 && ccidtest.Unplugs(x)
			})
			start := time.Now()
			var err error
			for err == nil {
				if _, err = w.slot.Transmit(t.Context(), t1, apdu(300, 300), nil); err == nil {
					_, err = w.slot.PowerUp(t.Context())
				}
				if err == nil {
					err = w.slot.SetProtocol(t.Context(), t1)
				}
			}
			if code(err) != 617 {
				t.Errorf("message %d: code %d: %v", n, code(err), err)
			}
			if present, err := w.slot.Present(t.Context()); present || err != nil {
				t.Errorf("Present: %v, %v", present, err)
			}
			w.reader.Gone()
			if _, err := w.slot.PowerUp(t.Context()); code(err) != 617 {
				t.Errorf("after Gone: %v", err)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// TestUnplugEndsAWait: a command that waits for a card ends when the device goes.
func TestUnplugEndsAWait(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Silent))
		time.AfterFunc(time.Second, w.device.Unplug)
		start := time.Now()
		_, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil)
		if code(err) != 617 || time.Since(start) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// TestLongestAnswerStays: the whole of a long answer is fetched even when the application has no room for it, so that
// the next command gets its own.
func TestLongestAnswerStays(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		small := make([]byte, 0, 4)
		answer, err := w.slot.Transmit(t.Context(), t1, apdu(0, 65536), small)
		if err != nil || len(answer) != 65538 {
			t.Errorf("%d bytes, %v", len(answer), err)
		}
		exchange(t, w.slot, t1, apdu(3, 3))
		if _, err := w.slot.Control(t.Context(), 0x42000D48, nil, 3); code(err) != 618 {
			t.Errorf("features into 3 bytes: %v", err)
		}
		exchange(t, w.slot, t1, apdu(4, 4))
	})
}

// TestFullPackets: answers of every length around whole packets.
func TestFullPackets(t *testing.T) {
	inWorld(t, extended, t1, func(t *testing.T, w *world) {
		for n := 1; n < 600; n++ {
			exchange(t, w.slot, t1, apdu(0, n))
		}
	})
}

// TestUnderstatedMessageLength: a reader that sends more than dwMaxCCIDMessageLength says is understood.
func TestUnderstatedMessageLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := profile(descriptor(device.FeatureShortAPDU | 0xBA))
		p.Interfaces[0].CCID.MaxMessageLength = 64
		d := ccidtest.New(p)
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT0})
		ready(t, s, t0)
		got, err := s.Transmit(t.Context(), t0, apdu(0, 256), nil)
		if err != nil || !bytes.Equal(got, ccidtest.Pattern(apdu(0, 256))) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestGivenUpDuringACommand: a call whose context ends returns at once, and what still comes for it is no answer to the
// next.
func TestGivenUpDuringACommand(t *testing.T) {
	for name, f := range map[string]device.Feature{"extended": extended, "TPDU": tpdu} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, f, t1, func(t *testing.T, w *world) {
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Late(2*time.Second)))
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				if _, err := w.slot.Transmit(ctx, t1, apdu(9, 9), nil); err == nil || time.Since(start) != time.Second {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				for n := range 10 {
					exchange(t, w.slot, t1, apdu(9, 10+n))
				}
			})
		})
	}
}

// TestBytesBehindMessages: bytes behind an ATR, or behind the answer to an escape command, are cut off and counted.
func TestBytesBehindMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said slowtest.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		d := ccidtest.New(profile(descriptor(extended)))
		r, err := ccid.Open(t.Context(), d.Transport(0), d.Info(), interfaceOf(t, d, 0), plan.Options{Escapes: true}, log)
		if err != nil {
			t.Fatal(err)
		}
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		s := r.Slots()[0]
		d.Inject(ccidtest.To(message.TypePowerOn, ccidtest.Longer(3)))
		if atr, err := s.PowerUp(t.Context()); err != nil || !bytes.Equal(atr, atrT1) {
			t.Errorf("ATR % X, %v", atr, err)
		}
		d.Escapes(0, func(_ int, command []byte) ([]byte, bool) { return command, true })
		d.Inject(ccidtest.To(message.TypeEscape, ccidtest.Longer(60)))
		if out, err := s.Control(t.Context(), ctlEscape, []byte{1, 2}, 100); err != nil || !bytes.Equal(out, []byte{1, 2}) {
			t.Errorf("escape: % X, %v", out, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, words := range []string{"they are cut off", "messages=2"} {
			if n := strings.Count(said.String(), words); n != 1 {
				t.Errorf("%q is said %d times: %s", words, n, said.String())
			}
		}
	})
}

func (w *world) events(want ...bool) {
	w.Helper()
	events(w, w.slot, want...)
}
