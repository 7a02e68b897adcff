package ccidtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/ccid/device"
)

// maxDescription bounds a description in bytes.
const maxDescription = 1 << 20

// ReadDescription reads the description of a device as libccid's program "parse" prints it, which
// is how makers and users describe readers: one "name: value" a line, an interface beginning with
// bInterfaceNumber. Interfaces that are no readers are left out. An interface number that comes a
// second time begins another device.
func ReadDescription(r io.Reader) ([]*Profile, error) {
	d := description{}
	lines := bufio.NewScanner(io.LimitReader(r, maxDescription))
	for lines.Scan() {
		d.line(strings.TrimSpace(lines.Text()))
	}
	// The last interface has no line after it that would end it.
	d.finish()

	switch err := lines.Err(); {
	case err != nil:
		return nil, err
	case d.err != nil:
		return nil, d.err
	case len(d.all) == 0:
		return nil, errors.New("the description has no reader")
	}
	return d.all, nil
}

// description is a description being read.
type description struct {
	all   []*Profile
	info  device.Info
	in    *Interface // whose lines are being read; nil before the first
	class bool       // in has a class descriptor
	err   error
}

// finish adds the interface whose lines have been read.
func (d *description) finish() {
	if d.in == nil || !d.class {
		d.in = nil
		d.class = false
		return
	}

	known := func(in Interface) bool { return in.Number == d.in.Number }
	if len(d.all) == 0 || slices.ContainsFunc(d.all[len(d.all)-1].Interfaces, known) {
		d.all = append(d.all, &Profile{Info: d.info})
	}

	last := d.all[len(d.all)-1]
	last.Interfaces = append(last.Interfaces, *d.in)
	d.in = nil
	d.class = false
}

// line reads one line, without the space around it.
func (d *description) line(text string) {
	if number, unit, ok := supported(text); ok && d.in != nil {
		if unit == "kHz" {
			d.in.Clocks = append(d.in.Clocks, number)
		} else {
			d.in.Rates = append(d.in.Rates, number)
		}
		return
	}

	name, value, ok := strings.Cut(text, ":")
	if value = strings.TrimSpace(value); !ok || value == "" {
		return
	}

	// These two end the interface before them, so they are looked at first.
	switch name {
	case "idVendor":
		d.finish()
	case "bInterfaceNumber":
		d.finish()
		d.in = &Interface{}
	}

	info := &d.info
	switch name {
	case "idVendor":
		info.Vendor = uint16(d.number(value, 16))
	case "idProduct":
		info.Product = uint16(d.number(value, 16))
	case "bcdDevice":
		info.Release = d.bcd(value)
	case "iManufacturer":
		info.Manufacturer = value
	case "iProduct":
		info.Name = value
	case "iSerialNumber":
		info.Serial = value
	}

	if d.in != nil {
		d.interfaceLine(name, value)
	}
}

// supported reads "Support 4000 kHz" and "Support 9600 bps".
func supported(text string) (uint32, string, bool) {
	words := strings.Fields(text)
	if len(words) != 3 || words[0] != "Support" {
		return 0, "", false
	}
	if words[2] != "kHz" && words[2] != "bps" {
		return 0, "", false
	}

	n, err := strconv.ParseUint(words[1], 10, 32)
	return uint32(n), words[2], err == nil
}

// interfaceLine reads a line about the interface d.in.
func (d *description) interfaceLine(name, value string) {
	in, c := d.in, &d.in.CCID
	switch name {
	case "bInterfaceNumber":
		in.Number = byte(d.number(value, 8))
	case "bNumEndpoints":
		n := d.number(value, 8)
		// Only their number is printed: one or three have an interrupt endpoint among them.
		in.Interrupt = n == 3 || n == 1
		in.Bulk = n >= 2
	case "bInterfaceClass":
		in.Class = byte(d.number(value, 8))
	case "bInterfaceSubClass":
		in.SubClass = byte(d.number(value, 8))
	case "bInterfaceProtocol":
		in.Protocol = byte(d.number(value, 8))
	case "iInterface":
		if value != "0" {
			in.Name = value
		}
	case "bcdCCID":
		c.Release = d.bcd(value)
		d.class = true
	case "bMaxSlotIndex":
		c.MaxSlotIndex = byte(d.number(value, 8))
	case "bVoltageSupport":
		c.VoltageSupport = byte(d.number(value, 8))
	case "dwProtocols":
		c.Protocols = uint32(d.number(value, 32))
	case "dwDefaultClock":
		c.DefaultClock = d.megahertz(value)
	case "dwMaximumClock":
		c.MaximumClock = d.megahertz(value)
	case "bNumClockSupported":
		c.ClocksSupported = byte(d.number(value, 8))
	case "dwDataRate":
		c.DataRate = uint32(d.number(value, 32))
	case "dwMaxDataRate":
		c.MaxDataRate = uint32(d.number(value, 32))
	case "bNumDataRatesSupported":
		c.DataRatesSupported = byte(d.number(value, 8))
	case "dwMaxIFSD":
		c.MaxIFSD = uint32(d.number(value, 32))
	case "dwSynchProtocols":
		c.SynchProtocols = uint32(d.number(value, 32))
	case "dwMechanical":
		c.Mechanical = uint32(d.number(value, 32))
	case "dwFeatures":
		c.Features = device.Feature(d.number(value, 32))
	case "dwMaxCCIDMessageLength":
		c.MaxMessageLength = uint32(d.number(value, 32))
	case "bClassGetResponse":
		c.ClassGetResponse = byte(d.number(value, 8))
	case "bClassEnvelope":
		c.ClassEnvelope = byte(d.number(value, 8))
	case "wLcdLayout":
		c.LCDLayout = uint16(d.number(value, 16))
	case "bPINSupport":
		c.PINSupport = byte(d.number(value, 8))
	case "bMaxCCIDBusySlots":
		c.MaxBusySlots = byte(d.number(value, 8))
	}
}

// number reads the first word of a value, decimal or 0x. Two words in hexadecimal are the halves of
// one number.
func (d *description) number(value string, bits int) uint64 {
	words := strings.Fields(value)
	n, err := strconv.ParseUint(words[0], 0, bits)
	halves := len(words) == 2 && strings.HasPrefix(words[0], "0x")
	if err == nil && halves && strings.HasPrefix(words[1], "0x") {
		var low uint64
		low, err = strconv.ParseUint(words[1], 0, 16)
		n = n<<16 | low
	}

	if err != nil && d.err == nil {
		d.err = fmt.Errorf("number %q: %w", value, err)
	}
	return n
}

// bcd reads "1.10".
func (d *description) bcd(value string) uint16 {
	high, low, _ := strings.Cut(strings.Fields(value)[0], ".")
	n, err := strconv.ParseUint(high+low, 16, 16)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("release %q: %w", value, err)
	}
	return uint16(n)
}

// megahertz reads "4.000 MHz" in kHz.
func (d *description) megahertz(value string) uint32 {
	f, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("clock %q: %w", value, err)
	}
	return uint32(f*1000 + 0.5)
}
