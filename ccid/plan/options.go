package plan

import (
	"fmt"
	"strings"

	"pam_pkcs11/ccid/message"
)

// Options are the decisions of an administrator about all readers.
type Options struct {
	// Escapes lets applications send escape commands to any reader. They can change its firmware,
	// so they are refused unless the table of quirks or the command itself is known to be harmless.
	Escapes bool
	// OldFirmware drives readers whose firmware is known to be too old.
	OldFirmware bool
	// APDUMode switches GemPC Twin and Key to their mode of APDU level.
	APDUMode bool
	// VendorClass drives every interface of class FF that has a class descriptor of CCID, not only
	// those of known readers.
	VendorClass bool
	// FirstVoltage is tried first when the host chooses the voltage; VoltageAutomatic is 5 V.
	FirstVoltage message.Voltage
}

// ParseOptions reads options as the command line has them, separated by plus signs: escapes,
// old-firmware, apdu-mode, vendor-class, 5V, 3V, 1.8V. "" is none.
func ParseOptions(text string) (Options, error) {
	var o Options
	if text == "" {
		return o, nil
	}

	for word := range strings.SplitSeq(text, "+") {
		switch word {
		case "escapes":
			o.Escapes = true
		case "old-firmware":
			o.OldFirmware = true
		case "apdu-mode":
			o.APDUMode = true
		case "vendor-class":
			o.VendorClass = true
		case "5V":
			o.FirstVoltage = message.Voltage5
		case "3V":
			o.FirstVoltage = message.Voltage3
		case "1.8V":
			o.FirstVoltage = message.Voltage18
		default:
			return o, fmt.Errorf(
				"unknown option %q: escapes, old-firmware, apdu-mode, vendor-class, 5V, 3V or 1.8V",
				word)
		}
	}

	return o, nil
}
