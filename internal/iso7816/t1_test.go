package iso7816

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// play drives an engine with a script: lines "> block" must be what it sends next, "< block" is what it is given, "!" is
// a fault. Check bytes are left out in the script and put in here.
func play(t *testing.T, engine *T1, step Step, script string) Step {
	t.Helper()
	for n, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		at := fmt.Sprintf("line %d, %q", n+1, line)
		if step.Done {
			t.Fatalf("%s: done with %x, %v", at, step.Response, step.Err)
		}
		switch text := strings.Join(strings.Fields(line[1:]), ""); line[0] {
		case '>':
			want := EDCLRC.Append(unhex(text))
			if !bytes.Equal(step.Send, want) {
				t.Fatalf("%s: %x sent", at, step.Send)
			}
		case '<':
			step = engine.Receive(EDCLRC.Append(unhex(text)))
		case '!':
			step = engine.Fault()
		}
	}
	return step
}

// TestT1Dialogues follows the scenarios of ISO/IEC 7816-3, annex A, and those in which cards have been seen to err.
func TestT1Dialogues(t *testing.T) {
	tests := map[string]struct {
		command, script, response string
		err                       error
		abandon                   bool
	}{
		"one block each way": {"01020304", `
			> 00 00 04 01020304
			< 00 00 02 9000`, "9000", nil, false},
		"a chain to the card": {"0102030405060708090A", `
			> 00 20 04 01020304
			< 00 90 00
			> 00 60 04 05060708
			< 00 80 00
			> 00 00 02 090A
			< 00 00 02 9000`, "9000", nil, false},
		"a chain from the card": {"01", `
			> 00 00 01 01
			< 00 20 02 AABB
			> 00 90 00
			< 00 60 02 CCDD
			> 00 80 00
			< 00 00 02 9000`, "aabbccdd9000", nil, false},
		"more time": {"01", `
			> 00 00 01 01
			< 00 C3 01 05
			> 00 E3 01 05
			< 00 C3 01 02
			> 00 E3 01 02
			< 00 00 02 9000`, "9000", nil, false},
		"the card changes its size": {"010203040506", `
			> 00 20 04 01020304
			< 00 C1 01 02
			> 00 E1 01 02
			< 00 90 00
			> 00 40 02 0506
			< 00 00 02 9000`, "9000", nil, false},
		"the block is wanted again": {"01", `
			> 00 00 01 01
			< 00 81 00
			> 00 00 01 01
			< 00 00 02 9000`, "9000", nil, false},
		"the answer is wanted again": {"01", `
			> 00 00 01 01
			!
			> 00 81 00
			< 00 00 02 9000`, "9000", nil, false},
		"the acknowledgement got lost": {"0102030405", `
			> 00 20 04 01020304
			!
			> 00 81 00
			< 00 90 00
			> 00 40 01 05
			< 00 00 02 9000`, "9000", nil, false},
		"another node address": {"01", `
			> 00 00 01 01
			< 12 00 02 9000
			> 00 82 00
			< 00 00 02 9000`, "9000", nil, false},
		"wrong lengths and kinds": {"01", `
			> 00 00 01 01
			< 00 00 03 9000
			> 00 82 00
			< 00 80 01 00
			> 00 82 00
			< 00 FF 00
			> 00 82 00
			< 00 00 02 9000`, "9000", nil, false},
		"an answer in the middle of our chain": {"0102030405", `
			> 00 20 04 01020304
			< 00 00 02 9000
			> 00 82 00
			< 00 90 00
			> 00 40 01 05
			< 00 00 02 9000`, "9000", nil, false},
		"the wrong sequence number": {"01", `
			> 00 00 01 01
			< 00 40 02 9000
			> 00 82 00
			< 00 00 02 6A82`, "6a82", nil, false},
		"resynchronised before the command was complete": {"0102030405", `
			> 00 20 04 01020304
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 C0 00
			!
			> 00 C0 00
			< 00 E0 00
			> 00 20 04 01020304
			< 00 90 00
			> 00 40 01 05
			< 00 00 02 9000`, "9000", nil, false},
		"resynchronised after it was complete": {"01", `
			> 00 00 01 01
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 C0 00
			< 00 E0 00`, "", ErrT1Lost, false},
		"the card is dead": {"01", `
			> 00 00 01 01
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 81 00
			!
			> 00 C0 00
			!
			> 00 C0 00
			!
			> 00 C0 00
			!`, "", ErrT1Dead, true},
		"the card aborts our chain": {"0102030405", `
			> 00 20 04 01020304
			< 00 C2 00
			> 00 E2 00
			< 00 90 00
			> 00 C0 00
			< 00 E0 00`, "", ErrT1Aborted, false},
		"the card wants to resynchronise, which it may not": {"01", `
			> 00 00 01 01
			< 00 C0 00
			> 00 82 00
			< 00 00 02 9000`, "9000", nil, false},
		"a chain of nothing": {"01", `
			> 00 00 01 01
			< 00 20 00
			> 00 82 00
			< 00 20 00
			> 00 82 00
			< 00 20 00
			> 00 82 00
			< 00 20 00
			> 00 C0 00
			< 00 E0 00`, "", ErrT1Lost, false},
		"a response that is too long": {"01", `
			> 00 00 01 01
			< 00 20 08 0102030405060708
			> 00 90 00
			< 00 60 01 09
			> 00 C2 00
			< 00 E2 00
			> 00 C0 00
			< 00 E0 00`, "", ErrT1Long, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			engine := NewT1(T1Config{IFSC: 4, MaxResponse: 8})
			step := play(t, engine, engine.Transmit(unhex(tt.command)), tt.script)
			if !step.Done || !bytes.Equal(step.Response, unhex(tt.response)) || !errors.Is(step.Err, tt.err) || step.Abandon != tt.abandon {
				t.Fatalf("%+v", step)
			}
			if tt.err != nil && !tt.abandon { // the next exchange works, from the beginning of both counters
				step = play(t, engine, engine.Transmit([]byte{1}), "> 00 00 01 01\n < 00 00 02 9000")
				if step.Err != nil || !step.Done {
					t.Errorf("next exchange: %+v", step)
				}
			}
			if engine.Dead() != tt.abandon {
				t.Error("dead:", engine.Dead())
			}
		})
	}
}

func TestT1SequenceLivesFromResetToReset(t *testing.T) {
	engine := NewT1(T1Config{})
	for _, script := range []string{
		"> 00 00 01 01\n < 00 00 02 9000", "> 00 40 01 01\n < 00 40 02 9000", "> 00 00 01 01\n < 00 00 02 9000",
	} {
		if step := play(t, engine, engine.Transmit([]byte{1}), script); step.Err != nil || !step.Done {
			t.Fatalf("%+v", step)
		}
	}
	engine.Reset()
	play(t, engine, engine.Transmit([]byte{1}), "> 00 00 01 01\n < 00 00 02 9000")
}

func TestT1Requests(t *testing.T) {
	engine := NewT1(T1Config{})
	step := play(t, engine, engine.NegotiateIFS(254), "> 00 C1 01 FE\n !\n > 00 C1 01 FE\n < 00 E1 01 FE")
	if !step.Done || step.Err != nil || engine.IFSD() != 254 || engine.IFSC() != 32 {
		t.Fatalf("%+v, IFSD %d", step, engine.IFSD())
	}
	step = play(t, engine, engine.NegotiateIFS(100), "> 00 C1 01 64\n < 00 E1 01 20\n > 00 C1 01 64\n < 00 80 00\n > 00 C1 01 64\n !")
	if !errors.Is(step.Err, ErrT1IFS) || step.Abandon || engine.IFSD() != 254 {
		t.Fatalf("refused: %+v, IFSD %d", step, engine.IFSD())
	}
	// A card that asks for other things until the engine resynchronises has confirmed nothing.
	step = engine.NegotiateIFS(100)
	for range busyMax + 1 {
		step = engine.Receive(EDCLRC.Append(unhex("00C10120")))
	}
	step = play(t, engine, step, "> 00 C0 00\n < 00 E0 00")
	if !errors.Is(step.Err, ErrT1IFS) || engine.IFSD() != 254 {
		t.Fatalf("not confirmed: %+v, IFSD %d", step, engine.IFSD())
	}
	step = play(t, engine, engine.Resynchronise(), "> 00 C0 00\n < 00 E0 00")
	if !step.Done || step.Err != nil {
		t.Fatalf("%+v", step)
	}
	step = engine.Transmit(bytes.Repeat([]byte{1}, 40))
	step = play(t, engine, step, "> 00 20 20 "+strings.Repeat("01", 32))
	if step.Done {
		t.Fatalf("%+v", step)
	}
	step = play(t, engine, engine.Abort(), "> 00 C2 00\n < 00 E2 00\n > 00 C0 00\n < 00 E0 00")
	if !errors.Is(step.Err, ErrT1Aborted) || step.Abandon {
		t.Fatalf("aborted: %+v", step)
	}
}

func TestT1OutOfOrder(t *testing.T) {
	engine := NewT1(T1Config{})
	for name, step := range map[string]Step{
		"Receive": engine.Receive([]byte{0, 0, 0, 0}), "Fault": engine.Fault(), "Abort": engine.Abort(),
		"empty command": engine.Transmit(nil),
	} {
		if !step.Done || !errors.Is(step.Err, ErrT1Order) {
			t.Errorf("%s: %+v", name, step)
		}
	}
	engine.Transmit([]byte{1})
	if step := engine.Transmit([]byte{1}); !errors.Is(step.Err, ErrT1Order) {
		t.Errorf("twice: %+v", step)
	}
}

func TestCheckSums(t *testing.T) {
	for _, s := range []string{"", "00", "0102030405060708", "00C101FE", "112233445566778899AABBCCDDEEFF00112233"} {
		b := unhex(s)
		var lrc byte
		crc := uint16(0xFFFF)
		for _, c := range b { // bit by bit, as the standards define them
			lrc ^= c
			for i := range 8 {
				bit := (uint16(c)>>i ^ crc) & 1
				if crc >>= 1; bit != 0 {
					crc ^= 0x8408
				}
			}
		}
		if LRC(b) != lrc || CRC(b) != crc {
			t.Errorf("%s: LRC %02X, want %02X; CRC %04X, want %04X", s, LRC(b), lrc, CRC(b), crc)
		}
	}
}

// BenchmarkT1Block is one block of 258 bytes sent and one received, with LRC.
func BenchmarkT1Block(b *testing.B) {
	command := bytes.Repeat([]byte{0x5A}, 254)
	answer := [2][]byte{}
	for i := range answer {
		answer[i] = appendBlock(nil, 0, byte(i)<<6, command, EDCLRC)
	}
	engine := NewT1(T1Config{IFSC: 254, IFSD: 254})
	engine.Transmit(command)
	engine.Receive(answer[0])
	n := 1
	b.ReportAllocs()
	b.SetBytes(2 * 258)
	for b.Loop() {
		engine.Transmit(command)
		if step := engine.Receive(answer[n&1]); step.Err != nil {
			b.Fatal(step.Err)
		}
		n++
	}
}

func BenchmarkLRC258(b *testing.B) {
	block := make([]byte, 258)
	for b.Loop() {
		LRC(block)
	}
}

func BenchmarkCRC258(b *testing.B) {
	block := make([]byte, 258)
	for b.Loop() {
		CRC(block)
	}
}

// BenchmarkT1Long is a command and a response of 64 KiB, both roles.
func BenchmarkT1Long(b *testing.B) {
	command := bytes.Repeat([]byte{0x5A}, 65535)
	engine := NewT1(T1Config{IFSC: 254, IFSD: 254})
	card := NewT1Card(T1Config{IFSC: 254, IFSD: 254})
	b.ReportAllocs()
	b.SetBytes(2 * 65535)
	for b.Loop() {
		step := engine.Transmit(command)
		for !step.Done {
			answer := card.Receive(step.Send)
			if answer.Command != nil {
				answer = card.Respond(command)
			}
			step = engine.Receive(answer.Send)
		}
		if step.Err != nil {
			b.Fatal(step.Err)
		}
	}
}

// TestT1AllocatesNothing: in the steady state a block costs no allocation.
func TestT1AllocatesNothing(t *testing.T) {
	command := bytes.Repeat([]byte{0x5A}, 600)
	engine, card := NewT1(T1Config{IFSC: 254, IFSD: 254}), NewT1Card(T1Config{IFSC: 254, IFSD: 254})
	run := func() {
		for step := engine.Transmit(command); !step.Done; {
			answer := card.Receive(step.Send)
			if answer.Command != nil {
				answer = card.Respond(command)
			}
			step = engine.Receive(answer.Send)
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
