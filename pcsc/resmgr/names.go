package resmgr

import (
	"fmt"
	"strings"

	"pam_pkcs11/pcsc"
)

// maxNameText is where a name is cut before its numbers (MaxReaderName less NUL and " RR SS").
const maxNameText = pcsc.MaxReaderName - 1 - len(" 00 00")

// NameOptions change how readers are named and which are there at all.
type NameOptions struct {
	NoInterface bool     // leave out the interface string (pcscd -I)
	NoSerial    bool     // leave out the serial number (pcscd -S)
	Ignore      []string // readers whose name contains one of these are not used
	Extend      string   // text between the name and the numbers
}

func (o NameOptions) ignored(text string) bool {
	for _, part := range o.Ignore {
		if part = plain(part); part != "" && strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// readerName is pcscd's form, which programs match parts of: `product [interface] (serial)extend RR
// SS` with the number of the reader and of the slot in two hexadecimal digits. It is printable
// ASCII throughout: programs take it for text in an encoding of their own, and some (pyscard) then
// fail for all readers.
func (o NameOptions) readerName(product, iface, serial string, reader, slot int) string {
	text := o.text(product, iface, serial) + plain(o.Extend)
	if len(text) > maxNameText {
		text = text[:maxNameText]
	}
	return fmt.Sprintf("%s %02X %02X", text, reader, slot)
}

// text is a name without the numbers that distinguish readers of one kind.
func (o NameOptions) text(product, iface, serial string) string {
	var b strings.Builder
	b.WriteString(plain(strings.ReplaceAll(product, "\x00", "")))

	if iface = plain(iface); iface != "" && !o.NoInterface {
		fmt.Fprintf(&b, " [%s]", iface)
	}

	// Some readers have the serial number in their interface string already.
	if serial = plain(serial); serial != "" && !o.NoSerial && !strings.Contains(iface, serial) {
		fmt.Fprintf(&b, " (%s)", serial)
	}
	return b.String()
}

// plain replaces every byte that is not printable ASCII with a dot, as pcscd does.
func plain(s string) string {
	out := []byte(s)
	for i, c := range out {
		if c < 0x20 || c > 0x7E {
			out[i] = '.'
		}
	}
	return string(out)
}
