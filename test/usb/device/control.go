package device

import (
	"context"
	"encoding/binary"
	"unicode/utf16"
)

// Setup is the setup packet of a control transfer (USB 2.0, table 9-2).
type Setup struct {
	RequestType, Request byte
	Value, Index, Length uint16
}

// SetupLength is the length of a setup packet in bytes.
const SetupLength = 8

// ParseSetup decodes a setup packet.
func ParseSetup(b [SetupLength]byte) Setup {
	return Setup{
		RequestType: b[0], Request: b[1],
		Value: binary.LittleEndian.Uint16(b[2:]), Index: binary.LittleEndian.Uint16(b[4:]), Length: binary.LittleEndian.Uint16(b[6:]),
	}
}

// Marshal is the inverse of ParseSetup.
func (s Setup) Marshal() []byte {
	b := []byte{s.RequestType, s.Request}
	b = binary.LittleEndian.AppendUint16(b, s.Value)
	b = binary.LittleEndian.AppendUint16(b, s.Index)
	return binary.LittleEndian.AppendUint16(b, s.Length)
}

// ToHost tells whether data comes from the device.
func (s Setup) ToHost() bool { return s.RequestType&toHost != 0 }

// IsStandard tells whether the request is one of USB 2.0, chapter 9.
func (s Setup) IsStandard() bool { return s.RequestType&0x60 == 0 }

// Standard requests (USB 2.0, table 9-4).
const (
	getStatus        = 0
	clearFeature     = 1
	setFeature       = 3
	setAddress       = 5
	getDescriptor    = 6
	getConfiguration = 8
	setConfiguration = 9
	getInterface     = 10
	setInterface     = 11

	recipientEndpoint = 2
	language          = 0x0409 // English, the one language of the strings
)

// control answers a request: the standard ones here, all others by the function.
func (d *Device) control(ctx context.Context, s Setup, data []byte) ([]byte, error) {
	if !s.IsStandard() {
		return d.function.Control(ctx, s, data)
	}
	switch s.Request {
	case getDescriptor:
		return d.descriptor(byte(s.Value>>8), byte(s.Value))
	case getStatus:
		return []byte{0, 0}, nil
	case getConfiguration:
		return []byte{d.Configuration[5]}, nil
	case getInterface:
		return []byte{0}, nil
	case setConfiguration:
		// After a reset of the port this is the first that a device hears where the bus does not tell it of the reset.
		d.function.Reset()
		return nil, nil
	case clearFeature:
		if s.RequestType&0x1f == recipientEndpoint && s.Value == 0 {
			d.ClearHalt(byte(s.Index))
		}
		return nil, nil
	case setFeature, setAddress, setInterface:
		return nil, nil
	}
	return nil, ErrStall
}

// ClearHalt makes an endpoint work again that was halted by ErrStall.
func (d *Device) ClearHalt(endpoint byte) {
	d.mu.Lock()
	if p := d.pipes[endpoint]; p != nil {
		p.halted = false
	}
	d.mu.Unlock()
	d.function.ClearHalt(endpoint)
}

func (d *Device) descriptor(typ, index byte) ([]byte, error) {
	switch {
	case typ == typeDevice:
		return d.Description.Device, nil
	case typ == typeConfiguration && index == 0:
		return d.Configuration, nil
	case typ == typeString && index == 0 && len(d.Strings) > 0:
		return []byte{4, typeString, language & 0xff, language >> 8}, nil
	case typ == typeString && d.Strings[index] != "":
		return stringDescriptor(d.Strings[index]), nil
	}
	return nil, ErrStall
}

// stringDescriptor encodes text (USB 2.0, table 9-16): at most 126 UTF-16 units.
func stringDescriptor(text string) []byte {
	units := utf16.Encode([]rune(text))
	units = units[:min(len(units), 126)]
	b := []byte{byte(2 + 2*len(units)), typeString}
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
