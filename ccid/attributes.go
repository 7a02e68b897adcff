package ccid

import (
	"context"
	"encoding/binary"
	"fmt"

	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// Attributes (PC/SC part 3, table 3-1; the numbers are SCARD_ATTR_* of pcsc-lite).
const (
	attrVendorName      = 0x10100
	attrVendorVersion   = 0x10102
	attrVendorSerial    = 0x10103
	attrChannelID       = 0x20110
	attrProtocolTypes   = 0x30120
	attrDefaultClock    = 0x30121
	attrMaxDataRate     = 0x30124
	attrMaxIFSD         = 0x30125
	attrCurrentProtocol = 0x80201
	attrCurrentClock    = 0x80202
	attrICCPresence     = 0x90300
	attrICCStatus       = 0x90301
	attrATR             = 0x90303
	attrMaxInput        = 0x7A007
)

// channelUSB is the upper half of the channel id of a USB device; the lower half is its bus and
// address.
const channelUSB = 0x0020

// Attribute reads an attribute.
func (s *Slot) Attribute(ctx context.Context, id uint32) ([]byte, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	p := s.reader.plan
	info := &s.reader.info
	number := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

	switch id {
	case attrVendorName:
		return text(info.Manufacturer), nil
	case attrVendorVersion:
		return number(uint32(info.Release) << 16), nil
	case attrVendorSerial:
		return text(info.Serial), nil
	case attrChannelID:
		// Without a bus it is no USB device, and has no channel that this form could express.
		if info.Bus != 0 {
			address := uint32(info.Bus&0xFF)<<8 | uint32(info.Address&0xFF)
			return number(channelUSB<<16 | address), nil
		}
	case attrProtocolTypes:
		return number(protocolMask(p)), nil
	case attrDefaultClock, attrCurrentClock:
		return number(uint32(p.Clock)), nil
	case attrMaxDataRate:
		return number(uint32(p.MaxRate)), nil
	case attrMaxIFSD:
		return number(uint32(p.MaxIFSD)), nil
	case attrCurrentProtocol:
		return number(s.protocol), nil
	case attrICCPresence, attrICCStatus:
		return s.presenceByte(ctx, id)
	case attrATR:
		if s.atr == nil {
			return nil, ifd.Errorf(ifd.ErrorTag, "no ATR: the card has no power")
		}
		return append([]byte(nil), s.atr...), nil
	case attrMaxInput:
		return number(uint32(p.MaxMessage - message.HeaderLength)), nil
	}
	return nil, ifd.Errorf(ifd.ErrorTag, "attribute %05X", id)
}

// SetAttribute fails: no attribute of a reader can be written. The error distinguishes attributes
// that can be read.
func (s *Slot) SetAttribute(ctx context.Context, id uint32, _ []byte) error {
	if _, err := s.Attribute(ctx, id); err != nil {
		return ifd.Errorf(ifd.ErrorTag, "attribute %05X", id)
	}
	return ifd.Errorf(ifd.ReadOnly, "attribute %05X cannot be written", id)
}

// presenceByte is ICC_PRESENCE (0 absent, 2 there) or ICC_INTERFACE_STATUS (0 or 1).
func (s *Slot) presenceByte(ctx context.Context, id uint32) ([]byte, error) {
	// A card that we power is there: programs poll these attributes, and need no command for it.
	if s.powered {
		return []byte{2 - byte(id-attrICCPresence)}, nil
	}

	present, _, err := s.checkPresence(ctx)
	switch {
	case err != nil:
		return nil, err
	case !present:
		return []byte{0}, nil
	}
	return []byte{2 - byte(id-attrICCPresence)}, nil
}

// text is a string attribute, ended by NUL as in C. A string that the reader does not have is
// empty.
func text(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return append([]byte(s), 0)
}

// protocolMask is the protocols of the reader as PC/SC numbers them.
func protocolMask(p *plan.Plan) uint32 {
	var mask uint32
	if p.T0 {
		mask |= pcscT0
	}
	if p.T1 {
		mask |= pcscT1
	}
	return mask
}

// path is where the reader is plugged in: "bus-port.port:configuration.interface".
func (r *Reader) path() string {
	return fmt.Sprintf("%s:%d.%d", r.info.Path, r.info.Configuration, r.number)
}

// isTagQuery reports whether a command is FF 9A 01 xx 00, by which applications ask a reader what
// it is.
func isTagQuery(c []byte) bool {
	return len(c) == 5 && c[0] == 0xFF && c[1] == 0x9A && c[2] == 0x01 && c[4] == 0
}

// answerTag answers a tag query in the reader's place: 01 its maker, 03 its product, 06 its
// firmware, 07 the driver.
func (s *Slot) answerTag(tag byte) []byte {
	var words string
	switch tag {
	case 0x01:
		words = s.reader.info.Manufacturer
	case 0x03:
		words = s.reader.info.Name
	case 0x06:
		words = bcd(s.reader.info.Release)
	case 0x07:
		words = "pam_pkcs11 ccid"
	default:
		return []byte{0x6A, 0x88}
	}
	return append([]byte(words), 0x90, 0x00)
}
