package ccid_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// recorder keeps the messages of the host, and lets them pass.
type recorder struct {
	mu       sync.Mutex
	requests [][]byte
}

func (r *recorder) fault(x *ccidtest.Exchange) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, bytes.Clone(x.Request))
	return false
}

// all are the requests since the last call.
func (r *recorder) all() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return all
}

// only are the requests of one type since the last call, without header.
func (r *recorder) only(kind message.Type) (some [][]byte) {
	for _, b := range r.all() {
		if b[0] == byte(kind) {
			some = append(some, b[10:])
		}
	}
	return some
}

// inReader runs a test with a reader of a profile and a card, in a bubble of time. Nothing is powered.
func inReader(t *testing.T, p ccidtest.Profile, atr []byte, test func(t *testing.T, w *world, r *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, device: ccidtest.New(p), card: &ccidtest.PatternCard{Bytes: atr}}
		w.reader = open(t, w.device, p.Interfaces[0].Number, plan.Options{})
		w.slot = w.reader.Slots()[0]
		if atr != nil {
			w.device.Insert(p.Interfaces[0].Number, 0, w.card)
		}
		r := &recorder{}
		w.device.Inject(r.fault)
		test(t, w, r)
	})
}

// hostDoesAll is a TPDU reader that leaves everything to the host.
func hostDoesAll() ccidtest.Profile { return profile(descriptor(device.FeatureTPDU | 0x30)) }

// TestOddATRs: what cards say, and what comes of it: the protocols that can be set, and whether a PPS is made.
func TestOddATRs(t *testing.T) {
	for name, row := range map[string]struct {
		atr    []byte
		codeT0 int // of SetProtocol, 0 is success
		codeT1 int
		pps    string // of the protocol that works, T=0 before T=1
	}{
		"shortest":                    {[]byte{0x3B, 0x00}, 0, 607, ""},
		"TA1 96":                      {atrT0, 0, 607, "FF109679"},
		"TA1 of a reserved rate":      {[]byte{0x3B, 0x10, 0xF7}, 0, 607, ""},
		"TA1 slower than the default": {[]byte{0x3B, 0x10, 0x21}, 0, 607, ""},
		"TA1 faster than the reader":  {[]byte{0x3B, 0x10, 0x97}, 0, 607, "FF109679"},
		"T=1 only":                    {atrT1, 607, 0, "FF119678"},
		"T=0 and T=1":                 {atrBoth, 0, 0, "FF109679"},
		"T=1, default rate":           {atr(0x3B, 0x80, 0x81, 0x31, 0xFE, 0x45), 607, 0, ""},
		"T=15 after T=0":              {atr(0x3B, 0x80, 0x80, 0x1F, 0x03), 0, 607, ""},
		"T=1, T=15":                   {atr(0x3B, 0x80, 0x81, 0xB1, 0xFE, 0x45, 0x1F, 0x03), 607, 0, ""},
		"T=14 only":                   {atr(0x3B, 0x80, 0x0E), 607, 607, ""},
		"specific T=0":                {atr(0x3B, 0x90, 0x96, 0x90, 0x00, 0x01), 0, 607, ""},
		"specific T=1":                {atr(0x3B, 0x90, 0x96, 0x91, 0x01, 0x31, 0xFE, 0x45), 607, 0, ""},
		"specific, unknown rate":      {atr(0x3B, 0x90, 0x96, 0x91, 0x11, 0x31, 0xFE, 0x45), 607, 612, ""},
		"TCK wrong":                   {append(bytes.Clone(atrT1[:len(atrT1)-1]), 0x00), 607, 0, "FF119678"},
		"TCK missing":                 {atrT1[:len(atrT1)-1], 607, 0, "FF119678"},
		"inverse":                     {[]byte{0x3F, 0x00}, 0, 607, ""},
		"cut in TD1":                  {[]byte{0x3B, 0x80}, 607, 607, ""},
		"TS wrong":                    {[]byte{0x00, 0x00}, 607, 607, ""},
		"33 bytes":                    {append([]byte{0x3B, 0x0F}, make([]byte, 31)...), 0, 607, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inReader(t, hostDoesAll(), row.atr, func(t *testing.T, w *world, r *recorder) {
				for protocol, want := range map[uint32]int{t0: row.codeT0, t1: row.codeT1} {
					got, err := w.slot.PowerUp(t.Context())
					if err != nil || !bytes.Equal(got, row.atr) {
						t.Fatalf("PowerUp: % X, %v", got, err)
					}
					r.all()
					err = w.slot.SetProtocol(t.Context(), protocol)
					if code(err) != want {
						t.Errorf("protocol %d: code %d, want %d: %v", protocol, code(err), want, err)
					}
					if err != nil {
						continue
					}
					exchange(t, w.slot, protocol, apdu(8, 8))
					if protocol == t1 && row.codeT0 == 0 {
						continue
					}
					if sent := r.only(message.TypeXfrBlock); (row.pps != "") != (sent[0][0] == 0xFF) || row.pps != "" && fmt.Sprintf("%X", sent[0]) != row.pps {
						t.Errorf("first block % X, want PPS %q", sent[0], row.pps)
					}
				}
			})
		})
	}
}

// TestATRLengths: none, one byte, and more than 33.
func TestATRLengths(t *testing.T) {
	for n, want := range map[int]int{0: 608, 1: 608, 2: 0, 32: 0, 33: 0, 34: 0, 60: 0} {
		inReader(t, hostDoesAll(), []byte{0x3B, 0x00}, func(t *testing.T, w *world, _ *recorder) {
			w.device.Inject(ccidtest.To(message.TypePowerOn, ccidtest.Data(func([]byte) []byte {
				return append([]byte{0x3B, 0x00}, make([]byte, 60)...)[:n]
			})))
			atr, err := w.slot.PowerUp(t.Context())
			if code(err) != want || err == nil && len(atr) != min(n, 33) {
				t.Errorf("%d bytes: %d bytes, %v", n, len(atr), err)
			}
		})
	}
}

// TestPPSRefused: a card that does not confirm goes on with its first protocol at the default rate; another cannot be
// had.
func TestPPSRefused(t *testing.T) {
	for name, fault := range map[string]ccidtest.Fault{
		"mute":         ccidtest.Fails(0xFE),
		"malformed":    ccidtest.Data(func([]byte) []byte { return []byte{0xFF} }),
		"longer":       ccidtest.Data(func(b []byte) []byte { return append(b, 0) }),
		"another rate": ccidtest.Data(func([]byte) []byte { return []byte{0xFF, 0x10, 0x95, 0x7A} }),
		"another T":    ccidtest.Data(func([]byte) []byte { return []byte{0xFF, 0x1E, 0x96, 0x77} }),
		"wrong check":  ccidtest.Data(func([]byte) []byte { return []byte{0xFF, 0x10, 0x96, 0x00} }),
	} {
		t.Run(name, func(t *testing.T) {
			inReader(t, hostDoesAll(), atrBoth, func(t *testing.T, w *world, _ *recorder) {
				w.slot.PowerUp(t.Context())
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, fault))
				if err := w.slot.SetProtocol(t.Context(), t0); err != nil {
					t.Fatalf("T=0: %v", err)
				}
				exchange(t, w.slot, t0, apdu(8, 8))
				w.slot.PowerUp(t.Context())
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, fault))
				if err := w.slot.SetProtocol(t.Context(), t1); code(err) != 605 {
					t.Errorf("T=1: %v", err)
				}
			})
		})
	}
	t.Run("rate left out", func(t *testing.T) {
		inReader(t, hostDoesAll(), atrT0, func(t *testing.T, w *world, r *recorder) {
			w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Data(func([]byte) []byte { return []byte{0xFF, 0x00, 0xFF} })))
			ready(t, w.slot, t0)
			if p := r.only(message.TypeSetParameters); p[0][0] != 0x11 {
				t.Errorf("SetParameters % X", p[0])
			}
		})
	})
}

// TestParameters: the bytes of SetParameters, extra guard time 255 and inverse convention among them.
func TestParameters(t *testing.T) {
	for name, row := range map[string]struct {
		atr      []byte
		protocol uint32
		want     string
	}{
		"T=0":              {atrT0, t0, "960000 0A00"},
		"T=0, TC1 255":     {[]byte{0x3B, 0x50, 0x96, 0xFF}, t0, "9600FF0A00"},
		"T=0, TC2 20":      {[]byte{0x3B, 0x80, 0x40, 0x14}, t0, "1100001400"},
		"T=0, inverse":     {[]byte{0x3F, 0x00}, t0, "1102000A00"},
		"T=1":              {atrT1, t1, "961000450 0FE00"},
		"T=1, CRC":         {atr(0x3B, 0x80, 0x81, 0x71, 0x40, 0x45, 0x01), t1, "11110045004000"},
		"T=1, TC1 5":       {atr(0x3B, 0xC0, 0x05, 0x81, 0x31, 0x20, 0x13), t1, "11100513002000"},
		"an OpenPGP card":  {[]byte{0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0, 0x01, 0x00, 0x00, 0x90, 0x00, 0xB1}, t1, "1310FF75008000"},
		"T=1, IFSC absent": {atr(0x3B, 0x80, 0x01), t1, "1110004D002000"},
	} {
		t.Run(name, func(t *testing.T) {
			p := profile(descriptor(device.FeatureTPDU | 0xBA))
			inReader(t, p, row.atr, func(t *testing.T, w *world, r *recorder) {
				ready(t, w.slot, row.protocol)
				got := r.only(message.TypeSetParameters)
				if want := bytes.ReplaceAll([]byte(row.want), []byte(" "), nil); len(got) != 1 || fmt.Sprintf("%X", got[0]) != string(want) {
					t.Errorf("SetParameters % X, want %s", got, want)
				}
			})
		})
	}
}

// TestParametersRefused: a reader that keeps a byte of its own goes on; one that knows no parameters does not.
func TestParametersRefused(t *testing.T) {
	for problem, want := range map[byte]int{10: 0, 0x7F: 0, 0: 614, 0xFE: 612, 0xF6: 612} {
		inReader(t, profile(descriptor(tpdu)), atrT1, func(t *testing.T, w *world, _ *recorder) {
			w.slot.PowerUp(t.Context())
			w.device.Inject(ccidtest.Always(ccidtest.To(message.TypeSetParameters, ccidtest.Fails(problem))))
			if err := w.slot.SetProtocol(t.Context(), t1); code(err) != want {
				t.Errorf("bError %02X: code %d, want %d: %v", problem, code(err), want, err)
			}
		})
	}
}

// TestRateRefused: a rate that the reader does not take, in whatever words, is given up: the card is reset and works at the
// default rate, under both protocols.
func TestRateRefused(t *testing.T) {
	features := map[string]device.Feature{
		"PPS by the reader":         tpdu,
		"PPS by the host":           hostDoesAll().Interfaces[0].CCID.Features,
		"extended APDUs, PPS by it": device.FeatureExtendedAPDU | 0xBA,
	}
	for name, f := range features {
		for _, refusal := range []byte{10, 0xFE, 0xF6, 0xFB} {
			t.Run(fmt.Sprintf("%s, %02X", name, refusal), func(t *testing.T) {
				inReader(t, profile(descriptor(f)), atrBoth, func(t *testing.T, w *world, r *recorder) {
					w.device.Inject(func(x *ccidtest.Exchange) bool {
						if message.Type(x.Request[0]) == message.TypeSetParameters && x.Request[10] != 0x11 {
							ccidtest.Fails(refusal)(x)
						}
						return false
					})
					for _, protocol := range []uint32{t0, t1} {
						ready(t, w.slot, protocol)
						exchange(t, w.slot, protocol, apdu(8, 8))
					}
					got := r.only(message.TypeSetParameters)
					if len(got) != 4 || got[1][0] != 0x11 || got[3][0] != 0x11 {
						t.Errorf("SetParameters % X", got)
					}
				})
			})
		}
	}
}

// TestVoltages: the order in which the host tries, the card that stands one only, and who chooses.
func TestVoltages(t *testing.T) {
	for name, row := range map[string]struct {
		features device.Feature
		support  byte
		card     byte
		first    message.Voltage
		want     []byte
		code     int
	}{
		"the reader chooses":  {features: 0x8, support: 7, card: 4, want: []byte{0}},
		"activated by itself": {features: 0x4, support: 7, card: 4, want: []byte{0}},
		"5 V":                 {support: 7, card: 7, want: []byte{1}},
		"1.8 V only":          {support: 7, card: 4, want: []byte{1, 2, 3}},
		"3 V first": {
			support: 7, card: 4, first: message.Voltage3, want: []byte{2, 1, 3},
		},
		"the reader has 3 V":   {support: 2, card: 2, want: []byte{2}},
		"the reader says none": {card: 7, want: []byte{0}},
		"none fits":            {support: 3, card: 4, want: []byte{1, 2}, code: 608},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := profile(descriptor(tpdu&^0x0F | row.features))
				p.Interfaces[0].CCID.VoltageSupport = row.support
				d, rec := ccidtest.New(p), &recorder{}
				s := open(t, d, 0, plan.Options{FirstVoltage: row.first}).Slots()[0]
				d.Insert(0, 0, &picky{ccidtest.PatternCard{Bytes: atrT0}, row.card})
				var tried []byte
				d.Inject(rec.fault)
				_, err := s.PowerUp(t.Context())
				for _, b := range rec.all() {
					if b[0] == byte(message.TypePowerOn) {
						tried = append(tried, b[7])
					}
				}
				if code(err) != row.code || !bytes.Equal(tried, row.want) {
					t.Errorf("tried % X, want % X: %v", tried, row.want, err)
				}
			})
		})
	}
}

// picky is a card that stands some voltages only.
type picky struct {
	ccidtest.PatternCard
	voltages byte
}

func (p *picky) Voltages() byte { return p.voltages }

// TestT1Faults: errors between card and reader are mended by the protocol, without an error for the application.
func TestT1Faults(t *testing.T) {
	flip := func(at int) ccidtest.Fault {
		return ccidtest.Data(func(b []byte) []byte {
			if at < 0 {
				at += len(b)
			}
			b = bytes.Clone(b)
			b[min(at, len(b)-1)] ^= 0x04
			return b
		})
	}
	for name, fault := range map[string]ccidtest.Fault{
		"parity":            ccidtest.Fails(0xFD),
		"mute once":         ccidtest.Fails(0xFE),
		"overrun":           ccidtest.Fails(0xFC),
		"LRC wrong":         flip(-1),
		"NAD wrong":         flip(0),
		"LEN wrong":         flip(2),
		"data wrong":        flip(5),
		"empty":             ccidtest.Data(func([]byte) []byte { return nil }),
		"two bytes":         ccidtest.Data(func(b []byte) []byte { return b[:2] }),
		"cut block":         ccidtest.Data(func(b []byte) []byte { return b[:len(b)-1] }),
		"too long":          ccidtest.Data(func(b []byte) []byte { return append(bytes.Clone(b), 0x55) }),
		"three parities":    ccidtest.Times(3, ccidtest.Fails(0xFD)),
		"an S(IFS) request": s1(0xC1, 0x20),
		"an S(WTX) request": s1(0xC3, 0x02),
	} {
		for n := range 4 {
			t.Run(fmt.Sprintf("%s in block %d", name, n), func(t *testing.T) {
				inWorld(t, tpdu, t1, func(t *testing.T, w *world) {
					w.device.Inject(ccidtest.After(n, message.TypeXfrBlock, fault))
					answer, err := w.slot.Transmit(t.Context(), t1, apdu(600, 600), nil)
					if err == nil && !bytes.Equal(answer, ccidtest.Pattern(apdu(600, 600))) {
						t.Error("a wrong answer")
					}
					if err != nil && name != "three parities" && name != "an S(WTX) request" && name != "an S(IFS) request" {
						t.Errorf("%v", err)
					}
					exchange(t, w.slot, t1, apdu(5, 5))
				})
			})
		}
	}
}

// s1 puts an S block in place of the card's.
func s1(pcb, value byte) ccidtest.Fault {
	return ccidtest.Data(func([]byte) []byte { return iso7816.EDCLRC.Append([]byte{0, pcb, 1, value}) })
}

// TestT1NoAnswerOfTheReader: after a timeout of the reader the card is brought back without a reset of it.
func TestT1NoAnswerOfTheReader(t *testing.T) {
	inWorld(t, tpdu, t1, func(t *testing.T, w *world) {
		for range 3 {
			resets := w.card.Resets
			w.device.Inject(ccidtest.After(1, message.TypeXfrBlock, ccidtest.Silent))
			if _, err := w.slot.Transmit(t.Context(), t1, apdu(600, 600), nil); err == nil {
				t.Fatal("an answer")
			}
			exchange(t, w.slot, t1, apdu(700, 700))
			if w.card.Resets != resets {
				t.Error("the card was reset")
			}
		}
	})
}

// TestT1Dead: a card that does not follow any more is given up, until it is powered again.
func TestT1Dead(t *testing.T) {
	inWorld(t, tpdu, t1, func(t *testing.T, w *world) {
		w.device.Inject(ccidtest.Times(100, ccidtest.To(message.TypeXfrBlock, ccidtest.Fails(0xFE))))
		if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); code(err) != 612 {
			t.Errorf("first: %v", err)
		}
		before := w.device.Counts().Exchanges
		if _, err := w.slot.Transmit(t.Context(), t1, apdu(1, 1), nil); code(err) != 612 || w.device.Counts().Exchanges != before {
			t.Errorf("second: %v", err)
		}
		w.device.Inject() // the fault still strikes some times
		for range 100 {
			if _, err := w.slot.PowerUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.slot.SetProtocol(t.Context(), t1); err == nil {
				break
			}
		}
		exchange(t, w.slot, t1, apdu(1, 1))
	})
}

// TestWTX: a card asks for time in T=1, again and again.
func TestWTX(t *testing.T) {
	inWorld(t, tpdu, t1, func(t *testing.T, w *world) {
		r := &recorder{}
		w.device.Inject(r.fault)
		w.device.Habits(0, 0, func(h *ccidtest.Habits) { h.WTX = 7 })
		exchange(t, w.slot, t1, apdu(10, 10))
		multiplied := 0
		for _, b := range r.all() {
			if b[7] == 2 {
				multiplied++
			}
		}
		if multiplied != 7 {
			t.Errorf("bBWI was 2 in %d blocks, want 7", multiplied)
		}
	})
}

// TestIFSD: who tells the card, and the card that does not want to hear it.
func TestIFSD(t *testing.T) {
	for name, row := range map[string]struct {
		features device.Feature
		vendor   uint16
		product  uint16
		release  uint16
		sent     bool
	}{
		"host": {
			features: device.FeatureTPDU | 0x30, vendor: 0x1234, product: 0x5678, release: 0x0100,
			sent: true,
		},
		"reader": {
			features: device.FeatureTPDU | 0x430, vendor: 0x1234, product: 0x5678, release: 0x0100,
		},
		"eToken": {
			features: device.FeatureTPDU | 0x30, vendor: 0x0529, product: 0x0620, release: 0x0012,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := profile(descriptor(row.features))
			p.Info.Vendor, p.Info.Product, p.Info.Release = row.vendor, row.product, row.release
			inReader(t, p, atrT1, func(t *testing.T, w *world, r *recorder) {
				ready(t, w.slot, t1)
				sent := false
				for _, b := range r.only(message.TypeXfrBlock) {
					sent = sent || b[1] == 0xC1 && b[3] == 254
				}
				if sent != row.sent {
					t.Errorf("S(IFS) sent: %v, want %v", sent, row.sent)
				}
				exchange(t, w.slot, t1, apdu(400, 400))
			})
		})
	}
	inReader(t, hostDoesAll(), atrT1, func(t *testing.T, w *world, _ *recorder) {
		w.slot.PowerUp(t.Context())
		w.device.Inject(ccidtest.After(1, message.TypeXfrBlock, ccidtest.Times(3, s1(0xE1, 0x20))))
		if err := w.slot.SetProtocol(t.Context(), t1); err != nil {
			t.Fatalf("a card that answers another IFSD: %v", err)
		}
		exchange(t, w.slot, t1, apdu(400, 400))
	})
}

// TestCharacterLevel: NULL bytes and single bytes of T=0, as far as one byte for each.
func TestCharacterLevel(t *testing.T) {
	for _, h := range []ccidtest.Habits{{}, {Nulls: 3}, {ByteWise: true}, {Nulls: 1, ByteWise: true}} {
		synctest.Test(t, func(t *testing.T) {
			d := ccidtest.New(profile(descriptor(0x30)))
			s := open(t, d, 0, plan.Options{}).Slots()[0]
			d.Habits(0, 0, func(to *ccidtest.Habits) { *to = h })
			d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT0})
			ready(t, s, t0)
			for _, n := range sizes {
				exchange(t, s, t0, apdu(0, n))
				exchange(t, s, t0, apdu(min(n, 255), 0))
			}
		})
	}
}

// TestTimeouts: the wait for a card that says nothing is what its ATR asks for, at least 3 s and at most 60 s.
func TestTimeouts(t *testing.T) {
	for name, row := range map[string]struct {
		atr      []byte
		protocol uint32
		least    time.Duration
		most     time.Duration
	}{
		"T=0, default":     {[]byte{0x3B, 0x00}, t0, 60 * time.Second, 60 * time.Second}, // 260 WWT are 232 s
		"T=1, BWI 1 CWI 1": {atr(0x3B, 0x90, 0x96, 0x81, 0x31, 0xFE, 0x11), t1, 3 * time.Second, 3 * time.Second},
		"T=1, BWI 4 CWI 5": {atrT1, t1, 3 * time.Second, 4 * time.Second},
		"T=1, BWI 7 CWI 5": {atr(0x3B, 0x80, 0x81, 0x31, 0xFE, 0x75), t1, 13 * time.Second, 14 * time.Second},
		"T=1, CWI 15":      {atr(0x3B, 0x80, 0x81, 0x31, 0xFE, 0x4F), t1, 60 * time.Second, 60 * time.Second},
		"T=1, TC1 255":     {atr(0x3B, 0xD0, 0x96, 0xFF, 0x81, 0x31, 0xFE, 0x11), t1, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inReader(t, profile(descriptor(extended)), row.atr, func(t *testing.T, w *world, _ *recorder) {
				ready(t, w.slot, row.protocol)
				w.device.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Silent))
				start := time.Now()
				if _, err := w.slot.Transmit(t.Context(), row.protocol, apdu(1, 1), nil); code(err) != 613 {
					t.Errorf("no answer: %v", err)
				}
				if d := time.Since(start); d < row.least || d > row.most {
					t.Errorf("it took %v, want %v to %v", d, row.least, row.most)
				}
			})
		})
	}
}

// TestRates: TA1 against what the reader can: no list, a list, a limit, slower ones in its place.
func TestRates(t *testing.T) {
	ta1 := func(b byte) []byte { return []byte{0x3B, 0x10, b} }
	for name, row := range map[string]struct {
		rates []uint32
		limit uint32
		atr   []byte
		want  byte // bmFindexDindex
	}{
		"no list":              {nil, 344086, ta1(0x96), 0x96},
		"above the limit":      {nil, 250000, ta1(0x97), 0x96},
		"far above the limit":  {nil, 90000, ta1(0x97), 0x94},
		"in the list":          {[]uint32{10753, 250000}, 344086, ta1(0x96), 0x96},
		"off by one":           {[]uint32{10753, 249999}, 344086, ta1(0x96), 0x96},
		"not in the list":      {[]uint32{10753, 21505}, 344086, ta1(0x96), 0x11},
		"a slower in the list": {[]uint32{10753, 125000}, 344086, ta1(0x96), 0x95},
		"13":                   {nil, 344086, ta1(0x13), 0x13},
		"reserved":             {nil, 344086, ta1(0x7F), 0x11},
	} {
		t.Run(name, func(t *testing.T) {
			p := profile(descriptor(tpdu))
			p.Interfaces[0].Rates, p.Interfaces[0].CCID.MaxDataRate = row.rates, row.limit
			p.Interfaces[0].CCID.DataRatesSupported = byte(len(row.rates))
			inReader(t, p, row.atr, func(t *testing.T, w *world, r *recorder) {
				ready(t, w.slot, t0)
				if got := r.only(message.TypeSetParameters)[0][0]; got != row.want {
					t.Errorf("bmFindexDindex %02X, want %02X", got, row.want)
				}
			})
		})
	}
}

// TestRatesThatWereNotAnnounced: of a longer list than the descriptor announces only so many count.
func TestRatesThatWereNotAnnounced(t *testing.T) {
	p := profile(descriptor(tpdu))
	p.Interfaces[0].Rates, p.Interfaces[0].CCID.DataRatesSupported = []uint32{10753, 250000, 125000}, 1
	inReader(t, p, []byte{0x3B, 0x10, 0x96}, func(t *testing.T, w *world, r *recorder) {
		ready(t, w.slot, t0)
		if got := r.only(message.TypeSetParameters)[0][0]; got != 0x11 {
			t.Errorf("bmFindexDindex %02X, want 11", got)
		}
	})
}
