package iso7816

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// line carries blocks between the two roles and does to them what a script of bytes says.
type line struct {
	script []byte
	at     int
	aborts bool // the driver gives an exchange up now and then
}

// next gives the fate of the next block; when the script is over everything arrives.
func (l *line) next() byte {
	if l.at >= len(l.script) {
		return 0
	}
	l.at++
	return l.script[l.at-1]
}

// carry brings a block over, or something else in its place. The faults are those that the check sum finds: a byte
// changed, a block cut short or with bytes before its end, a block lost.
func (l *line) carry(b []byte) []byte {
	fate := l.next()
	b = bytes.Clone(b)
	switch fate & 7 {
	case 1:
		return nil
	case 2:
		b[int(l.next())%len(b)] ^= 1 << (fate >> 5)
	case 3:
		b = b[:int(l.next())%len(b)]
	case 4:
		b = append(b, l.next())
	}
	return b
}

// simulated is a card that executes commands by a rule, and now and then does something else first.
type simulated struct {
	*T1Card
	line     *line
	answer   func(command []byte) []byte
	executed [][]byte
	pending  []byte
}

func (s *simulated) receive(block []byte) []byte {
	step := s.Receive(block)
	for step.Send == nil {
		if step.Command != nil {
			s.executed = append(s.executed, bytes.Clone(step.Command))
			s.pending = s.answer(step.Command)
		}
		switch fate := s.line.next(); fate & 15 {
		case 1:
			step = s.RequestWTX(fate>>4 + 1)
		case 2:
			step = s.RequestIFS(fate>>4 + 1)
		case 3:
			step = s.RequestAbort()
		default:
			step = s.Respond(s.pending)
		}
	}
	return step.Send
}

// exchange drives the engine with one step after the other until it is done. It counts steps, so that an exchange that
// never ends is found.
func exchange(t *testing.T, step Step, engine *T1, card *simulated, l *line) Step {
	t.Helper()
	for n := 0; !step.Done; n++ {
		if n > 100000 {
			t.Fatal("the exchange does not end")
		}
		if l.aborts && l.next()&63 == 7 {
			step = engine.Abort()
			continue
		}
		block := l.carry(step.Send)
		var answer []byte
		if block != nil {
			answer = l.carry(card.receive(block))
		}
		if answer == nil {
			step = engine.Fault()
		} else {
			step = engine.Receive(answer)
		}
	}
	return step
}

// FuzzT1 lets both roles work against each other over a line with faults: every exchange ends right or with an error,
// the card never executes anything but the command, and never twice. After an error the next exchange works.
func FuzzT1(f *testing.F) {
	f.Add([]byte{}, byte(0), uint16(5), uint16(10))
	f.Add([]byte{0, 1, 0, 0, 1}, byte(0), uint16(300), uint16(10))
	f.Add([]byte{2, 1, 0x42, 3, 0, 3, 2, 0, 1}, byte(1), uint16(70), uint16(700))
	f.Add([]byte{0, 0, 1, 0, 0x32, 0, 3}, byte(2), uint16(100), uint16(100))
	f.Add([]byte{1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1}, byte(3), uint16(100), uint16(100))
	f.Add([]byte{0, 0, 0, 7, 0, 0, 0, 7}, byte(4), uint16(0x8100), uint16(300))
	f.Fuzz(func(t *testing.T, script []byte, config byte, commandLength, responseLength uint16) {
		l := &line{script: script, aborts: commandLength&0x8000 != 0}
		c := T1Config{EDC: EDC(config & 1), NAD: config & 0x12, IFSC: int(config >> 2), IFSD: 254, MaxResponse: 5000}
		engine := NewT1(c)
		c.IFSD = 0
		card := &simulated{T1Card: NewT1Card(c), line: l}
		card.answer = func(command []byte) []byte {
			return binary.BigEndian.AppendUint16(pattern(int(responseLength)%6000, command[0]), CRC(command))
		}
		if config&0x80 != 0 {
			exchange(t, engine.NegotiateIFS(254), engine, card, l)
		}
		for i := range 4 {
			if engine.Dead() {
				engine.Reset()
				card.Reset()
			}
			if i == 3 {
				l.at = len(l.script) // the last exchange is undisturbed
			}
			command := pattern(1+int(commandLength)%6000, byte(i))
			card.executed = nil
			step := exchange(t, engine.Transmit(command), engine, card, l)
			checkExchange(t, card, command, step)
			if i == 3 && step.Err != nil && step.Err != ErrT1Long {
				t.Fatalf("undisturbed exchange: %v", step.Err)
			}
		}
	})
}

func checkExchange(t *testing.T, card *simulated, command []byte, step Step) {
	t.Helper()
	if len(card.executed) > 1 {
		t.Fatalf("executed %d times", len(card.executed))
	}
	if len(card.executed) == 1 && !bytes.Equal(card.executed[0], command) {
		t.Fatalf("card got %x, sent was %x", card.executed[0], command)
	}
	if step.Err != nil {
		return
	}
	if len(card.executed) == 0 {
		t.Fatal("an answer without execution")
	}
	if want := card.answer(command); !bytes.Equal(step.Response, want) {
		t.Fatalf("response of %d bytes, want %d", len(step.Response), len(want))
	}
}

// pattern makes n bytes that differ from block to block, beginning with first.
func pattern(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8) ^ first
	}
	if n > 0 {
		b[0] = first
	}
	return b
}
