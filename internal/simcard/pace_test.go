package simcard

import (
	"bytes"
	"testing"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// counting is a clock that notes what was waited for, and goes on by it.
type counting struct {
	now    time.Time
	waited time.Duration
}

func (c *counting) Now() time.Time { return c.now }
func (c *counting) After(d time.Duration) <-chan time.Time {
	c.now, c.waited = c.now.Add(d), c.waited+d
	done := make(chan time.Time, 1)
	done <- c.now
	return done
}

// TestPace: every command, instruction, key and byte has its time.
func TestPace(t *testing.T) {
	clock := &counting{now: time.Unix(1, 0)}
	pace := Pace{
		Command:      time.Millisecond,
		Instructions: map[byte]time.Duration{insVerify: 10 * time.Millisecond},
		Keys:         map[Algorithm]time.Duration{P256: 100 * time.Millisecond},
	}
	c := newCard(t, Options{Clock: clock, Pace: pace})
	want := time.Millisecond
	for _, step := range []struct {
		command string
		cost    time.Duration
	}{
		{getCHUID, time.Millisecond},
		{goodVerify, 11 * time.Millisecond},
		{signNothing, 101 * time.Millisecond},
		{"00871182 0A 7C08 8200 8105 01020304 00", time.Millisecond}, // refused: the key was not used
		{"00", time.Millisecond},
	} {
		send(t, c, step.command)
		want += step.cost
		if clock.waited != want || c.Spent() != want {
			t.Errorf("%s: waited %v, spent %v, want %v", step.command, clock.waited, c.Spent(), want)
		}
	}
}

// withRate is an ATR with another TA1, and its check byte.
func withRate(atr []byte, ta1 byte) []byte {
	b := bytes.Clone(atr[:len(atr)-1])
	b[2] = ta1
	return append(b, iso7816.LRC(b[1:]))
}

// TestTheLine: the times of bytes follow from ISO/IEC 7816-3.
func TestTheLine(t *testing.T) {
	pace := &Pace{Clock: 4_000_000}
	etus := func(n, f, d int) time.Duration { return time.Duration(n * f / d * 250) } // at 4 MHz
	for name, tt := range map[string]struct {
		atr             []byte
		command, answer int
		want            time.Duration
	}{
		"T=1":         {withRate(ATRT1, 0x11), 14, 2, etus(11*(14+4+2+4), 372, 1)},
		"T=1 chained": {ATRT1, 14, 258, etus(11*(14+4+258+8+4), 512, 32)},
		"T=0":         {ATRT0, 14, 2, etus(12*(14+1+2), 512, 32)},
		"T=0, header": {ATRT0, 4, 2, etus(12*(5+1+2), 512, 32)},
	} {
		atr, err := iso7816.ParseATRStrict(tt.atr)
		if err != nil {
			t.Fatal(name, err)
		}
		if got := pace.line(atr, tt.command, tt.answer); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	object := bytes.Repeat([]byte{0x9A}, 600)
	card := func(l Limits) *Card {
		c := newCard(t, Options{Limits: l})
		c.SetObject(ObjectAuthentication, object)
		return c
	}
	const extended = "00CB3FFF 000005 5C035FC105 0000"
	dialogue{{extended, 0x6700}, {getCertificate, 0x6100}}.run(t, card(Limits{ShortOnly: true}))
	dialogue{{extended, 0x9000}, {getCertificate, 0x61FF}, {"00C0000000", 0x615C}}.run(t, card(Limits{Full61: true}))
	dialogue{{extended, 0x61CC}, {"00C00000C8", 0x6104}}.run(t, card(Limits{MaxAnswer: 400}))
	dialogue{
		{"00200080 11 3132333435363738313233343536373831", 0x6700}, {goodVerify, 0x9000},
		{"10200080 0A 31323334353637383132", 0x9000}, {"00200080 07 33343536FFFFFF", 0x6700},
	}.run(t, card(Limits{MaxCommand: 16}))
	dialogue{{"10CB3FFF 02 5C03", 0x9000}, {goodVerify, 0x9000}}.run(t, card(Limits{DropChain: true}))
	dialogue{
		{"00CB3FFF 05 5C035FC102 08", 0x6C3D}, {"00CB3FFF 05 5C035FC102 3D", 0x9000}, {getCHUID, 0x9000},
		{"00CB3FFF 05 5C035FC102", 0x613D}, {"00C0000020", 0x6C3D}, {"00C000003D", 0x9000},
	}.run(t, card(Limits{ExactLe: true}))
	dialogue{{"00A40400 05 A000000308", 0x9000}, {"00CB3FFF 05 5C035FC105", 0x6100}}.run(t, card(Limits{Generous: true}))
	c := card(Limits{Silent: true})
	dialogue{{getCertificate, 0x9000}, {"00C0000000", 0x9000}, {"00C0000000", 0x9000}, {"00C0000000", 0x6A80}}.run(t, c)
}
