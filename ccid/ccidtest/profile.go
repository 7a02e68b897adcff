package ccidtest

import (
	"encoding/binary"
	"unicode/utf16"

	"pam_pkcs11/ccid/device"
)

// Profile describes a USB device with one or more readers.
type Profile struct {
	// Info has the numbers and strings of the device. Its Configuration is the bConfigurationValue;
	// 0 is 1.
	Info device.Info
	// MaxPacket is wMaxPacketSize of the bulk endpoints; 0 is 64.
	MaxPacket uint16
	// Interfaces are the readers, each with its own number.
	Interfaces []Interface
}

// Interface describes one reader.
type Interface struct {
	Number   byte // bInterfaceNumber: need not be the place in the list
	Class    byte // bInterfaceClass; 0 is device.ClassSmartCard
	SubClass byte
	Protocol byte // bInterfaceProtocol
	Name     string
	// Bulk reports bulk endpoints, for an interface whose Protocol is not device.ProtocolCCID.
	Bulk bool
	// Interrupt reports an interrupt endpoint.
	Interrupt bool
	// BehindEndpoint puts the class descriptor after the last endpoint, as some readers have it.
	BehindEndpoint bool
	CCID           device.ClassDescriptor
	// Clocks and Rates answer GET_CLOCK_FREQUENCIES and GET_DATA_RATES; nil is a stall.
	Clocks, Rates []uint32
}

// Endpoints of the interface with the number n: 3n+1 out, 3n+2 in, 3n+3 interrupt. Endpoint numbers
// have four bits, so interfaces above number 4 would share those of others: no description has
// such.
func (in *Interface) bulkOut() byte   { return 1 + 3*(in.Number%5) }
func (in *Interface) bulkIn() byte    { return 0x80 | (2 + 3*(in.Number%5)) }
func (in *Interface) interrupt() byte { return 0x80 | (3 + 3*(in.Number%5)) }

// bulk reports whether the interface has bulk endpoints.
func (in *Interface) bulk() bool { return in.Protocol == device.ProtocolCCID || in.Bulk }

func (p *Profile) maxPacket() uint16 {
	if p.MaxPacket == 0 {
		return 64
	}
	return p.MaxPacket
}

func (p *Profile) configurationValue() byte {
	if p.Info.Configuration == 0 {
		return 1
	}
	return p.Info.Configuration
}

// Descriptor is the device descriptor of 18 bytes.
func (p *Profile) Descriptor() []byte {
	le := binary.LittleEndian
	b := []byte{18, 1, 0x00, 0x02, 0, 0, 0, 64}
	b = le.AppendUint16(b, p.Info.Vendor)
	b = le.AppendUint16(b, p.Info.Product)
	b = le.AppendUint16(b, p.Info.Release)

	// iManufacturer, iProduct and iSerialNumber; 0 is no string.
	for i, s := range []string{p.Info.Manufacturer, p.Info.Name, p.Info.Serial} {
		if s == "" {
			b = append(b, 0)
		} else {
			b = append(b, byte(i+1))
		}
	}
	return append(b, 1)
}

// Configuration is the configuration descriptor with all that belongs to it.
func (p *Profile) Configuration() []byte {
	b := []byte{9, 2, 0, 0, byte(len(p.Interfaces)), p.configurationValue(), 0, 0x80, 50}
	for i := range p.Interfaces {
		b = p.Interfaces[i].append(b, byte(i), p.maxPacket())
	}
	// wTotalLength.
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// append appends the interface, its class descriptor and its endpoints. place is the interface's
// place in the list, which gives the index of its string.
func (in *Interface) append(b []byte, place byte, maxPacket uint16) []byte {
	class := in.Class
	if class == 0 {
		class = device.ClassSmartCard
	}
	str := byte(0)
	if in.Name != "" {
		str = firstInterfaceString + place
	}

	var endpoints [][]byte
	if in.bulk() {
		lo, hi := byte(maxPacket), byte(maxPacket>>8)
		endpoints = append(endpoints,
			[]byte{7, 5, in.bulkOut(), 2, lo, hi, 0},
			[]byte{7, 5, in.bulkIn(), 2, lo, hi, 0})
	}
	if in.Interrupt {
		endpoints = append(endpoints, []byte{7, 5, in.interrupt(), 3, 8, 0, 16})
	}

	number := byte(len(endpoints))
	b = append(b, 9, 4, in.Number, 0, number, class, in.SubClass, in.Protocol, str)
	if !in.BehindEndpoint {
		b = in.CCID.Append(b)
	}
	for _, e := range endpoints {
		b = append(b, e...)
	}
	if in.BehindEndpoint {
		b = in.CCID.Append(b)
	}
	return b
}

// firstInterfaceString is the index of the first interface's string; 1 to 3 are the device's.
const firstInterfaceString = 4

// stringDescriptor is the string descriptor of an index, nil when there is none.
func (p *Profile) stringDescriptor(index byte) []byte {
	var s string
	switch index {
	case 0:
		// The list of languages: English (US) alone.
		return []byte{4, 3, 0x09, 0x04}
	case 1:
		s = p.Info.Manufacturer
	case 2:
		s = p.Info.Name
	case 3:
		s = p.Info.Serial
	default:
		if i := int(index) - firstInterfaceString; i < len(p.Interfaces) {
			s = p.Interfaces[i].Name
		}
	}

	if s == "" {
		return nil
	}

	// UTF-16, as many characters as bLength has room for.
	b := []byte{0, 3}
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	b = b[:min(len(b), 254)]
	b[0] = byte(len(b))
	return b
}
