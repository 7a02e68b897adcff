package data

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Features are the control codes of what a reader can do (PC/SC part 10, 2.2 and 2.3); 0 where it
// cannot.
type Features struct {
	VerifyPIN     uint32 // FEATURE_VERIFY_PIN_DIRECT, 06
	ModifyPIN     uint32 // FEATURE_MODIFY_PIN_DIRECT, 07
	PINProperties uint32 // FEATURE_IFD_PIN_PROPERTIES, 0A
	TLVProperties uint32 // FEATURE_GET_TLV_PROPERTIES, 12
}

// ControlFeatures is the control code that asks a reader for its features,
// CM_IOCTL_GET_FEATURE_REQUEST as pcsc-lite numbers it.
const ControlFeatures = 0x42000000 + 3400

// ErrPad is found in every error about the form of what a reader has returned.
var ErrPad = errors.New("malformed answer of the reader")

// ParseFeatures reads the list of features: a tag, the length 4 and a control code each. Unknown
// features are ignored.
func ParseFeatures(list []byte) (Features, error) {
	var f Features
	err := properties(list, func(tag byte, value []byte) error {
		if len(value) != 4 {
			return fmt.Errorf("%w: a control code of %d bytes", ErrPad, len(value))
		}

		// Control codes have the high byte first, and the numbers below the low one.
		code := binary.BigEndian.Uint32(value)
		switch tag {
		case 0x06:
			f.VerifyPIN = code
		case 0x07:
			f.ModifyPIN = code
		case 0x0A:
			f.PINProperties = code
		case 0x12:
			f.TLVProperties = code
		}
		return nil
	})

	if err != nil {
		return Features{}, err
	}
	return f, nil
}

// Pad is what a reader reports of its keys and its display.
type Pad struct {
	// Display is wLcdLayout: lines in the high byte, characters of a line in the low one; 0 is
	// none.
	Display uint16

	MinPIN, MaxPIN byte // bMinPINSize and bMaxPINSize; 0 where it is not reported
}

// ParseTLVProperties reads the answer to FEATURE_GET_TLV_PROPERTIES (PC/SC part 10, 2.6.14): a tag,
// a length and a value each, numbers with the low byte first. Unknown properties are ignored.
func ParseTLVProperties(list []byte) (Pad, error) {
	var p Pad
	err := properties(list, func(tag byte, value []byte) error {
		n, ok := number(value)
		most := uint32(0xFF)
		switch tag {
		case 0x01:
			p.Display = uint16(n)
			most = 0xFFFF
		case 0x06:
			p.MinPIN = byte(n)
		case 0x07:
			p.MaxPIN = byte(n)
		default:
			return nil
		}

		if !ok || n > most {
			return fmt.Errorf("%w: property %02X is %X", ErrPad, tag, value)
		}
		return nil
	})

	if err != nil {
		return Pad{}, err
	}
	return p, nil
}

// ParsePINProperties reads the answer to FEATURE_IFD_PIN_PROPERTIES (PC/SC part 10, 2.5.5), of
// which only the display is used.
func ParsePINProperties(b []byte) (Pad, error) {
	if len(b) < 2 {
		return Pad{}, fmt.Errorf("%w: PIN properties of %d bytes", ErrPad, len(b))
	}
	return Pad{Display: binary.LittleEndian.Uint16(b)}, nil
}

// number reads a number of 1 to 4 bytes, the low byte first.
func number(b []byte) (n uint32, ok bool) {
	if len(b) == 0 || len(b) > 4 {
		return 0, false
	}
	var wide [4]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint32(wide[:]), true
}

// properties calls f with each element of a list of tags, lengths of one byte and values.
func properties(list []byte, f func(tag byte, value []byte) error) error {
	for len(list) > 0 {
		if len(list) < 2 || len(list) < 2+int(list[1]) {
			return fmt.Errorf("%w: a list that is cut short", ErrPad)
		}
		end := 2 + int(list[1])
		if err := f(list[0], list[2:end]); err != nil {
			return err
		}
		list = list[end:]
	}
	return nil
}

// Fields of PIN_VERIFY and PIN_MODIFY that are always the same for PIV: the PIN in ASCII, from the
// first byte on, in a block of 8 bytes whose template is FF (part 2, 2.4.3); its length is not
// sent.
const (
	padTimeout      = 30 // seconds
	formatString    = 0x82
	pinBlock        = 8
	conditionKey    = 0x02 // bEntryValidationCondition: the key that confirms
	messagesNone    = 0x00
	messagesDefault = 0xFF // as many as the reader wants
	messagesThree   = 0x03
	confirmNewOld   = 0x03 // bConfirmPIN: the new PIN twice, and the old one before it
)

// Limits of a PIN typed at a reader.
const (
	minPINDigits = 6
	maxPINDigits = 8
)

// VerifyPINBlock returns PIN_VERIFY_STRUCTURE (PC/SC part 10, 2.5.2) for VERIFY of a PIN with this
// key reference, for a pad with the properties p.
func VerifyPINBlock(reference byte, p Pad) []byte {
	le := binary.LittleEndian
	b := []byte{padTimeout, padTimeout, formatString, pinBlock, 0}
	b = le.AppendUint16(b, p.digits())
	b = append(b, conditionKey, p.messages(messagesDefault))
	b = le.AppendUint16(b, 0) // wLangId
	b = append(b, 0)          // bMsgIndex
	b = append(b, 0, 0, 0)    // bTeoPrologue

	// The reader puts the digits into this command: it needs no other length than that of the
	// block.
	apdu := padAPDU(0x20, reference, 1)
	return append(le.AppendUint32(b, uint32(len(apdu))), apdu...)
}

// ModifyPINBlock returns PIN_MODIFY_STRUCTURE (PC/SC part 10, 2.5.3) for CHANGE REFERENCE DATA of a
// PIN with this key reference: the old PIN, then the new one twice.
func ModifyPINBlock(reference byte, p Pad) []byte {
	le := binary.LittleEndian
	b := []byte{padTimeout, padTimeout, formatString, pinBlock, 0}
	// The old PIN is the first block of the command, the new one the second.
	b = append(b, 0, pinBlock) // bInsertionOffsetOld and New
	b = le.AppendUint16(b, p.digits())
	b = append(b, confirmNewOld, conditionKey, p.messages(messagesThree))
	b = le.AppendUint16(b, 0) // wLangId
	b = append(b, 0, 1, 2)    // bMsgIndex1 to 3
	b = append(b, 0, 0, 0)    // bTeoPrologue
	apdu := padAPDU(0x24, reference, 2)
	return append(le.AppendUint32(b, uint32(len(apdu))), apdu...)
}

// padAPDU returns the command that the reader completes: with blocks of FF for so many PINs.
func padAPDU(ins, reference byte, pins int) []byte {
	apdu := []byte{0x00, ins, 0x00, reference, byte(pins * pinBlock)}
	for range pins * pinBlock {
		apdu = append(apdu, 0xFF)
	}
	return apdu
}

// digits returns wPINMaxExtraDigit, the least number in the high byte and the greatest in the low
// one, within the limits of the pad: a pad that reports limits refuses what is beyond them.
func (p Pad) digits() uint16 {
	least := byte(minPINDigits)
	most := byte(maxPINDigits)
	if p.MinPIN > least && p.MinPIN <= most {
		least = p.MinPIN
	}
	if p.MaxPIN >= least && p.MaxPIN < most {
		most = p.MaxPIN
	}
	return uint16(least)<<8 | uint16(most)
}

// messages returns bNumberMessage: none for a pad without a display.
func (p Pad) messages(n byte) byte {
	if p.Display == 0 {
		return messagesNone
	}
	return n
}
