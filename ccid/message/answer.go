package message

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errFrame is the cause of every error about bytes that are no message.
var errFrame = errors.New("not a CCID message")

// Answer is a message of the reader on its bulk endpoint (CCID 1.1, section 6.2).
type Answer struct {
	Type     Type
	Slot     byte // bSlot
	Sequence byte // bSeq: that of the command
	Status   byte // bStatus: see ICC and Result
	Error    byte // bError, when Result is not ResultDone; the multiplier of a time extension
	// Special is byte 9: bChainParameter of a data block, bClockStatus of a slot status,
	// bProtocolNum of parameters.
	Special byte
	Data    []byte
}

// ICC is the state of the card in bStatus.
type ICC byte

// States of a card.
const (
	ICCActive   ICC = 0 // a card is there, and has power
	ICCInactive ICC = 1 // a card is there, without power
	ICCAbsent   ICC = 2
)

// ICC is the state of the card. The value 3, which is reserved, counts as absent.
func (a *Answer) ICC() ICC { return min(ICC(a.Status&3), ICCAbsent) }

// Result is the state of the command in bStatus.
type Result byte

// Results of a command.
const (
	ResultDone          Result = 0
	ResultFailed        Result = 1
	ResultTimeExtension Result = 2
)

// Result is the outcome of the command. The value 3, which is reserved, counts as failed.
func (a *Answer) Result() Result {
	if r := Result(a.Status >> 6); r <= ResultTimeExtension {
		return r
	}
	return ResultFailed
}

// Append appends the message to b.
func (a *Answer) Append(b []byte) []byte {
	b = append(b, byte(a.Type))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(a.Data)))
	b = append(b, a.Slot, a.Sequence, a.Status, a.Error, a.Special)
	return append(b, a.Data...)
}

// ParseAnswer reads a message of the reader. dwLength must be the number of bytes after the header.
// The data is not copied.
func ParseAnswer(raw []byte) (Answer, error) {
	if len(raw) < HeaderLength {
		return Answer{}, fmt.Errorf("%w: %d bytes", errFrame, len(raw))
	}

	a := Answer{
		Type:     Type(raw[0]),
		Slot:     raw[5],
		Sequence: raw[6],
		Status:   raw[7],
		Error:    raw[8],
		Special:  raw[9],
		Data:     raw[HeaderLength:],
	}
	length := binary.LittleEndian.Uint32(raw[1:])
	switch {
	case a.Type < TypeDataBlock || a.Type > TypeRateAndClock:
		return Answer{}, fmt.Errorf("%w: type %02X", errFrame, raw[0])
	case uint64(length) != uint64(len(a.Data)):
		return Answer{}, fmt.Errorf(
			"%w: dwLength is %d, and %d bytes came", errFrame, length, len(a.Data))
	}
	return a, nil
}

// Notification is a message on the interrupt endpoint (6.3).
type Notification struct {
	Type  Type // TypeNotifySlotChange or TypeHardwareError
	Slots []SlotChange
	// Of TypeHardwareError:
	Slot, Sequence, Error byte
}

// SlotChange is the part of a notification that is about one slot.
type SlotChange struct {
	Present bool // a card is there
	Changed bool // it has come or gone since the last notification
}

// ParseNotification reads a notification. A slot change has as many slots as its bytes hold, four
// in each.
func ParseNotification(raw []byte) (*Notification, error) {
	switch {
	case len(raw) >= 2 && Type(raw[0]) == TypeNotifySlotChange && len(raw) <= 65:
		// At most 256 slots, all that bSlot can name. Two bits each, the first slot in the lowest.
		n := &Notification{Type: TypeNotifySlotChange}
		for _, b := range raw[1:] {
			for range 4 {
				n.Slots = append(n.Slots, SlotChange{b&1 != 0, b&2 != 0})
				b >>= 2
			}
		}

		return n, nil
	case len(raw) == 4 && Type(raw[0]) == TypeHardwareError:
		return &Notification{
			Type:     TypeHardwareError,
			Slot:     raw[1],
			Sequence: raw[2],
			Error:    raw[3],
		}, nil
	}
	return nil, errFrame
}

// Append appends the message to b.
func (n *Notification) Append(b []byte) []byte {
	b = append(b, byte(n.Type))
	if n.Type == TypeHardwareError {
		return append(b, n.Slot, n.Sequence, n.Error)
	}

	// Four slots a byte, the first one in the lowest bits.
	for i, s := range n.Slots {
		if i%4 == 0 {
			b = append(b, 0)
		}

		last := &b[len(b)-1]
		if s.Present {
			*last |= 1 << (i % 4 * 2)
		}
		if s.Changed {
			*last |= 2 << (i % 4 * 2)
		}
	}
	return b
}
