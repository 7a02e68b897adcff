package iso7816

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestT0Dialogues(t *testing.T) {
	tests := map[string]struct {
		command, script, response string
		err                       error
	}{
		"case 1": {"00440000", `
			> 0044000000
			< 90
			< 00`, "9000", nil},
		"case 2": {"00C0000003", `
			> 00C0000003
			< C0
			< 010203
			< 9000`, "0102039000", nil},
		"case 2 in one piece": {"00C0000003", `
			> 00C0000003
			< C00102039000`, "0102039000", nil},
		"case 2, 256 bytes": {"00C0000000", `
			> 00C0000000
			< C0` + strings.Repeat("55", 256) + `9000`, strings.Repeat("55", 256) + "9000", nil},
		"case 2 byte by byte": {"00C0000002", `
			> 00C0000002
			< 3F
			< 01
			< 3E02
			< 6100`, "01026100", nil},
		"case 3": {"00A40000023F00", `
			> 00A4000002
			< A4
			> 3F00
			< 9F10`, "9f10", nil},
		"case 3 with VPP of old": {"00A40000023F00", `
			> 00A4000002
			< A5
			> 3F00
			< 9000`, "9000", nil},
		"case 3 byte by byte, with time asked for": {"00A40000023F00", `
			> 00A4000002
			< 60
			< 60
			< 5B
			> 3F
			< 605B
			> 00
			< 606110`, "6110", nil},
		"case 4 is sent as case 3": {"00A40000023F0010", `
			> 00A4000002
			< A4
			> 3F00
			< 6110`, "6110", nil},
		"refused at once":          {"00A40000023F00", "> 00A4000002\n < 6D00", "6d00", nil},
		"wrong Le":                 {"00C0000000", "> 00C0000000\n < 6C02", "6c02", nil},
		"no procedure byte":        {"00C0000000", "> 00C0000000\n < 12", "", ErrT0Procedure},
		"more than asked for":      {"00440000", "> 0044000000\n < 900000", "", ErrT0Procedure},
		"nothing left to send":     {"00440000", "> 0044000000\n < 44", "", ErrT0Procedure},
		"bytes while we send":      {"00A40000023F00", "> 00A4000002\n < A490", "", ErrT0Procedure},
		"an INS like a status":     {"00640000", "", "", ErrT0Command},
		"another INS like one":     {"00900000", "", "", ErrT0Command},
		"extended length":          {"00C00000000100", "", "", ErrT0Command},
		"no command":               {"00C0", "", "", ErrAPDU},
		"an answer of no bytes":    {"00C0000003", "> 00C0000003\n < ", "", ErrT0Order},
		"the card fell silent":     {"00C0000003", "> 00C0000003\n !", "", errSilent},
		"silent within the answer": {"00C0000003", "> 00C0000003\n < C001\n !", "", errSilent},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			engine := NewT0()
			step := engine.Transmit(unhex(tt.command))
			for _, line := range strings.Split(strings.TrimSpace(tt.script), "\n") {
				line = strings.TrimSpace(line)
				switch {
				case line == "":
				case step.Done:
					t.Fatalf("%q: done: %+v", line, step)
				case line[0] == '>':
					if !bytes.Equal(step.Send, unhex(line[2:])) || step.Expect < 1 {
						t.Fatalf("%q: %+v", line, step)
					}
				case line[0] == '!':
					step = engine.Fault(errSilent)
				default:
					step = engine.Receive(unhex(strings.TrimSpace(line[1:])))
				}
			}
			if !step.Done || !bytes.Equal(step.Response, unhex(tt.response)) || !errors.Is(step.Err, tt.err) {
				t.Errorf("%+v", step)
			}
			if tt.err != nil {
				if step := engine.Receive([]byte{0x90}); !errors.Is(step.Err, ErrT0Order) {
					t.Errorf("after the end: %+v", step)
				}
			}
		})
	}
}

var errSilent = errors.New("silent")

// TestT0BothRoles lets both roles speak, with the bytes of the card in pieces of any size.
func TestT0BothRoles(t *testing.T) {
	for _, card := range []*T0Card{{}, {ByteWise: true}, {Nulls: 2}, {ByteWise: true, Nulls: 1}} {
		card.Incoming = func(ins byte) bool { return ins == 0xD6 }
		for _, n := range []int{0, 1, 2, 255, 256} {
			for _, piece := range []int{1, 3, 1000} {
				data := pattern(n, 7)
				read, err := (&Command{INS: 0xB0, Ne: n}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				checkT0(t, card, piece, read, data, append(bytes.Clone(data), 0x90, 0x00))
				if n < 256 {
					write, _ := (&Command{INS: 0xD6, Data: data}).Marshal()
					checkT0(t, card, piece, write, nil, []byte{0x90, 0x00})
				}
			}
		}
	}
}

func checkT0(t *testing.T, card *T0Card, piece int, command, data, want []byte) {
	t.Helper()
	engine := NewT0()
	var executed []byte
	var fromCard []byte
	step := engine.Transmit(command)
	for !step.Done {
		if step.Send != nil {
			answer := card.Receive(step.Send)
			for answer.Command != nil {
				executed = bytes.Clone(answer.Command)
				answer = card.Respond(data, StatusOK)
			}
			fromCard = append(fromCard, answer.Send...)
		}
		n := min(len(fromCard), piece, step.Expect)
		if n == 0 {
			t.Fatalf("the card says nothing after %x", command)
		}
		step = engine.Receive(fromCard[:n])
		fromCard = fromCard[n:]
	}
	sent := command
	if len(command) == 4 {
		sent = append(bytes.Clone(command), 0)
	}
	if step.Err != nil || !bytes.Equal(step.Response, want) || !bytes.Equal(executed, sent) {
		t.Errorf("%d bytes of answer, want %d, %v; card got %x", len(step.Response), len(want), step.Err, executed)
	}
}

// FuzzT0: whatever a card sends, an exchange ends, and a response is one that the card sent.
func FuzzT0(f *testing.F) {
	f.Add(unhex("00C0000003"), unhex("C00102039000"))
	f.Add(unhex("00A40000023F00"), unhex("605B60A49000"))
	f.Fuzz(func(t *testing.T, command, card []byte) {
		engine := NewT0()
		step := engine.Transmit(command)
		for !step.Done && len(card) > 0 {
			if step.Expect < 1 || step.Expect > 256 {
				t.Fatalf("%d bytes expected", step.Expect)
			}
			n := min(step.Expect, len(card))
			step = engine.Receive(card[:n])
			card = card[n:]
		}
		if step.Done && step.Err == nil && (len(step.Response) < 2 || len(step.Response) > 258) {
			t.Fatalf("response of %d bytes", len(step.Response))
		}
	})
}
