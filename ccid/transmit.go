package ccid

import (
	"context"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// ppduTimeout is for a command to the reader instead of the card (PC/SC part 10, PPDU), which may
// mean the entry of a PIN.
const ppduTimeout = 90 * time.Second

// Transmit sends one command APDU (on TPDU level under T=0 a TPDU) and appends the answer to
// reply[:0].
func (s *Slot) Transmit(
	ctx context.Context, protocol uint32, command, reply []byte,
) ([]byte, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	p := s.reader.plan
	switch {
	case len(command) == 0 || len(command) > link.LongestAnswer+10:
		return nil, ifd.Errorf(ifd.Communication, "a command of %d bytes", len(command))
	case s.lost.Load():
		return nil, ifd.Errorf(ifd.Communication, "the reader has been reset, and so was the card")
	case !s.powered:
		// The program sees why: its card has lost its power, and needs to be powered anew.
		s.stopped.Store(true)
		return nil, ifd.Errorf(ifd.Communication, "the card has no power")
	case p.AnswersTags && isTagQuery(command):
		return append(reply[:0], s.answerTag(command[3])...), nil
	}

	answer, err := s.transmit(ctx, protocol, command, reply[:0])
	s.assess(err)
	if ifd.Absent(err) {
		s.noteAbsent()
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// transmit exchanges a command on the reader's exchange level.
func (s *Slot) transmit(
	ctx context.Context, protocol uint32, command, reply []byte,
) ([]byte, error) {
	p := s.reader.plan
	timeout := s.timeout
	if isPPDU(command) {
		timeout = max(timeout, ppduTimeout)
	}

	switch {
	case p.Link == device.ProtocolICCDB:
		return s.extended(ctx, command, reply, timeout)
	case p.Link == device.ProtocolCCID && p.Level == plan.LevelExtendedAPDU:
		return s.extended(ctx, command, reply, timeout)
	case p.Link == device.ProtocolICCDA:
		return s.single(ctx, command, reply, timeout)
	case p.Level == plan.LevelShortAPDU:
		if len(command) > 5+iso7816.MaxShortNc+1 {
			return nil, ifd.Errorf(
				ifd.Communication,
				"a command of %d bytes: the reader takes short APDUs only, of at most 261",
				len(command))
		}
		return s.single(ctx, command, reply, timeout)
	case protocol == pcscT1 && s.t1 != nil:
		return s.transmitT1(ctx, command, reply)
	case p.Level == plan.LevelCharacter && s.t0 != nil:
		return s.characterT0(ctx, command, reply)
	case p.Level == plan.LevelCharacter:
		return nil, ifd.Errorf(ifd.Unsupported, "a reader of character level needs a protocol")
	}
	// What is left is T=0 on TPDU level, and raw commands: the caller has made the TPDU.
	return s.single(ctx, command, reply, timeout)
}

// isPPDU reports whether a command is FF C2 01, a feature of the reader in the form of an APDU
// (PC/SC part 10, PPDU).
func isPPDU(command []byte) bool {
	return len(command) > 2 && command[0] == 0xFF && command[1] == 0xC2 && command[2] == 0x01
}

// single is an exchange in one block, unchanged.
func (s *Slot) single(
	ctx context.Context, command, reply []byte, timeout time.Duration,
) ([]byte, error) {
	if err := s.checkSize(len(command)); err != nil {
		return nil, err
	}

	a, err := s.block(ctx, message.XfrBlock{Data: command}, timeout)
	if err != nil {
		return nil, err
	}
	return append(reply, a.Data...), nil
}

// checkSize returns an error when a block of n bytes cannot be sent in one message.
func (s *Slot) checkSize(n int) error {
	p := s.reader.plan
	// ICCD sends a block by control transfers, without a message around it.
	if p.Link != device.ProtocolCCID {
		return nil
	}
	if p.Oversize && n <= 260 {
		return nil
	}

	if most := p.MaxMessage - message.HeaderLength; n > most {
		return ifd.Errorf(
			ifd.Communication, "%d bytes: the reader takes at most %d at a time", n, most)
	}
	return nil
}

// mostEmpty bounds the blocks without data in one answer.
const mostEmpty = 1000

// extended is an exchange on the level of extended APDUs: command and answer go in as many pieces
// as the message length needs. The answer is always fetched to its end: a reader left in the middle
// of one would answer the next command with the rest.
func (s *Slot) extended(
	ctx context.Context, command, reply []byte, timeout time.Duration,
) ([]byte, error) {
	a, err := s.sendPieces(ctx, command, timeout)
	for empty := 0; err == nil; {
		reply = append(reply, a.Data...)
		if a.Special == message.ChainWhole || a.Special == message.ChainEnds {
			return reply, nil
		}

		// Blocks without data do not lengthen the reply, so they need a bound of their own.
		if len(a.Data) == 0 {
			empty++
		}

		goesOn := a.Special == message.ChainBegins || a.Special == message.ChainMiddle ||
			a.Special == message.ChainContinue
		switch {
		case !goesOn:
			return nil, ifd.Errorf(
				ifd.Communication, "the reader's answer has the chain parameter %02X", a.Special)
		case len(reply) > link.LongestAnswer || empty > mostEmpty:
			return nil, ifd.Errorf(ifd.Communication, "the reader's answer does not end")
		}

		a, err = s.block(ctx, message.XfrBlock{Level: message.ChainContinue}, timeout)
	}
	return nil, err
}

// sendPieces sends a command in pieces and returns the answer to the last one.
func (s *Slot) sendPieces(
	ctx context.Context, command []byte, timeout time.Duration,
) (message.Answer, error) {
	size := s.reader.plan.MaxMessage - message.HeaderLength
	for first := true; len(command) > size; first = false {
		level := uint16(message.ChainMiddle)
		if first {
			level = message.ChainBegins
		}

		a, err := s.block(ctx, message.XfrBlock{Level: level, Data: command[:size]}, timeout)
		if err != nil {
			return a, err
		}
		// The reader may only ask for the rest: data now would be the answer to half a command.
		if len(a.Data) != 0 {
			return a, ifd.Errorf(
				ifd.Communication,
				"the reader answered %d bytes to a part of a command", len(a.Data))
		}

		command = command[size:]
		if len(command) <= size {
			return s.block(ctx, message.XfrBlock{Level: message.ChainEnds, Data: command}, timeout)
		}
	}
	return s.block(ctx, message.XfrBlock{Level: message.ChainWhole, Data: command}, timeout)
}

// transmitT1 is an exchange on TPDU or character level under T=1.
func (s *Slot) transmitT1(ctx context.Context, command, reply []byte) ([]byte, error) {
	if err := s.prepareT1(ctx); err != nil {
		return nil, err
	}
	response, err := s.runT1(ctx, s.t1.Transmit(command))
	if err != nil {
		return nil, err
	}
	return append(reply, response...), nil
}

// prepareT1 prepares the T=1 engine for an exchange: after one that was given up, the sequence
// numbers of both sides are set anew.
func (s *Slot) prepareT1(ctx context.Context) error {
	if s.t1.Dead() {
		return &ifd.Fault{Code: ifd.Communication, Text: "T=1", Cause: iso7816.ErrT1Dead}
	}

	if s.outOfStep {
		// Cleared first: runT1 sets it again when this exchange is given up, too.
		s.outOfStep = false
		if _, err := s.runT1(ctx, s.t1.Resynchronise()); err != nil {
			return err
		}
	}
	return nil
}

// runT1 exchanges the blocks that the engine asks for until it is done. An answer that the reader
// did not get from the card, or with parity errors, is left to the engine; no answer of the reader
// ends the exchange.
func (s *Slot) runT1(ctx context.Context, step iso7816.Step) ([]byte, error) {
	// The engine's bounds are numbers of blocks, and each may be extended: this one is a time.
	whole, cancel := context.WithTimeout(ctx, link.LongestWait)
	defer cancel()

	for !step.Done {
		block, err := s.blockT1(whole, step.Send, step.WTX)
		if err == nil {
			s.cardAnswered = true
			step = s.t1.Receive(block)
			continue
		}

		failed := message.AsError(err)
		if failed == nil || ifd.Absent(err) {
			s.outOfStep = true
			return nil, err
		}
		if failed.Code == message.CodeUnsupported || failed.Code == message.CodeAborted {
			s.outOfStep = true
			return nil, err
		}

		step = s.t1.Fault()
	}

	if step.Err != nil {
		return nil, &ifd.Fault{Code: ifd.Communication, Text: "T=1", Cause: step.Err}
	}
	return step.Response, nil
}

// blockT1 exchanges one block. wtx multiplies the time that the card has.
func (s *Slot) blockT1(ctx context.Context, block []byte, wtx byte) ([]byte, error) {
	timeout := min(s.timeout*time.Duration(max(wtx, 1)), link.LongestWait)

	if s.reader.plan.Level == plan.LevelCharacter {
		return s.characterT1(ctx, block, timeout)
	}

	if err := s.checkSize(len(block)); err != nil {
		return nil, err
	}
	a, err := s.block(ctx, message.XfrBlock{BWI: wtx, Data: block}, timeout)
	return a.Data, err
}
