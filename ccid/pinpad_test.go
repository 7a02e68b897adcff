package ccid_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// Control codes.
const (
	ctlEscape   = 0x42000001
	ctlFeatures = 0x42000D48
	ctlVerify   = 0x42330006
	ctlModify   = 0x42330007
	ctlPIN      = 0x4233000A
	ctlTLV      = 0x42330012
	ctlMCT      = 0x42330008
	ctlNAD      = 0x42000000 + 3600
	ctlPath     = 0x42000000 + 3601
)

// pinCard knows a PIN of 8 bytes, padded with FF.
type pinCard struct {
	atr  []byte
	pin  string
	seen [][]byte
}

func (c *pinCard) ATR() []byte { return c.atr }
func (c *pinCard) Reset()      {}
func (c *pinCard) Transmit(b []byte) ([]byte, error) {
	c.seen = append(c.seen, bytes.Clone(b))
	padded := append([]byte(c.pin), bytes.Repeat([]byte{0xFF}, 8)...)[:8]
	switch {
	case len(b) == 13 && b[1] == 0x20 && bytes.Equal(b[5:], padded):
		return []byte{0x90, 0x00}, nil
	case len(b) == 21 && b[1] == 0x24 && bytes.Equal(b[5:13], padded):
		c.pin = string(bytes.TrimRight(b[13:], "\xFF"))
		return []byte{0x90, 0x00}, nil
	}
	return []byte{0x63, 0xC2}, nil
}

// verification is what applications send to verify a PIN of 4 to 8 digits in ASCII.
func verification() ccid.PINVerify {
	return ccid.PINVerify{TimeOut: 30, FormatString: 0x82, PINBlockString: 0x08, MaxExtraDigit: 0x0408, Condition: 2,
		NumberMessage: 1, LangID: 0x0409, Data: append([]byte{0, 0x20, 0, 0x80, 8}, bytes.Repeat([]byte{0xFF}, 8)...)}
}

func modification() ccid.PINModify {
	return ccid.PINModify{TimeOut: 30, FormatString: 0x82, PINBlockString: 0x08, InsertionOffsetNew: 8, MaxExtraDigit: 0x0408,
		ConfirmPIN: 3, Condition: 2, NumberMessage: 3, LangID: 0x0409, MsgIndex: [3]byte{0, 1, 2},
		Data: append([]byte{0, 0x24, 0, 0x80, 16}, bytes.Repeat([]byte{0xFF}, 16)...)}
}

// pinPads are readers with a PIN pad, of each exchange level, with the protocol to use.
func pinPads() map[string]struct {
	profile  ccidtest.Profile
	protocol uint32
} {
	type row = struct {
		profile  ccidtest.Profile
		protocol uint32
	}
	all := map[string]row{}
	for name, f := range map[string]device.Feature{"TPDU": tpdu, "short": device.FeatureShortAPDU | 0xBA, "extended": extended} {
		p := profile(descriptor(f))
		p.Interfaces[0].CCID.PINSupport = 3
		all[name+" T=0"], all[name+" T=1"] = row{p, t0}, row{p, t1}
	}
	return all
}

// TestPINPads: verify and change a PIN at the keys, and what the user does wrong there.
func TestPINPads(t *testing.T) {
	for name, row := range pinPads() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := ccidtest.New(row.profile)
				s := open(t, d, 0, plan.Options{}).Slots()[0]
				card := &pinCard{atr: atrBoth, pin: "123456"}
				d.Insert(0, 0, card)
				ready(t, s, row.protocol)
				v, m := verification(), modification()
				for _, step := range []struct {
					pad    ccidtest.Pad
					modify bool
					want   string
				}{
					{ccidtest.Pad{Old: "123456"}, false, "9000"},
					{ccidtest.Pad{Old: "654321"}, false, "63C2"},
					{ccidtest.Pad{Cancel: true}, false, "6401"},
					{ccidtest.Pad{Idle: true}, false, "6400"},
					{ccidtest.Pad{Old: "12"}, false, "6403"},
					{ccidtest.Pad{Old: "123456", New: "87654321", Again: "87654322"}, true, "6402"},
					{ccidtest.Pad{Old: "123456", New: "87654321", Again: "87654321"}, true, "9000"},
					{ccidtest.Pad{Old: "87654321"}, false, "9000"},
				} {
					d.Habits(0, 0, func(h *ccidtest.Habits) { h.Pad = step.pad })
					code, in := uint32(ctlVerify), v.Append(nil)
					if step.modify {
						code, in = ctlModify, m.Append(nil)
					}
					got, err := s.Control(t.Context(), code, in, 100)
					if err != nil || fmt.Sprintf("%X", got) != step.want {
						t.Errorf("%+v: % X, %v, want %s", step.pad, got, err, step.want)
					}
					if answer, err := s.Transmit(t.Context(), row.protocol, []byte{0, 0x20, 0, 0x80}, nil); err != nil || !bytes.Equal(answer, []byte{0x63, 0xC2}) {
						t.Errorf("after %+v: % X, %v", step.pad, answer, err)
					}
				}
			})
		})
	}
}

// TestPINPadAsksForTime: a card that asks for time during VERIFY, in T=1 which the host is in charge of.
func TestPINPadAsksForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(pinPads()["TPDU T=1"].profile)
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		d.Insert(0, 0, &pinCard{atr: atrT1, pin: "123456"})
		ready(t, s, t1)
		v := verification()
		for range 3 {
			d.Habits(0, 0, func(h *ccidtest.Habits) { h.Pad, h.WTX = ccidtest.Pad{Old: "123456"}, 4 })
			if got, err := s.Control(t.Context(), ctlVerify, v.Append(nil), 100); err != nil || !bytes.Equal(got, []byte{0x90, 0}) {
				t.Errorf("% X, %v", got, err)
			}
		}
	})
}

// TestTheTemplateNeverGoesToTheCard: when the card did not understand the block with the PIN, the block without it is
// not sent in its place: the card would count a wrong PIN.
func TestTheTemplateNeverGoesToTheCard(t *testing.T) {
	for name, fault := range map[string]ccidtest.Fault{
		"card wants it again":    ccidtest.Data(func([]byte) []byte { return []byte{0, 0x81, 0, 0x81} }),
		"answer damaged":         ccidtest.Data(func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }),
		"answer empty":           ccidtest.Data(func([]byte) []byte { return nil }),
		"card mute":              ccidtest.Fails(0xFE),
		"parity":                 ccidtest.Fails(0xFD),
		"no answer":              ccidtest.Silent,
		"three bytes of answer":  ccidtest.Data(func([]byte) []byte { return []byte{0, 0, 0} }),
		"a status of the reader": ccidtest.Data(func([]byte) []byte { return []byte{0x6B, 0x80} }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := ccidtest.New(pinPads()["TPDU T=1"].profile)
				s := open(t, d, 0, plan.Options{}).Slots()[0]
				card := &pinCard{atr: atrT1, pin: "123456"}
				d.Insert(0, 0, card)
				ready(t, s, t1)
				d.Habits(0, 0, func(h *ccidtest.Habits) { h.Pad.Old = "123456" })
				d.Inject(ccidtest.To(message.TypeSecure, fault))
				v := verification()
				s.Control(t.Context(), ctlVerify, v.Append(nil), 100)
				for range 2 {
					if _, err := s.Transmit(t.Context(), t1, []byte{0, 0xA4, 0, 0}, nil); err != nil {
						t.Errorf("afterwards: %v", err)
					}
				}
				for _, c := range card.seen {
					if c[1] == 0x20 && !bytes.Contains(c, []byte("123456")) {
						t.Errorf("the card got % X", c)
					}
				}
			})
		})
	}
}

// TestPINStructures: odd ones are refused before anything goes to the reader.
func TestPINStructures(t *testing.T) {
	p := profile(descriptor(extended))
	p.Interfaces[0].CCID.PINSupport = 3
	inReader(t, p, atrT1, func(t *testing.T, w *world, r *recorder) {
		ready(t, w.slot, t1)
		r.all()
		v, m := verification(), modification()
		good, long := v.Append(nil), m.Append(nil)
		five := m
		five.NumberMessage = 5
		short := v
		short.Data = []byte{0, 0x20, 0}
		for name, row := range map[string]struct {
			code uint32
			in   []byte
		}{
			"empty":              {ctlVerify, nil},
			"cut":                {ctlVerify, good[:22]},
			"one byte more":      {ctlVerify, append(bytes.Clone(good), 0)},
			"ulDataLength 2^31":  {ctlVerify, append(append(bytes.Clone(good[:15]), 0, 0, 0, 0x80), good[19:]...)},
			"an APDU of 3 bytes": {ctlVerify, short.Append(nil)},
			"change: empty":      {ctlModify, nil},
			"change: cut":        {ctlModify, long[:27]},
			"change: verify":     {ctlModify, good},
			"change: 5 messages": {ctlModify, five.Append(nil)},
		} {
			if out, err := w.slot.Control(t.Context(), row.code, row.in, 100); code(err) != 614 {
				t.Errorf("%s: % X, %v", name, out, err)
			}
		}
		if n := len(r.only(message.TypeSecure)); n != 0 {
			t.Errorf("%d PIN operations were sent", n)
		}
	})
}

// TestPINMessages: the bytes of Secure, by reader.
func TestPINMessages(t *testing.T) {
	v0 := verification()
	v0.NumberMessage, v0.Condition = 0, 9
	m1, m0 := modification(), modification()
	m1.NumberMessage, m0.NumberMessage = 1, 0
	tail := "00000000200080" + "08FFFFFFFFFFFFFFFF"
	change := "00000000240080" + "10FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
	for name, row := range map[string]struct {
		vendor, product uint16
		verify          ccid.PINVerify
		modify          ccid.PINModify
		wantVerify      string
		wantModify      string
	}{
		"standard": {
			vendor: 0x1234, product: 0x5678, verify: verification(), modify: modification(),
			wantVerify: "001E820800" + "0804" + "02010904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302030904" + "000102" + change,
		},
		"no messages": {
			vendor: 0x1234, product: 0x5678, verify: v0, modify: m0,
			wantVerify: "001E820800" + "0804" + "02000904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302000904" + "00" + change,
		},
		"one message": {
			vendor: 0x1234, product: 0x5678, verify: verification(), modify: m1,
			wantVerify: "001E820800" + "0804" + "02010904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302010904" + "0001" + change,
		},
		"GemPC PinPad": {
			vendor: 0x08E6, product: 0x3478, verify: v0, modify: modification(),
			wantVerify: "001E820800" + "0804" + "02010904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302010904" + "0001" + change,
		},
		"SPR532": {
			vendor: 0x04E6, product: 0xE003, verify: verification(), modify: modification(),
			wantVerify: "001E820800" + "0804" + "02010904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302000904" + "000000" + change,
		},
		"XX44": {
			vendor: 0x046A, product: 0x0010, verify: verification(), modify: m1,
			wantVerify: "001E820800" + "0804" + "02030904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302030904" + "000102" + change,
		},
		"KC1000SC": {
			vendor: 0x046A, product: 0x00A1, verify: v0, modify: m0,
			wantVerify: "001E820800" + "0804" + "02FF0904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302FF0904" + "000102" + change,
		},
		"Dell": {
			vendor: 0x413C, product: 0x2101, verify: verification(), modify: modification(),
			wantVerify: "001E820800" + "0804" + "02000904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0804" + "0302000904" + "00" + change,
		},
		"Dell, swapped": {
			vendor: 0x413C, product: 0x2100, verify: verification(), modify: modification(),
			wantVerify: "001E820800" + "0408" + "02000904" + "00" + tail,
			wantModify: "011E820800" + "0008" + "0408" + "0302000904" + "00" + change,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := profile(descriptor(device.FeatureShortAPDU | 0xBA))
			p.Interfaces[0].CCID.PINSupport = 3
			p.Info.Vendor, p.Info.Product, p.Info.Release = row.vendor, row.product, 0x0600
			inReader(t, p, atrT1, func(t *testing.T, w *world, r *recorder) {
				ready(t, w.slot, t1)
				r.all()
				w.slot.Control(t.Context(), ctlVerify, row.verify.Append(nil), 100)
				w.slot.Control(t.Context(), ctlModify, row.modify.Append(nil), 100)
				sent := r.only(message.TypeSecure)
				for i, want := range []string{row.wantVerify, row.wantModify} {
					if i >= len(sent) || fmt.Sprintf("%X", sent[i]) != want {
						t.Errorf("message %d:\n got %X\nwant %s", i, sent[i], want)
					}
				}
			})
		})
	}
}

// TestGemaltoFeatures: readers of Gemalto are asked what they can, and get all indexes when they cannot count them.
func TestGemaltoFeatures(t *testing.T) {
	for flags, want := range map[byte]string{0x00: "01000102", 0x04: "010001"} {
		synctest.Test(t, func(t *testing.T) {
			p := profile(descriptor(device.FeatureShortAPDU | 0xBA))
			p.Interfaces[0].CCID.PINSupport, p.Info.Vendor, p.Info.Product = 3, 0x08E6, 0x34C2
			d, rec := ccidtest.New(p), &recorder{}
			d.Escapes(0, func(_ int, c []byte) ([]byte, bool) {
				return []byte{2, 16, 0, 0x03, 0x60, 0, 0, 0, flags}, bytes.Equal(c, []byte{0x6A})
			})
			s := open(t, d, 0, plan.Options{}).Slots()[0]
			d.Insert(0, 0, &pinCard{atr: atrT1})
			ready(t, s, t1)
			d.Inject(rec.fault)
			m := modification()
			m.NumberMessage, m.Condition = 1, 7
			s.Control(t.Context(), ctlModify, m.Append(nil), 100)
			got := rec.only(message.TypeSecure)[0]
			if got[10] != 3 || fmt.Sprintf("%X%X", got[11:12], got[14:14+len(want)/2-1]) != want {
				t.Errorf("flags %02X: % X", flags, got)
			}
		})
	}
}

// TestPINTime: a person has 90 seconds, or what the application says and ten more.
func TestPINTime(t *testing.T) {
	for timeOut, want := range map[byte]time.Duration{0: 90 * time.Second, 30: 90 * time.Second, 200: 210 * time.Second} {
		p := profile(descriptor(extended))
		p.Interfaces[0].CCID.PINSupport = 3
		inReader(t, p, atrT1, func(t *testing.T, w *world, _ *recorder) {
			ready(t, w.slot, t1)
			w.device.Inject(ccidtest.To(message.TypeSecure, ccidtest.Silent))
			v := verification()
			v.TimeOut = timeOut
			start := time.Now()
			_, err := w.slot.Control(t.Context(), ctlVerify, v.Append(nil), 100)
			if d := time.Since(start); code(err) != 613 || d < want || d > want+5*time.Second {
				t.Errorf("bTimerOut %d: %v, %v", timeOut, d, err)
			}
		})
	}
}

// TestFeatures: the bytes that applications parse.
func TestFeatures(t *testing.T) {
	for name, row := range map[string]struct {
		pin             byte
		display         uint16
		vendor, product uint16
		options         plan.Options
		features, tlv   string
		properties      string
	}{
		"no keys": {vendor: 0x1234, product: 0x5678, options: plan.Options{}, features: "120442330012",
			tlv: "01020000" + "030100" + "090100" + "0B023412" + "0C027856" + "0A0400000100"},
		"PIN pad": {pin: 3, display: 0x0210, vendor: 0x1234, product: 0x5678, options: plan.Options{}, features: "060442330006" + "070442330007" + "0A044233000A" + "120442330012",
			tlv: "01021002" + "04021000" + "05020200" + "030100" + "090100" + "0B023412" + "0C027856" + "0A0400000100", properties: "10020700"},
		"verification only, escapes": {pin: 1, vendor: 0x1234, product: 0x5678, options: plan.Options{Escapes: true}, features: "060442330006" + "0A044233000A" + "120442330012" + "130442000001",
			tlv: "01020000" + "030100" + "090101" + "0B023412" + "0C027856" + "0A0400000100", properties: "00000700"},
		"ST-2000": {pin: 3, vendor: 0x046A, product: 0x003E, options: plan.Options{}, features: "060442330006" + "070442330007" + "0A044233000A" + "120442330012",
			tlv: "01020000" + "030100" + "060100" + "070119" + "020102" + "090100" + "0B026A04" + "0C023E00" + "0A0400000100", properties: "00000200"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := profile(descriptor(extended))
				p.Interfaces[0].CCID.PINSupport, p.Interfaces[0].CCID.LCDLayout = row.pin, row.display
				p.Info.Vendor, p.Info.Product = row.vendor, row.product
				s := open(t, ccidtest.New(p), 0, row.options).Slots()[0]
				for code, want := range map[uint32]string{
					ctlFeatures: row.features, 0x00313520: row.features, ctlTLV: row.tlv,
					ctlPIN: row.properties,
				} {
					got, err := s.Control(t.Context(), code, nil, 300)
					if fmt.Sprintf("%X", got) != want || (err == nil) != (want != "") {
						t.Errorf("%08X: %X, %v, want %s", code, got, err, want)
					}
				}
			})
		})
	}
}

// TestEscapes: refused unless allowed, but for what is harmless.
func TestEscapes(t *testing.T) {
	echo := func(_ int, c []byte) ([]byte, bool) { return c, true }
	for name, row := range map[string]struct {
		vendor, product uint16
		options         plan.Options
		command         []byte
		allowed         bool
	}{
		"refused": {
			vendor: 0x1234, product: 0x5678, options: plan.Options{}, command: []byte{1, 2, 3},
		},
		"allowed": {
			vendor: 0x1234, product: 0x5678, options: plan.Options{Escapes: true},
			command: []byte{1, 2, 3}, allowed: true,
		},
		"Gemalto version": {
			vendor: 0x08E6, product: 0x3437, options: plan.Options{}, command: []byte{2},
			allowed: true,
		},
		"Gemalto other": {
			vendor: 0x08E6, product: 0x3437, options: plan.Options{}, command: []byte{3},
		},
		"version elsewhere": {
			vendor: 0x1234, product: 0x5678, options: plan.Options{}, command: []byte{2},
		},
		"GemProx DU": {
			vendor: 0x08E6, product: 0x5503, options: plan.Options{},
			command: []byte{0x52, 0xF8, 4, 1, 0, 7}, allowed: true,
		},
		"Omnikey 5427": {
			vendor: 0x076B, product: 0x5427, options: plan.Options{}, command: []byte{9, 9},
			allowed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := profile(descriptor(extended))
				p.Info.Vendor, p.Info.Product = row.vendor, row.product
				d := ccidtest.New(p)
				d.Escapes(0, echo)
				s := open(t, d, 0, row.options).Slots()[0]
				got, err := s.Control(t.Context(), ctlEscape, row.command, 300)
				if row.allowed && (err != nil || !bytes.Equal(got, row.command)) || !row.allowed && code(err) != 612 {
					t.Errorf("% X, %v", got, err)
				}
			})
		})
	}
}

// TestOtherControls: MCT_READER_DIRECT, NAD, path, and what nobody knows.
func TestOtherControls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := profile(descriptor(tpdu))
		p.Info.Vendor, p.Info.Product, p.Info.Path, p.Info.Bus, p.Info.Address = 0x0D46, 0x4289, "3-1.2", 3, 7
		d := ccidtest.New(p)
		d.Escapes(0, func(_ int, c []byte) ([]byte, bool) { return append(bytes.Clone(c), 0x90, 0), true })
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		for name, row := range map[string]struct {
			code uint32
			in   string
			want string
			ifd  int
		}{
			"MCT":             {ctlMCT, "\x20\x72\x00\x00\x00", "20720000009000", 0},
			"MCT to the card": {ctlMCT, "\x20\x12\x00\x00\x00", "", 614},
			"path":            {ctlPath, "", "332D312E323A312E3000", 0},
			"unknown":         {0x12345678, "", "", 614},
			"verify, no keys": {ctlVerify, "", "", 614},
		} {
			got, err := s.Control(t.Context(), row.code, []byte(row.in), 300)
			if fmt.Sprintf("%X", got) != row.want || code(err) != row.ifd {
				t.Errorf("%s: %X, %v", name, got, err)
			}
		}
		s.Control(t.Context(), ctlNAD, []byte{0x3E, 0, 1, 0x21}, 300)
		if got, err := s.Control(t.Context(), ctlNAD, []byte{0x3F, 0, 0}, 300); err != nil || !bytes.Equal(got, []byte{0x3F, 0, 2, 0x90, 0x21}) {
			t.Errorf("NAD: % X, %v", got, err)
		}
		for id, want := range map[uint32]string{0x10100: "41434D4500", 0x10102: "00000001", 0x10103: "", 0x20110: "07032000", 0x7A007: "05010000", 0x90300: "00", 0x90301: "00"} {
			if got, err := s.Attribute(t.Context(), id); err != nil || fmt.Sprintf("%X", got) != want {
				t.Errorf("attribute %X: %X, %v, want %s", id, got, err, want)
			}
		}
		if _, err := s.Attribute(t.Context(), 0x99999); code(err) != 600 {
			t.Errorf("unknown attribute: %v", err)
		}
		if err := s.SetAttribute(t.Context(), 0x10100, nil); code(err) != 602 {
			t.Errorf("writing the vendor's name: %v", err)
		}
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		s.PowerUp(t.Context())
		for id, want := range map[uint32]string{0x90303: fmt.Sprintf("%X", atrT1), 0x90300: "02", 0x90301: "01"} {
			if got, err := s.Attribute(t.Context(), id); err != nil || fmt.Sprintf("%X", got) != want {
				t.Errorf("attribute %X: %X, %v, want %s", id, got, err, want)
			}
		}
	})
}
