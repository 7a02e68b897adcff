// Package message has the messages of CCID (USB class specification, revision 1.1, chapter 6), both
// ways: the commands of the host, the answers and notifications of the reader, and the errors that
// it answers with.
package message

import (
	"encoding/binary"
	"fmt"
)

// HeaderLength is the length of the header that every message on a bulk endpoint has.
const HeaderLength = 10

// Type is bMessageType.
type Type byte

// Messages of the host (CCID 1.1, section 6.1), of the reader (6.2) and on the interrupt endpoint
// (6.3).
const (
	TypePowerOn         Type = 0x62
	TypePowerOff        Type = 0x63
	TypeGetSlotStatus   Type = 0x65
	TypeXfrBlock        Type = 0x6F
	TypeGetParameters   Type = 0x6C
	TypeResetParameters Type = 0x6D
	TypeSetParameters   Type = 0x61
	TypeEscape          Type = 0x6B
	TypeIccClock        Type = 0x6E
	TypeT0APDU          Type = 0x6A
	TypeSecure          Type = 0x69
	TypeMechanical      Type = 0x71
	TypeAbort           Type = 0x72
	TypeSetRateAndClock Type = 0x73

	TypeDataBlock    Type = 0x80
	TypeSlotStatus   Type = 0x81
	TypeParameters   Type = 0x82
	TypeEscapeAnswer Type = 0x83
	TypeRateAndClock Type = 0x84

	TypeNotifySlotChange Type = 0x50
	TypeHardwareError    Type = 0x51
)

// Answer is the type of the message that answers t.
func (t Type) Answer() Type {
	switch t {
	case TypePowerOn, TypeXfrBlock, TypeSecure:
		return TypeDataBlock
	case TypeGetParameters, TypeResetParameters, TypeSetParameters:
		return TypeParameters
	case TypeEscape:
		return TypeEscapeAnswer
	case TypeSetRateAndClock:
		return TypeRateAndClock
	}
	// The other commands have no data to be answered.
	return TypeSlotStatus
}

// Command is a message of the host: one of the types below.
type Command interface {
	// kind is bMessageType, special are bytes 7 to 9 of the header, payload what follows it.
	kind() Type
	special() [3]byte
	payload() []byte
}

// PowerOn is PC_to_RDR_IccPowerOn (6.1.1).
type PowerOn struct{ Voltage Voltage }

// PowerOff is PC_to_RDR_IccPowerOff (6.1.2).
type PowerOff struct{}

// GetSlotStatus is PC_to_RDR_GetSlotStatus (6.1.3).
type GetSlotStatus struct{}

// XfrBlock is PC_to_RDR_XfrBlock (6.1.4).
type XfrBlock struct {
	BWI   byte   // multiplier of the block waiting time for this block
	Level uint16 // wLevelParameter
	Data  []byte
}

// GetParameters is PC_to_RDR_GetParameters (6.1.5).
type GetParameters struct{}

// ResetParameters is PC_to_RDR_ResetParameters (6.1.6).
type ResetParameters struct{}

// SetParameters is PC_to_RDR_SetParameters (6.1.7): 5 bytes for T=0 and 7 for T=1, see ParametersT0
// and ParametersT1.
type SetParameters struct {
	Protocol byte // bProtocolNum: 0 or 1
	Data     []byte
}

// Escape is PC_to_RDR_Escape (6.1.8).
type Escape struct{ Data []byte }

// IccClock is PC_to_RDR_IccClock (6.1.9).
type IccClock struct{ Stop bool }

// T0APDU is PC_to_RDR_T0APDU (6.1.10).
type T0APDU struct {
	Changes          byte // bmChanges: bit 0 GET RESPONSE, bit 1 ENVELOPE
	ClassGetResponse byte
	ClassEnvelope    byte
}

// Values of wLevelParameter and bChainParameter (CCID 1.1, sections 6.1.4 and 6.2.1).
const (
	ChainWhole    = 0    // begins and ends here
	ChainBegins   = 1    // begins here and goes on
	ChainEnds     = 2    // goes on, ends here
	ChainMiddle   = 3    // goes on
	ChainContinue = 0x10 // an empty block: go on
)

// Secure is PC_to_RDR_Secure (6.1.11). Data begins with bPINOperation.
type Secure struct {
	BWI   byte
	Level uint16
	Data  []byte
}

// Mechanical is PC_to_RDR_Mechanical (6.1.12): 1 accept, 2 eject, 3 capture, 4 lock, 5 unlock.
type Mechanical struct{ Function byte }

// Abort is PC_to_RDR_Abort (6.1.13). It has the sequence number of the control request that goes
// with it.
type Abort struct{}

// SetRateAndClock is PC_to_RDR_SetDataRateAndClockFrequency (6.1.14).
type SetRateAndClock struct {
	Clock uint32 // dwClockFrequency, kHz
	Rate  uint32 // dwDataRate, bit/s
}

// Voltage is bPowerSelect.
type Voltage byte

// Voltages.
const (
	VoltageAutomatic Voltage = 0
	Voltage5         Voltage = 1
	Voltage3         Voltage = 2
	Voltage18        Voltage = 3
)

var voltageNames = [...]string{"auto", "5V", "3V", "1.8V"}

// String is "auto", "5V", "3V" or "1.8V".
func (v Voltage) String() string {
	if int(v) < len(voltageNames) {
		return voltageNames[v]
	}
	return fmt.Sprintf("%02X", byte(v))
}

func (PowerOn) kind() Type { return TypePowerOn }

func (PowerOff) kind() Type { return TypePowerOff }

func (GetSlotStatus) kind() Type { return TypeGetSlotStatus }

func (XfrBlock) kind() Type { return TypeXfrBlock }

func (GetParameters) kind() Type { return TypeGetParameters }

func (ResetParameters) kind() Type { return TypeResetParameters }

func (SetParameters) kind() Type { return TypeSetParameters }

func (Escape) kind() Type { return TypeEscape }

func (IccClock) kind() Type { return TypeIccClock }

func (T0APDU) kind() Type { return TypeT0APDU }

func (Secure) kind() Type { return TypeSecure }

func (Mechanical) kind() Type { return TypeMechanical }

func (Abort) kind() Type { return TypeAbort }

func (SetRateAndClock) kind() Type { return TypeSetRateAndClock }

func (m PowerOn) special() [3]byte       { return [3]byte{byte(m.Voltage)} }
func (PowerOff) special() [3]byte        { return [3]byte{} }
func (GetSlotStatus) special() [3]byte   { return [3]byte{} }
func (m XfrBlock) special() [3]byte      { return [3]byte{m.BWI, byte(m.Level), byte(m.Level >> 8)} }
func (GetParameters) special() [3]byte   { return [3]byte{} }
func (ResetParameters) special() [3]byte { return [3]byte{} }
func (m SetParameters) special() [3]byte { return [3]byte{m.Protocol} }
func (Escape) special() [3]byte          { return [3]byte{} }
func (m T0APDU) special() [3]byte        { return [3]byte{m.Changes, m.ClassGetResponse, m.ClassEnvelope} }
func (m Secure) special() [3]byte        { return [3]byte{m.BWI, byte(m.Level), byte(m.Level >> 8)} }
func (m Mechanical) special() [3]byte    { return [3]byte{m.Function} }
func (Abort) special() [3]byte           { return [3]byte{} }
func (SetRateAndClock) special() [3]byte { return [3]byte{} }
func (m IccClock) special() [3]byte {
	if m.Stop {
		return [3]byte{1}
	}
	return [3]byte{}
}

func (PowerOn) payload() []byte         { return nil }
func (PowerOff) payload() []byte        { return nil }
func (GetSlotStatus) payload() []byte   { return nil }
func (m XfrBlock) payload() []byte      { return m.Data }
func (GetParameters) payload() []byte   { return nil }
func (ResetParameters) payload() []byte { return nil }
func (m SetParameters) payload() []byte { return m.Data }
func (m Escape) payload() []byte        { return m.Data }
func (IccClock) payload() []byte        { return nil }
func (T0APDU) payload() []byte          { return nil }
func (m Secure) payload() []byte        { return m.Data }
func (Mechanical) payload() []byte      { return nil }
func (Abort) payload() []byte           { return nil }
func (m SetRateAndClock) payload() []byte {
	b := binary.LittleEndian.AppendUint32(nil, m.Clock)
	return binary.LittleEndian.AppendUint32(b, m.Rate)
}

// TypeOf returns the type of a command.
func TypeOf(c Command) Type { return c.kind() }

// AppendCommand appends a command with its header to b.
func AppendCommand(b []byte, m Command, slot, sequence byte) []byte {
	data, s := m.payload(), m.special()
	b = append(b, byte(m.kind()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, slot, sequence, s[0], s[1], s[2])
	return append(b, data...)
}

// ParseCommand reads a message of the host. It accepts what AppendCommand writes and nothing else.
// The data is not copied.
func ParseCommand(raw []byte) (m Command, slot, sequence byte, err error) {
	if len(raw) < HeaderLength {
		return nil, 0, 0, errFrame
	}
	// As uint64: an int may have 32 bits, which dwLength could overflow.
	length := binary.LittleEndian.Uint32(raw[1:])
	if uint64(length) != uint64(len(raw)-HeaderLength) {
		return nil, 0, 0, errFrame
	}

	data := raw[HeaderLength:]
	level := binary.LittleEndian.Uint16(raw[8:])
	switch Type(raw[0]) {
	case TypePowerOn:
		m = PowerOn{Voltage(raw[7])}
	case TypePowerOff:
		m = PowerOff{}
	case TypeGetSlotStatus:
		m = GetSlotStatus{}
	case TypeXfrBlock:
		m = XfrBlock{raw[7], level, data}
	case TypeGetParameters:
		m = GetParameters{}
	case TypeResetParameters:
		m = ResetParameters{}
	case TypeSetParameters:
		m = SetParameters{raw[7], data}
	case TypeEscape:
		m = Escape{data}
	case TypeIccClock:
		m = IccClock{raw[7] == 1}
	case TypeT0APDU:
		m = T0APDU{raw[7], raw[8], raw[9]}
	case TypeSecure:
		m = Secure{raw[7], level, data}
	case TypeMechanical:
		m = Mechanical{raw[7]}
	case TypeAbort:
		m = Abort{}
	case TypeSetRateAndClock:
		if len(data) != 8 {
			return nil, 0, 0, errFrame
		}
		m = SetRateAndClock{binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])}
	default:
		return nil, 0, 0, fmt.Errorf("message type %02X is none of the host's", raw[0])
	}

	// Bytes of the header that the command does not use must be 0, as AppendCommand writes them.
	if m.special() != [3]byte(raw[7:]) || len(m.payload()) != len(data) {
		return nil, 0, 0, errFrame
	}
	return m, raw[5], raw[6], nil
}
