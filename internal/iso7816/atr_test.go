package iso7816

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// facts is what a test wants to know of an ATR.
type facts struct {
	Protocols  []Protocol
	Default    Protocol
	FiDi       byte
	N          byte
	WI         int
	IFSC       int
	BWI, CWI   int
	EDC        EDC
	Historical string
	Faults     int
}

func factsOf(a *ATR) facts {
	n, _ := a.TC1()
	return facts{
		a.Protocols(), a.DefaultProtocol(), a.FiDi(), n, a.WI(), a.IFSC(), a.BWI(), a.CWI(), a.EDC(),
		hex.EncodeToString(a.Historical), len(a.Faults),
	}
}

func TestParseATR(t *testing.T) {
	t0 := []Protocol{ProtocolT0}
	t1 := []Protocol{ProtocolT1}
	both := []Protocol{ProtocolT0, ProtocolT1}
	tests := map[string]struct {
		atr  string
		want facts
	}{
		"nothing but TS and T0":   {"3B00", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 0}},
		"T=0 with all its bytes":  {"3BF2 18 00 02 40 0A B1B2", facts{t0, 0, 0x18, 2, 10, 32, 4, 13, EDCLRC, "b1b2", 0}},
		"reserved waiting time":   {"3B80 40 00", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"T=1 with all its bytes":  {"3BF0 96 00 00 81 71 FE 45 01 2C", facts{t1, 1, 0x96, 0, 10, 254, 4, 5, EDCCRC, "", 0}},
		"T=1 without a word":      {"3B80 01 81", facts{t1, 1, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 0}},
		"both, T=0 first":         {"3B80 80 01 01", facts{both, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 0}},
		"T=15 after T=1":          {"3BD0 96 02 81 B1 FE 45 1F C7 17", facts{t1, 1, 0x96, 2, 10, 254, 4, 5, EDCLRC, "", 0}},
		"T=15 first":              {"3B80 0F 8F", facts{[]Protocol{0}, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"specific mode":           {"3B90 96 91 81 31 FE 45 9C", facts{t1, 1, 0x96, 0, 10, 254, 4, 5, EDCLRC, "", 0}},
		"reserved IFSC":           {"3B80 81 31 FF 45 8A", facts{t1, 1, 0x11, 0, 10, 254, 4, 5, EDCLRC, "", 1}},
		"inverse convention":      {"3F00", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 0}},
		"inverse, not converted":  {"03FF", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 0}},
		"reserved Fi and Di":      {"3B10 FF", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 2}},
		"TCK missing":             {"3B80 80 01", facts{both, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"TCK wrong":               {"3B80 80 01 02", facts{both, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"bytes after TCK":         {"3B80 80 01 01 90", facts{both, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"bytes after the end":     {"3B00 9000", facts{t0, 0, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"protocols the wrong way": {"3B80 81 80 00 81", facts{[]Protocol{1, 0}, 1, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"a protocol not offered":  {"3B80 90 01 00", facts{t0, 1, 0x11, 0, 10, 32, 4, 13, EDCLRC, "", 1}},
		"extra guard time of 255": {"3BFA 13 00 FF 81 31 80 45 00 31 C1 73 C0 01 00 00 90 00 B1",
			facts{t1, 1, 0x13, 255, 10, 128, 4, 5, EDCLRC, "0031c173c00100009000", 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := ParseATR(unhex(tt.atr))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, factsOf(a)); diff != "" {
				t.Error(diff, a.Faults)
			}
			_, err = ParseATRStrict(unhex(tt.atr))
			if (err != nil) != (tt.want.Faults > 0) {
				t.Errorf("strict: %v", err)
			}
		})
	}
}

func TestATRThatCannotBeRead(t *testing.T) {
	tests := map[string]struct {
		atr  string
		want error
	}{
		"nothing":                {"", ErrATRShort},
		"TS alone":               {"3B", ErrATRShort},
		"another TS":             {"3A00", ErrATRTS},
		"historical bytes short": {"3B02 31", ErrATRShort},
		"no TA1":                 {"3B10", ErrATRShort},
		"no TD2":                 {"3B80 80", ErrATRShort},
		"34 bytes":               {"3B00" + strings.Repeat("00", 32), ErrATRLong},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseATR(unhex(tt.atr)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if a, err := ParseATRStrict(unhex(tt.atr)); a != nil || !errors.Is(err, tt.want) {
				t.Errorf("strict: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSpecificModeAndGlobalBytes(t *testing.T) {
	a, err := ParseATRStrict(unhex("3B90 96 91 81 B1 FE 45 DF C3 85"))
	if err == nil {
		t.Fatal("this ATR ends early:", a)
	}
	a, err = ParseATR(unhex("3B90 96 91 91 B1 FE 45 3F C3 85"))
	if err != nil {
		t.Fatal(err)
	}
	p, implicit, ok := a.SpecificMode()
	if p != ProtocolT1 || !implicit || !ok || a.CanChangeMode() {
		t.Errorf("specific mode %v %v %v, can change %v", p, implicit, ok, a.CanChangeMode())
	}
	classes, ok := a.Classes()
	used, proprietary, okSPU := a.SPU()
	if classes != 3 || !ok || a.ClockStop() != ClockStopAny || !used || !proprietary || !okSPU {
		t.Errorf("classes %d %v, clock stop %d, SPU %v %v %v", classes, ok, a.ClockStop(), used, proprietary, okSPU)
	}
	a, _ = ParseATR(unhex("3B00"))
	if _, _, ok := a.SpecificMode(); ok || a.CanChangeMode() || a.HasGlobal() || a.ClockStop() != ClockStopNo {
		t.Error("an ATR that says nothing is in negotiable mode and stops no clock")
	}
}

// TestGuardTime: TC1 in every form, at 3.72 MHz where the default etu is 100 µs.
func TestGuardTime(t *testing.T) {
	const µs = time.Microsecond
	slow := Rate{Clock: 3720000, F: 372, D: 1}
	fast := Rate{Clock: 3720000, F: 372, D: 4} // after PPS: 25 µs
	with := func(n string, t15 bool) string {
		if t15 {
			return "3BD0 13" + n + "81 B1 FE 45 1F C7" // TA1 13: 372/4, T=1 and T=15
		}
		return "3BD0 13" + n + "81 31 FE 45"
	}
	tests := map[string]struct {
		n              string
		t15            bool
		rate           Rate
		t0, t1, onCard time.Duration
	}{
		"0, default rate":                {"00", false, slow, 1200 * µs, 1200 * µs, 1200 * µs},
		"0, after PPS":                   {"00", false, fast, 300 * µs, 300 * µs, 300 * µs},
		"5, default rate":                {"05", false, slow, 1700 * µs, 1700 * µs, 1200 * µs},
		"5, after PPS":                   {"05", false, fast, 425 * µs, 425 * µs, 300 * µs},
		"254, after PPS":                 {"FE", false, fast, 6650 * µs, 6650 * µs, 300 * µs},
		"255, default rate":              {"FF", false, slow, 1200 * µs, 1100 * µs, 1100 * µs},
		"255, after PPS":                 {"FF", false, fast, 300 * µs, 275 * µs, 275 * µs},
		"5 with T=15, before PPS":        {"05", true, slow, 1325 * µs, 1325 * µs, 1200 * µs},
		"5 with T=15, after PPS":         {"05", true, fast, 425 * µs, 425 * µs, 300 * µs},
		"5 with T=15, at another rate":   {"05", true, Rate{3720000, 372, 2}, 725 * µs, 725 * µs, 600 * µs},
		"255 with T=15, at default rate": {"FF", true, slow, 1200 * µs, 1100 * µs, 1100 * µs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := ParseATR(unhex(with(tt.n, tt.t15)))
			if err != nil || a.HasGlobal() != tt.t15 {
				t.Fatal(err, a.HasGlobal())
			}
			got := []time.Duration{
				a.GuardTime(ProtocolT0, tt.rate), a.GuardTime(ProtocolT1, tt.rate), a.CardGuardTime(ProtocolT1, tt.rate),
			}
			if want := []time.Duration{tt.t0, tt.t1, tt.onCard}; !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestWaitingTimes(t *testing.T) {
	rate := Rate{Clock: 3720000, F: 372, D: 1}
	a, err := ParseATR(unhex("3BF0 11 00 00 C0 14 71 FE 43 00"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ got, want time.Duration }{
		"WWT":               {a.WWT(rate), 20 * 96 * time.Millisecond},
		"BWT":               {a.BWT(rate), 1100*time.Microsecond + 16*96*time.Millisecond},
		"CWT":               {a.CWT(rate), 1900 * time.Microsecond},
		"BGT":               {BGT(rate), 2200 * time.Microsecond},
		"a rate of nothing": {a.WWT(Rate{}), 1<<63 - 1},
	}
	for name, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
}

func TestPPS(t *testing.T) {
	request := PPSRequest(ProtocolT1, 0x95)
	if want := unhex("FF1195 7B"); !bytes.Equal(request, want) {
		t.Fatalf("%x, want %x", request, want)
	}
	if got := PPSRequest(ProtocolT0, 0); !bytes.Equal(got, unhex("FF00FF")) {
		t.Errorf("without a rate: %x", got)
	}
	tests := map[string]struct {
		answer string
		fidi   byte
		ok     bool
	}{
		"confirmed":               {"FF11957B", 0x95, true},
		"rate not confirmed":      {"FF01FE", 0x11, true},
		"another protocol":        {"FF10957A", 0, false},
		"another rate":            {"FF11967A"[:6] + "78", 0, false},
		"parameters not asked":    {"FF21955B"[:4] + "954B", 0, false},
		"wrong check byte":        {"FF11957C", 0, false},
		"too long":                {"FF11957B00", 0, false},
		"too short":               {"FF1195", 0, false},
		"nothing":                 {"", 0, false},
		"not a PPS":               {"FE11957A", 0, false},
		"more parameters, longer": {"FF31950058"[:8] + "5B", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			fidi, err := CheckPPS(request, unhex(tt.answer))
			if fidi != tt.fidi || (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrPPS) {
				t.Errorf("%02X, %v", fidi, err)
			}
		})
	}
	answer, p, fidi, ok := AnswerPPS(request)
	if !bytes.Equal(answer, request) || p != ProtocolT1 || fidi != 0x95 || !ok {
		t.Errorf("card: %x %v %02X %v", answer, p, fidi, ok)
	}
	if _, _, _, ok := AnswerPPS(unhex("FF11957C")); ok {
		t.Error("the card confirms a wrong check byte")
	}
}

// FuzzATR: nothing panics, what is read accounts for every byte, and strict is a part of lenient.
func FuzzATR(f *testing.F) {
	for _, s := range []string{
		"", "3B", "3B00", "03FF", "3F6525084304 6C9000", "3BFA1300FF813180450031C173C00100009000B1",
		"3BD0960281B1FE451FC717", "3B9096918131FE459C", "3BFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
	} {
		f.Add(unhex(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := ParseATR(raw)
		if a == nil {
			t.Fatal("no ATR")
		}
		_, strict := ParseATRStrict(raw)
		if err != nil && strict == nil {
			t.Fatal("strict accepts what lenient does not")
		}
		rate := Rate{Clock: 4000000, F: 372, D: 1}
		for _, p := range append(a.Protocols(), ProtocolGlobal) {
			if a.GuardTime(p, rate) <= 0 || a.CardGuardTime(p, rate) <= 0 {
				t.Error("no guard time")
			}
		}
		if a.WWT(rate) <= 0 || a.BWT(rate) <= 0 || a.CWT(rate) <= 0 || a.IFSC() < 1 || a.IFSC() > 254 {
			t.Error("a waiting time or size out of bounds")
		}
		_ = factsOf(a)
		ParseHistorical(a.Historical)
		if err == nil && !bytes.Equal(rebuild(a), a.Raw) {
			t.Errorf("%x, parts give %x", a.Raw, rebuild(a))
		}
	})
}

func rebuild(a *ATR) []byte {
	b := slices.Clone(a.Raw[:2])
	for _, g := range a.Interface {
		for _, p := range []*byte{g.TA, g.TB, g.TC, g.TD} {
			if p != nil {
				b = append(b, *p)
			}
		}
	}
	b = append(b, a.Historical...)
	if a.TCK != nil {
		b = append(b, *a.TCK)
	}
	return append(b, a.Trailing...)
}

// TestEveryATRIsReadAsItWasMade makes ATRs from parts and looks for the parts again.
func TestEveryATRIsReadAsItWasMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		historical := rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "historical")
		order := rapid.SampledFrom([][]Protocol{{}, {0}, {1}, {0, 1}, {1, 1}, {0, 1, 15}, {1, 1, 15}, {0, 0, 1, 15}}).Draw(t, "protocols")
		groups := make([]InterfaceBytes, len(order)+1)
		groups[0].T = ProtocolGlobal
		for i := range groups {
			g := &groups[i]
			if i > 0 {
				g.T = order[i-1]
			}
			for _, field := range []**byte{&g.TA, &g.TB, &g.TC} {
				if rapid.Bool().Draw(t, "there") {
					b := rapid.Byte().Draw(t, "byte")
					*field = &b
				}
			}
		}
		raw := buildATR(groups, historical)
		a, err := ParseATR(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(groups, a.Interface); diff != "" || !bytes.Equal(a.Historical, historical) || len(a.Trailing) > 0 {
			t.Fatalf("% X: %s", raw, diff)
		}
		if wanted := len(order) > 0 && slices.Max(order) > 0; (a.TCK != nil) != wanted {
			t.Fatalf("% X: TCK %v, wanted %v", raw, a.TCK, wanted)
		}
	})
}

// buildATR puts an ATR together, and the bytes TD into groups.
func buildATR(groups []InterfaceBytes, historical []byte) []byte {
	mask := func(i int) byte {
		m := byte(0)
		g := &groups[i]
		for bit, p := range []*byte{g.TA, g.TB, g.TC} {
			if p != nil {
				m |= 0x10 << bit
			}
		}
		if i+1 < len(groups) {
			m |= 0x80
		}
		return m
	}
	raw := []byte{0x3B, mask(0) | byte(len(historical))}
	check := false
	for i := range groups {
		g := &groups[i]
		if i+1 < len(groups) {
			td := mask(i+1) | byte(groups[i+1].T)
			g.TD = &td
			check = check || groups[i+1].T != ProtocolT0
		}
		for _, p := range []*byte{g.TA, g.TB, g.TC, g.TD} {
			if p != nil {
				raw = append(raw, *p)
			}
		}
	}
	raw = append(raw, historical...)
	if check {
		raw = append(raw, LRC(raw[1:]))
	}
	return raw
}
