package ccid

import (
	"context"
	"time"

	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/internal/iso7816"
)

// packet is the size of the bulk packets of full-speed USB.
const packet = 64

// characters sends bytes to the card and returns want bytes of its answer, on character level:
// wLevelParameter is the number of bytes wanted (CCID 1.1, section 6.1.4). It may return fewer; the
// result is valid until the next call. What is longer than a message goes in pieces, of which all
// but the last want nothing.
func (s *Slot) characters(
	ctx context.Context, send []byte, want int, timeout time.Duration,
) ([]byte, error) {
	// These readers hang at an answer that fills its packets exactly: its first byte is read alone.
	fillsPackets := (want+message.HeaderLength)%packet == 0
	if s.reader.plan.ReadOneFirst && want > 1 && fillsPackets {
		first, err := s.characters(ctx, send, 1, timeout)
		if err != nil {
			return nil, err
		}

		// Kept in a variable: the second call reuses the memory of the first one's answer.
		one := first[0]
		rest, err := s.characters(ctx, nil, want-1, timeout)
		if err != nil {
			return nil, err
		}

		s.scratch = append(append(s.scratch[:0], one), rest...)
		return s.scratch, nil
	}

	room := s.reader.plan.MaxMessage - message.HeaderLength
	for ; len(send) > room; send = send[room:] {
		if _, err := s.block(ctx, message.XfrBlock{Data: send[:room]}, timeout); err != nil {
			return nil, err
		}
	}

	want = min(want, room)
	a, err := s.block(ctx, message.XfrBlock{Level: uint16(want), Data: send}, timeout)
	if err != nil {
		return nil, err
	}
	// At least one byte: the loops of the callers end because each call brings the answer forward.
	if len(a.Data) == 0 || len(a.Data) > want {
		return nil, ifd.Errorf(
			ifd.Communication,
			"%d bytes of the card were asked for, and %d came", want, len(a.Data))
	}
	return a.Data, nil
}

// characterT0 is an exchange under T=0, byte for byte.
func (s *Slot) characterT0(ctx context.Context, command, reply []byte) ([]byte, error) {
	// The card may ask for time by NULL bytes for ever: this bounds the whole exchange.
	whole, cancel := context.WithTimeout(ctx, link.LongestWait)
	defer cancel()

	step := s.t0.Transmit(command)
	for !step.Done {
		got, err := s.characters(whole, step.Send, step.Expect, s.timeout)
		if err != nil {
			// The engine is told, so that it clears its copy of the command.
			s.t0.Fault(err)
			return nil, err
		}
		step = s.t0.Receive(got)
	}

	if step.Err != nil {
		return nil, &ifd.Fault{Code: ifd.Communication, Text: "T=0", Cause: step.Err}
	}
	return append(reply, step.Response...), nil
}

// characterT1 exchanges one T=1 block: the prologue says how long the rest is.
func (s *Slot) characterT1(
	ctx context.Context, block []byte, timeout time.Duration,
) ([]byte, error) {
	const prologue = 3
	head, err := s.characters(ctx, block, prologue, timeout)
	if err != nil {
		return nil, err
	}

	answer := append(make([]byte, 0, iso7816.MaxT1Block), head...)
	if len(answer) < prologue {
		// The engine refuses this as a block, and asks for it again.
		return answer, nil
	}

	// A length that no block can have is 0: the engine gets the prologue alone, and refuses it.
	length := iso7816.T1BlockLength(answer, s.card.EDC())
	for len(answer) < length {
		rest, err := s.characters(ctx, nil, length-len(answer), timeout)
		if err != nil {
			return nil, err
		}
		answer = append(answer, rest...)
	}
	return answer, nil
}
