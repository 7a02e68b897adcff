package doctor

import (
	"context"
	"path"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// What the kernel shows of USB devices (Documentation/ABI/stable/sysfs-bus-usb).
const (
	usbDevices   = "/sys/bus/usb/devices"
	classCCID    = "0b" // bInterfaceClass of smart-card readers (USB class codes, CCID 1.1, 4.3)
	vendorYubico = "1050"
)

// usbDevice is a device that is plugged in.
type usbDevice struct {
	dir          string // "1-2"
	vendor, id   string // four hexadecimal digits each
	name         string
	node         string // /dev/bus/usb/BBB/DDD
	isReader     bool
	configurable bool // without reader, and of a kind that can have one
}

// String is its name with its numbers.
func (d usbDevice) String() string {
	numbers := d.vendor + ":" + d.id
	if d.name == "" {
		return numbers
	}
	return d.name + " (" + numbers + ")"
}

// usb are the devices; there is none where the machine shows no USB.
func (m *Machine) usb() []usbDevice {
	var all []usbDevice
	for _, dir := range m.glob(usbDevices + "/*") {
		name := path.Base(dir)
		if strings.Contains(name, ":") {
			continue // an interface
		}

		d := usbDevice{
			dir:    name,
			vendor: m.line(dir + "/idVendor"),
			id:     m.line(dir + "/idProduct"),
			name: printable(strings.TrimSpace(m.line(dir+"/manufacturer") + " " +
				m.line(dir+"/product"))),
		}

		bus := m.line(dir + "/busnum")
		number := m.line(dir + "/devnum")
		d.node = "/dev/bus/usb/" + padded(bus) + "/" + padded(number)
		// The class stands with each interface: that of the device says only that they have one.
		for _, face := range m.glob(dir + "/" + name + ":*/bInterfaceClass") {
			d.isReader = d.isReader || strings.EqualFold(m.line(face), classCCID)
		}

		d.configurable = !d.isReader && d.vendor == vendorYubico &&
			strings.Contains(strings.ToLower(d.name), "yubikey")
		all = append(all, d)
	}
	return all
}

// padded is a number of three digits.
func padded(number string) string {
	if len(number) >= 3 {
		return number
	}
	return strings.Repeat("0", 3-len(number)) + number
}

// readers are the devices that are smart-card readers.
func (m *Machine) readers() []usbDevice {
	var some []usbDevice
	for _, d := range m.usb() {
		if d.isReader {
			some = append(some, d)
		}
	}
	return some
}

// checkUSB looks for a reader among the devices that are plugged in.
func checkUSB(_ context.Context, m *Machine) diagnosis.Findings {
	if !m.exists(usbDevices) {
		return list(note("usb-missing", usbDevices,
			message.Textf("the kernel shows no USB here, as in a container")))
	}

	var found diagnosis.Findings
	for _, d := range m.usb() {
		switch {
		case d.isReader:
			found.Add(good("usb-reader", d.dir, message.Textf("%s is a smart-card reader", d)))
		case d.configurable:
			found.Add(warn("usb-reader-off", d.dir,
				message.Textf(
					"%s is plugged in, and its smart-card interface (CCID) is switched off", d),
				message.Textf("run: ykman config usb --enable PIV")))
		}
	}

	if len(found) == 0 {
		found.Add(warn("usb-no-reader", usbDevices,
			message.Textf("no device of the class smart card (0B) is plugged in"),
			message.Textf(
				"plug the reader or the key in; in a virtual machine, hand its USB device through to it")))
	}
	return found
}

// mostShown bounds a text of a device's or a card's that is shown.
const mostShown = 200

// printable is a text on one line, without control characters.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if isControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))

	// The cut may fall into a character.
	return strings.ToValidUTF8(text[:min(len(text), mostShown)], "")
}

// isControl reports whether a terminal obeys a character, or may show what follows otherwise: C0
// and C1 controls, line separators and marks of direction.
func isControl(r rune) bool {
	switch {
	case r < ' ', r >= 0x7F && r < 0xA0:
		return true
	case r >= 0x2028 && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}
