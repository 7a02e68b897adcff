package ccidtest

import (
	"encoding/binary"
	"errors"
	"slices"

	"pam_pkcs11/ccid/device"
)

const headerLength = 10

// Message types of the host and of the reader (CCID 1.1, table 6.1-1 and 6.2-1).
const (
	iccPowerOn       = 0x62
	iccPowerOff      = 0x63
	getSlotStatus    = 0x65
	xfrBlock         = 0x6F
	getParameters    = 0x6C
	resetParameters  = 0x6D
	setParameters    = 0x61
	escape           = 0x6B
	iccClock         = 0x6E
	t0APDU           = 0x6A
	secure           = 0x69
	mechanical       = 0x71
	abort            = 0x72
	setDataRateClock = 0x73

	dataBlock       = 0x80
	slotStatus      = 0x81
	parameters      = 0x82
	escapeAnswer    = 0x83
	rateClockAnswer = 0x84
)

// Values of bError.
const (
	errNotSupported = 0x00
	errBadLength    = 0x01
	errBadSlot      = 0x05
	errBadValue     = 0x07
	errMute         = 0xFE
	errParity       = 0xFD
	errSlotBusy     = 0xE0
	errAborted      = 0xFF
)

// reader is one CCID interface. Device.mu guards all of it.
type reader struct {
	device *Device
	in     *Interface
	slots  []*slot
	escape func(slot int, command []byte) (answer []byte, ok bool)
	iccdState
}

func newReader(d *Device, in *Interface) *reader {
	r := &reader{device: d, in: in}
	for i := 0; i <= int(in.CCID.MaxSlotIndex); i++ {
		r.slots = append(r.slots, &slot{reader: r})
	}
	return r
}

// slot is one place for a card.
type slot struct {
	reader  *reader
	card    Card
	powered bool
	front   *front // of the card, since it is powered

	protocol byte   // of the parameters
	params   []byte // of SetParameters
	clock    byte   // bClockStatus

	command []byte // extended APDU: what came so far
	answer  []byte // extended APDU: what is still to be sent
	Habits
	delayed []byte // the command for which the card has asked for time

	insertion int  // counts what was put in and taken out
	busy      bool // a slow card works on a command
}

// Habits are things that a card may do, and what the user of a PIN pad does. They stay when the
// card is taken out.
type Habits struct {
	Pad       Pad
	Nulls     int  // T=0 on character level: NULL bytes before each procedure byte
	ByteWise  bool // T=0 on character level: acknowledges every byte
	RefusePPS bool
	WTX       int // T=1: how many times the card asks for time before its next answer

	// Slow lets everything else go on while the card works on a command, as real readers do: it can
	// be pulled, the reader unplugged, and the host is asked for time (CCID 1.1, section 6.2.6).
	// Without it a command takes no time at all, and an error of a Fault is the error of
	// Device.Out.
	Slow bool
}

// insert puts a card in; nil takes it out. The state of the slot begins anew.
func (s *slot) insert(c Card) {
	*s = slot{
		reader:    s.reader,
		card:      c,
		Habits:    s.Habits,
		insertion: s.insertion + 1,
	}
	if c != nil && s.reader.in.CCID.Features&device.FeatureActivation != 0 {
		s.powerOn(0)
	}
}

// icc is the state of the card in bStatus.
func (s *slot) icc() byte {
	switch {
	case s.card == nil:
		return 2
	case !s.powered:
		return 1
	}
	return 0
}

// notify reports a movement in a slot.
func (r *reader) notify(moved int) {
	if !r.in.Interrupt {
		return
	}

	// Two bits a slot: a card is there, and it has moved.
	b := make([]byte, 1+(len(r.slots)+3)/4)
	b[0] = 0x50
	for i, s := range r.slots {
		if s.card != nil {
			b[1+i/4] |= 1 << (i % 4 * 2)
		}
		if i == moved {
			b[1+i/4] |= 2 << (i % 4 * 2)
		}
	}

	r.device.pipes[r.in.interrupt()].put(Transfer{Data: b})
}

// answer is a message of the reader.
func answer(kind, slot, seq, status, code, special byte, data []byte) []byte {
	b := []byte{kind, 0, 0, 0, 0, slot, seq, status, code, special}
	binary.LittleEndian.PutUint32(b[1:], uint32(len(data)))
	return append(b, data...)
}

// answerKind is the type of the answer to a message of the host.
func answerKind(kind byte) byte {
	switch kind {
	case iccPowerOn, xfrBlock, secure:
		return dataBlock
	case getParameters, resetParameters, setParameters:
		return parameters
	case escape:
		return escapeAnswer
	case setDataRateClock:
		return rateClockAnswer
	}
	return slotStatus
}

// handle performs a message and returns the answers.
func (r *reader) handle(m []byte) [][]byte {
	kind := m[0]
	number := m[5]
	seq := m[6]
	if int(number) >= len(r.slots) {
		return [][]byte{answer(answerKind(kind), number, seq, 0x42, errBadSlot, 0, nil)}
	}

	s := r.slots[number]
	special, data, code := s.perform(kind, m[7:10], m[10:])
	status := s.icc()
	if code >= 0 {
		status |= 0x40
	} else {
		code = 0
	}
	return [][]byte{answer(answerKind(kind), number, seq, status, byte(code), special, data)}
}

// succeeded is the code of success in perform.
const succeeded = -1

// perform performs one command: bytes 7 to 9 of the header, and the data. code is bError, or
// succeeded.
func (s *slot) perform(kind byte, special, data []byte) (last byte, out []byte, code int) {
	// These two need nothing of the card.
	if s.busy && kind != getSlotStatus && kind != abort {
		return 0, nil, errSlotBusy
	}

	switch kind {
	case iccPowerOn:
		out, code = s.powerOn(special[0])
		return 0, out, code
	case iccPowerOff:
		s.powered = false
		return s.clock, nil, succeeded
	case getSlotStatus, abort:
		return s.clock, nil, succeeded
	case getParameters, resetParameters, setParameters:
		return s.parameters(kind, special[0], data)
	case xfrBlock:
		return s.xfr(binary.LittleEndian.Uint16(special[1:]), data)
	case secure:
		out, code = s.secure(data)
		return 0, out, code
	case escape:
		// Escapes belong to the test: see Device.Escapes.
		if e := s.reader.escape; e != nil {
			if out, ok := e(slices.Index(s.reader.slots, s), data); ok {
				return 0, out, succeeded
			}
		}
		return 0, nil, errNotSupported
	case iccClock:
		if s.reader.in.CCID.Features&device.FeatureClockStop == 0 {
			return 0, nil, errNotSupported
		}
		s.clock = special[0]
		return s.clock, nil, succeeded
	case setDataRateClock:
		// Any rate and clock is accepted: the answer has what was asked for.
		return 0, data, succeeded
	}
	return 0, nil, errNotSupported
}

// powerOn switches the card on, with a voltage that the card must withstand.
func (s *slot) powerOn(voltage byte) ([]byte, int) {
	d := &s.reader.in.CCID
	automatic := d.Features&(device.FeatureVoltage|device.FeatureActivation) != 0 ||
		d.VoltageSupport == 0 || s.reader.in.Protocol != device.ProtocolCCID
	unsupported := voltage != 0 && d.VoltageSupport&(1<<(voltage-1)) == 0
	switch {
	case voltage > 3, voltage == 0 && !automatic, unsupported:
		return nil, errBadValue
	case s.card == nil:
		return nil, errMute
	}

	// A card at a wrong voltage is mute, so that the driver has to try the next one.
	if v, ok := s.card.(Voltages); ok && voltage != 0 && v.Voltages()&(1<<(voltage-1)) == 0 {
		return nil, errMute
	}
	return s.resetCard(), succeeded
}

// resetCard gives the card power and returns its ATR.
func (s *slot) resetCard() []byte {
	s.card.Reset()
	atr := s.card.ATR()
	s.powered = true
	s.params = nil
	s.command = nil
	s.answer = nil
	s.clock = 0
	s.front = newFront(s, atr)
	return atr
}

// parameters answers GetParameters, ResetParameters and SetParameters.
func (s *slot) parameters(kind, protocol byte, data []byte) (byte, []byte, int) {
	if s.card == nil || !s.powered {
		return 0, nil, errMute
	}

	switch {
	case kind == setParameters:
		if protocol > 1 || len(data) != 5+2*int(protocol) {
			return 0, nil, errBadValue
		}
		// A reader that negotiates has set itself up, and takes no parameters.
		if s.reader.in.CCID.Features&device.FeatureNegotiation != 0 {
			return 0, nil, errNotSupported
		}

		s.protocol = protocol
		s.params = slices.Clone(data)
		s.front.parameters(protocol)
	case kind == resetParameters, s.params == nil:
		s.protocol = s.front.protocol()
		s.params = defaultParameters(s.front.protocol())
	}
	return s.protocol, s.params, succeeded
}

// defaultParameters are the parameters of a card whose ATR names none.
func defaultParameters(protocol byte) []byte {
	if protocol == 1 {
		return []byte{0x11, 0x10, 0, 0x4D, 0, 0x20, 0}
	}
	return []byte{0x11, 0, 0, 0x0A, 0}
}

// xfr exchanges with the card on the level of the reader. level is wLevelParameter.
func (s *slot) xfr(level uint16, data []byte) (chain byte, out []byte, code int) {
	if s.card == nil || !s.powered {
		return 0, nil, errMute
	}

	d := &s.reader.in.CCID
	switch {
	case d.Features&device.FeatureExtendedAPDU != 0:
		return s.xfrExtended(level, data)
	case d.Features&device.FeatureShortAPDU != 0:
		if level != 0 || len(data) > 261 {
			s.reader.device.counts.Violations++
			return 0, nil, errBadLength
		}
		out, err := s.ask(data)
		if err != nil {
			return 0, nil, errMute
		}
		return 0, out, succeeded
	}
	out, code = s.front.exchange(data, int(level), d.Features&device.FeatureTPDU == 0)
	return 0, out, code
}

// xfrExtended is the exchange of short and extended APDUs, in pieces of the message length (CCID
// 1.1, section 6.1.4). Code 8 is the offset of wLevelParameter, which does not fit.
func (s *slot) xfrExtended(level uint16, data []byte) (chain byte, out []byte, code int) {
	switch level {
	case 0, 1:
		s.command = nil
		s.answer = nil
	case 2, 3:
		if s.command == nil {
			return 0, nil, 8
		}
	case 0x10:
		if len(data) != 0 || s.answer == nil {
			return 0, nil, 8
		}
		return s.nextPiece(3, 2)
	default:
		return 0, nil, 8
	}

	// A piece that is not the last is answered by an empty block that asks for the next.
	s.command = append(s.command, data...)
	if level == 1 || level == 3 {
		return 0x10, nil, succeeded
	}

	command := s.command
	s.command = nil
	full, err := s.ask(command)
	if err != nil {
		return 0, nil, errMute
	}

	s.answer = full
	return s.nextPiece(1, 0)
}

// nextPiece is the next part of an answer: more or last is its bChainParameter.
func (s *slot) nextPiece(more, last byte) (byte, []byte, int) {
	size := int(s.reader.in.CCID.MaxMessageLength) - headerLength
	// Some descriptions have no usable length.
	if size <= 0 || size > maxMessage {
		size = 261
	}

	if len(s.answer) > size {
		piece := s.answer[:size]
		s.answer = s.answer[size:]
		return more, piece, succeeded
	}

	piece := s.answer
	s.answer = nil
	return last, piece, succeeded
}

// errCardGone is the error of a command whose card was taken out meanwhile.
var errCardGone = errors.New("ccidtest: the card is not there any more")

// asker asks the card in a slot.
type asker func(command []byte) ([]byte, error)

// ask has the card in the slot answer a command. The caller holds Device.mu; it is released while a
// slow card works.
func (s *slot) ask(command []byte) ([]byte, error) {
	if !s.Slow {
		return s.card.Transmit(command)
	}

	// Copies: the card may be taken out, and another put in, while the lock is free.
	d := s.reader.device
	card := s.card
	insertion := s.insertion
	s.busy = true
	d.mu.Unlock()
	answer, err := card.Transmit(command)
	d.mu.Lock()

	// busy stays as it is: it is that of the card which was put in since.
	if s.insertion != insertion || d.unplugged {
		return nil, errCardGone
	}
	s.busy = false
	return answer, err
}

// slow reports whether a message goes to a slow card.
func (r *reader) slow(m []byte) bool {
	kind, number := m[0], int(m[5])
	return number < len(r.slots) && r.slots[number].Slow && (kind == xfrBlock || kind == secure)
}
