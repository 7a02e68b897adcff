package device

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Descriptor types and lengths (USB 2.0, table 9-5; CCID 1.1, table 5.1-1).
const (
	typeDevice        = 1
	typeConfiguration = 2
	typeInterface     = 4
	typeEndpoint      = 5
	typeClass         = 0x21

	lengthDevice        = 18
	lengthConfiguration = 9
	lengthInterface     = 9
	lengthEndpoint      = 7
	lengthClass         = 54
)

// Interface classes that can be a reader.
const (
	ClassSmartCard = 0x0B
	ClassVendor    = 0xFF // with a class descriptor of CCID
)

// Values of bInterfaceProtocol.
const (
	ProtocolCCID  = 0 // bulk endpoints
	ProtocolICCDA = 1 // control transfers, version A
	ProtocolICCDB = 2 // control transfers, version B
)

// ClassDescriptor is the class descriptor of CCID, with the names of CCID 1.1, table 5.1-1. Clocks
// are in kHz, data rates in bit/s, lengths in bytes. The values are those that the reader sent;
// plan.Plan has the ones to work with.
type ClassDescriptor struct {
	Release            uint16 // bcdCCID
	MaxSlotIndex       byte   // bMaxSlotIndex: number of slots less one
	VoltageSupport     byte   // bVoltageSupport: bit 0 5 V, bit 1 3 V, bit 2 1.8 V
	Protocols          uint32 // dwProtocols: bit 0 T=0, bit 1 T=1
	DefaultClock       uint32 // dwDefaultClock
	MaximumClock       uint32 // dwMaximumClock
	ClocksSupported    byte   // bNumClockSupported
	DataRate           uint32 // dwDataRate
	MaxDataRate        uint32 // dwMaxDataRate
	DataRatesSupported byte   // bNumDataRatesSupported
	MaxIFSD            uint32 // dwMaxIFSD
	SynchProtocols     uint32 // dwSynchProtocols
	Mechanical         uint32 // dwMechanical
	Features           Feature
	MaxMessageLength   uint32 // dwMaxCCIDMessageLength, header included
	ClassGetResponse   byte   // bClassGetResponse, 0xFF: that of the command
	ClassEnvelope      byte   // bClassEnvelope
	LCDLayout          uint16 // wLcdLayout: lines in the high byte, columns in the low one
	PINSupport         byte   // bPINSupport: bit 0 verification, bit 1 modification
	MaxBusySlots       byte   // bMaxCCIDBusySlots
}

// Feature is a set of bits of dwFeatures.
type Feature uint32

// Bits of dwFeatures (CCID 1.1, table 5.1-1).
const (
	FeatureParametersFromATR Feature = 0x2     // configures the parameters from the ATR
	FeatureActivation        Feature = 0x4     // switches the card on when it comes in
	FeatureVoltage           Feature = 0x8     // chooses the voltage
	FeatureClockChange       Feature = 0x10    // changes the clock with the parameters
	FeatureRateChange        Feature = 0x20    // changes the data rate with the parameters
	FeatureNegotiation       Feature = 0x40    // negotiates all parameters in its own way
	FeaturePPS               Feature = 0x80    // makes the PPS from the parameters
	FeatureClockStop         Feature = 0x100   // can stop the clock
	FeatureNAD               Feature = 0x200   // takes a NAD other than 0
	FeatureIFSD              Feature = 0x400   // exchanges the IFSD by itself
	FeatureUSBICC            Feature = 0x800   // with FeatureNegotiation: a card as a USB device
	FeatureTPDU              Feature = 0x10000 // exchange level TPDU
	FeatureShortAPDU         Feature = 0x20000 // exchange level short APDU
	FeatureExtendedAPDU      Feature = 0x40000 // exchange level short and extended APDU
	FeatureWakeUp            Feature = 0x100000
)

// ParseClassDescriptor reads a class descriptor of exactly 54 bytes. Its values are not checked.
func ParseClassDescriptor(raw []byte) (*ClassDescriptor, error) {
	if len(raw) != lengthClass || raw[0] != lengthClass || raw[1] != typeClass {
		return nil, fmt.Errorf("not a CCID class descriptor: %d bytes", len(raw))
	}

	le := binary.LittleEndian
	return &ClassDescriptor{
		Release:            le.Uint16(raw[2:]),
		MaxSlotIndex:       raw[4],
		VoltageSupport:     raw[5],
		Protocols:          le.Uint32(raw[6:]),
		DefaultClock:       le.Uint32(raw[10:]),
		MaximumClock:       le.Uint32(raw[14:]),
		ClocksSupported:    raw[18],
		DataRate:           le.Uint32(raw[19:]),
		MaxDataRate:        le.Uint32(raw[23:]),
		DataRatesSupported: raw[27],
		MaxIFSD:            le.Uint32(raw[28:]),
		SynchProtocols:     le.Uint32(raw[32:]),
		Mechanical:         le.Uint32(raw[36:]),
		Features:           Feature(le.Uint32(raw[40:])),
		MaxMessageLength:   le.Uint32(raw[44:]),
		ClassGetResponse:   raw[48],
		ClassEnvelope:      raw[49],
		LCDLayout:          le.Uint16(raw[50:]),
		PINSupport:         raw[52],
		MaxBusySlots:       raw[53],
	}, nil
}

// Append appends the 54 bytes of d to b.
func (d *ClassDescriptor) Append(b []byte) []byte {
	// In the order of table 5.1-1, without gaps.
	le := binary.LittleEndian
	b = append(b, lengthClass, typeClass)
	b = le.AppendUint16(b, d.Release)

	b = append(b, d.MaxSlotIndex, d.VoltageSupport)
	b = le.AppendUint32(b, d.Protocols)
	b = le.AppendUint32(b, d.DefaultClock)
	b = le.AppendUint32(b, d.MaximumClock)
	b = append(b, d.ClocksSupported)

	b = le.AppendUint32(b, d.DataRate)
	b = le.AppendUint32(b, d.MaxDataRate)
	b = append(b, d.DataRatesSupported)

	b = le.AppendUint32(b, d.MaxIFSD)
	b = le.AppendUint32(b, d.SynchProtocols)
	b = le.AppendUint32(b, d.Mechanical)
	b = le.AppendUint32(b, uint32(d.Features))
	b = le.AppendUint32(b, d.MaxMessageLength)
	b = append(b, d.ClassGetResponse, d.ClassEnvelope)

	b = le.AppendUint16(b, d.LCDLayout)
	return append(b, d.PINSupport, d.MaxBusySlots)
}

// Interface is an interface descriptor that has a class descriptor of CCID: a reader.
type Interface struct {
	Number      byte // bInterfaceNumber, which need not be its place in the configuration
	Alternate   byte // bAlternateSetting
	Class       byte // bInterfaceClass: ClassSmartCard or ClassVendor
	SubClass    byte
	Protocol    byte // bInterfaceProtocol
	StringIndex byte // iInterface

	BulkOut   Endpoint
	BulkIn    Endpoint
	Interrupt Endpoint
	Endpoints int // bNumEndpoints

	CCID ClassDescriptor

	HasSettings bool // there is more than one alternate setting
}

// Endpoint is an endpoint of an interface; the zero value is none.
type Endpoint struct {
	Address   byte   // bEndpointAddress, bit 7 set for IN
	MaxPacket uint16 // wMaxPacketSize, bytes
}

// Configuration is a configuration descriptor with the readers in it.
type Configuration struct {
	Value      byte // bConfigurationValue
	Interfaces []Interface
}

// errNoReader is the error of ParseConfigurations for a device without a reader.
var errNoReader = errors.New("no CCID interface in the descriptors")

// MaxDescriptors bounds the raw descriptors of a device: 64 KiB is the limit of wTotalLength.
const MaxDescriptors = 1 << 16

// ParseConfigurations reads raw descriptors: one or more configurations, after a device descriptor
// or without one (the file "descriptors" of sysfs has one). A malformed descriptor ends its
// configuration; what was read before it is kept. It is an error when no interface is a reader.
func ParseConfigurations(raw []byte) ([]Configuration, error) {
	var all []Configuration
	found := false

	raw = raw[:min(len(raw), MaxDescriptors)]
	for len(raw) >= 2 {
		length := int(raw[0])
		switch {
		case raw[1] == typeConfiguration && length >= lengthConfiguration && length <= len(raw):
			// wTotalLength need not be right: at least the configuration itself, at most what is
			// there.
			total := max(length, int(binary.LittleEndian.Uint16(raw[2:])))
			body := raw[length:min(total, len(raw))]

			c := Configuration{Value: raw[5], Interfaces: parseInterfaces(body)}
			found = found || len(c.Interfaces) > 0
			all = append(all, c)
			raw = raw[length+len(body):]
		case length < 2 || length > len(raw):
			// Without a length that fits, the beginning of the next descriptor is not known.
			raw = nil
		default:
			// The device descriptor, or one of a kind that does not matter here.
			raw = raw[length:]
		}
	}

	if !found {
		return nil, errNoReader
	}
	return all, nil
}

// Oddity describes what is wrong with the raw descriptors of a device, as the file "descriptors" of
// sysfs has them. It is "" when they follow USB 2.0, section 9.6, in everything that the driver or
// a PC/SC client depends on.
func Oddity(raw []byte) string {
	if len(raw) < lengthDevice || raw[0] < lengthDevice {
		return unreadable(raw)
	}
	if int(raw[0]) > len(raw) || raw[1] != typeDevice {
		return unreadable(raw)
	}

	rest := raw[raw[0]:]
	wanted := int(raw[17]) // bNumConfigurations
	found := 0
	seen := map[[2]byte]bool{} // interface and setting, of a configuration

	for at := len(raw) - len(rest); len(rest) > 0; at = len(raw) - len(rest) {
		length := int(rest[0])
		if length < 2 || length > len(rest) {
			return fmt.Sprintf(
				"the descriptor at byte %d says that it has %d bytes, and %d are left",
				at, length, len(rest))
		}

		d := descriptor(rest[:length])
		rest = rest[length:]

		switch {
		case d.is(typeConfiguration, lengthConfiguration):
			found++
			seen = map[[2]byte]bool{}
		case d.is(typeInterface, lengthInterface):
			setting := [2]byte{d[2], d[3]}
			if seen[setting] {
				return fmt.Sprintf("interface %d is described twice", d[2])
			}
			seen[setting] = true
		}
	}

	if found != wanted {
		return fmt.Sprintf("it has %d configurations and describes %d", wanted, found)
	}
	return ""
}

// unreadable is the oddity of a device descriptor that is malformed.
func unreadable(raw []byte) string {
	return fmt.Sprintf("the device descriptor cannot be read: %d bytes", len(raw))
}

// descriptor is one descriptor of a configuration: at least two bytes, length and type.
type descriptor []byte

// is reports whether a descriptor is of a kind and has the fields that are read from it.
func (d descriptor) is(kind byte, length int) bool { return d[1] == kind && len(d) >= length }

// split separates the descriptors, up to the first that is malformed.
func split(raw []byte) []descriptor {
	var all []descriptor
	for len(raw) >= 2 && raw[0] >= 2 && int(raw[0]) <= len(raw) {
		all = append(all, raw[:raw[0]])
		raw = raw[raw[0]:]
	}
	return all
}

// parseInterfaces finds the readers among the interfaces. Of the settings of an interface, the
// first one with a class descriptor is taken.
func parseInterfaces(raw []byte) []Interface {
	var readers []Interface
	taken := make(map[byte]bool)
	settings := make(map[byte]int) // of each interface
	pieces := split(raw)

	for i := 0; i < len(pieces); i++ {
		if !pieces[i].is(typeInterface, lengthInterface) {
			continue
		}

		// Up to the next interface descriptor everything belongs to this one.
		end := i + 1
		for end < len(pieces) && !pieces[end].is(typeInterface, lengthInterface) {
			end++
		}

		in, ok := parseInterface(pieces[i:end])
		settings[in.Number]++

		if ok && !taken[in.Number] {
			taken[in.Number] = true
			readers = append(readers, in)
		}

		i = end - 1
	}

	for i := range readers {
		readers[i].HasSettings = settings[readers[i].Number] > 1
	}
	return readers
}

// parseInterface reads one interface descriptor and what belongs to it. The class descriptor has
// its place between the interface and its first endpoint; some readers (O2Micro Oz776, Reiner SCT,
// BluDrive II) have it after the last one, so any place is accepted.
func parseInterface(pieces []descriptor) (Interface, bool) {
	head := pieces[0]
	in := Interface{
		Number:      head[2],
		Alternate:   head[3],
		Endpoints:   int(head[4]),
		Class:       head[5],
		SubClass:    head[6],
		Protocol:    head[7],
		StringIndex: head[8],
	}
	if in.Class != ClassSmartCard && in.Class != ClassVendor {
		return in, false
	}

	found := false
	for _, d := range pieces[1:] {
		switch {
		case d.is(typeEndpoint, lengthEndpoint):
			in.addEndpoint(d)
		case !found:
			if class, err := ParseClassDescriptor(d); err == nil {
				in.CCID = *class
				found = true
			}
		}
	}
	return in, found
}

// addEndpoint stores an endpoint by its direction and type; the first of a kind counts.
func (in *Interface) addEndpoint(d descriptor) {
	// Bits 11 and 12 of wMaxPacketSize are no size (USB 2.0, table 9-13).
	e := Endpoint{Address: d[2], MaxPacket: binary.LittleEndian.Uint16(d[4:]) & 0x7FF}

	// bmAttributes: 2 is bulk, 3 interrupt. Bit 7 of the address is the direction.
	place := &in.BulkOut
	switch {
	case d[3]&3 == 2 && e.Address&0x80 != 0:
		place = &in.BulkIn
	case d[3]&3 == 3 && e.Address&0x80 != 0:
		place = &in.Interrupt
	case d[3]&3 != 2:
		return
	}

	if place.Address == 0 {
		*place = e
	}
}
