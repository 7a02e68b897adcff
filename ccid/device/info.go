package device

import "encoding/binary"

// Info identifies a reader: everything about it but its CCID interface.
type Info struct {
	Vendor  uint16 // idVendor
	Product uint16 // idProduct
	Release uint16 // bcdDevice

	Manufacturer string // iManufacturer, "" when it has none
	Name         string // iProduct
	Serial       string // iSerialNumber
	Interface    string // iInterface of the CCID interface

	Bus           int    // number of the bus, 0 when there is none
	Address       int    // number of the device on it
	Path          string // "3-1.2": bus and ports
	Configuration byte   // bConfigurationValue that is active
}

// ReadNumbers takes vendor, product and release from a raw device descriptor, and reports whether
// raw begins with one.
func (i *Info) ReadNumbers(raw []byte) bool {
	if len(raw) < lengthDevice || raw[1] != typeDevice {
		return false
	}

	le := binary.LittleEndian
	i.Vendor = le.Uint16(raw[8:])
	i.Product = le.Uint16(raw[10:])
	i.Release = le.Uint16(raw[12:])
	return true
}
