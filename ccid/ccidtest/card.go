package ccidtest

import (
	"encoding/binary"
	"hash/crc32"
)

// Card is a card as its application sees it: whole APDUs. It gets one call at a time.
type Card interface {
	ATR() []byte
	// Reset forgets the state of the card's application and what was agreed with the reader.
	Reset()
	// Transmit answers an APDU, short or extended; an error is a card that does not answer.
	Transmit(command []byte) ([]byte, error)
}

// Voltages is a Card that needs particular voltages; the bits are those of bVoltageSupport.
type Voltages interface{ Voltages() byte }

// EchoCard answers every command with its bytes and 9000.
type EchoCard struct {
	Bytes  []byte // ATR; nil offers T=0 and T=1
	Resets int
}

// ATR is Bytes, or one that offers T=0 and T=1.
func (c *EchoCard) ATR() []byte {
	if c.Bytes != nil {
		return c.Bytes
	}
	return []byte{0x3B, 0x80, 0x80, 0x01, 0x01}
}

// Reset counts the resets.
func (c *EchoCard) Reset() { c.Resets++ }

// Transmit returns the command with 9000 after it.
func (c *EchoCard) Transmit(command []byte) ([]byte, error) {
	return append(append([]byte(nil), command...), 0x90, 0x00), nil
}

// PatternCard answers with as many bytes as P1 and P2 say (0 is 65536) when bit 2 of INS is set,
// else with none, and 9000. The bytes follow from the whole command, so that the answer to another
// command is noticed. Bit 1 of INS has to be set when the command has data, which matters under
// T=0.
type PatternCard struct {
	Bytes    []byte // ATR
	Commands int    // how many commands came
	Resets   int
}

// Incoming reports whether a command brings data: bit 1 of INS.
func (c *PatternCard) Incoming(ins byte) bool { return ins&2 != 0 }

// ATR is Bytes.
func (c *PatternCard) ATR() []byte { return c.Bytes }

// Reset counts the resets.
func (c *PatternCard) Reset() { c.Resets++ }

// Transmit answers a command, see PatternCard; one that is malformed gets 6700.
func (c *PatternCard) Transmit(command []byte) ([]byte, error) {
	c.Commands++
	return Pattern(command), nil
}

// Pattern is the answer of a PatternCard.
func Pattern(command []byte) []byte {
	data, ok := commandData(command)
	if !ok {
		return []byte{0x67, 0x00}
	}

	n := 0
	if command[1]&4 != 0 {
		n = (int(command[2])<<8|int(command[3])-1)&0xFFFF + 1
	}

	// Without Le, which under T=0 is another one when the command is sent again. The generator is
	// linear congruential, four bytes a step.
	seed := crc32.ChecksumIEEE(append(append([]byte(nil), command[:4]...), data...))
	answer := make([]byte, n, n+2)
	for i := range answer {
		if i%4 == 0 && i > 0 {
			seed = seed*1664525 + 1013904223
		}
		answer[i] = byte(seed >> (8 * (i % 4)))
	}

	return append(answer, 0x90, 0x00)
}

// commandData is the command data field of an APDU, short or extended.
func commandData(c []byte) ([]byte, bool) {
	switch {
	case len(c) < 4:
		return nil, false
	case len(c) <= 5:
		return nil, true
	case c[4] != 0:
		if n := int(c[4]); len(c) == 5+n || len(c) == 6+n {
			return c[5 : 5+n], true
		}
	case len(c) == 7:
		return nil, true
	case len(c) > 7:
		if n := int(binary.BigEndian.Uint16(c[5:])); len(c) == 7+n || len(c) == 9+n {
			return c[7 : 7+n], true
		}
	}
	return nil, false
}
