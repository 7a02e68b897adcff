package ccidtest

import "pam_pkcs11/ccid/device"

// Level is how much of ISO 7816-3 a reader does by itself.
type Level string

// The levels of exchange (CCID 1.1, section 5.1, dwFeatures).
const (
	LevelCharacter Level = "character" // the host does T=0 and T=1, byte by byte
	LevelTPDU      Level = "tpdu"      // the host does T=0 and T=1
	LevelShort     Level = "short"     // APDUs of at most 261 bytes
	LevelExtended  Level = "extended"  // APDUs of any length
)

// Levels are all of them.
var Levels = []Level{LevelCharacter, LevelTPDU, LevelShort, LevelExtended}

// Model describes a reader of a level that can be bought, with the numbers that Debian's libccid
// has for it. false: there is no such level.
func Model(level Level) (Profile, bool) {
	switch level {
	case LevelCharacter:
		return Describe(0x0B97, 0x7772, 0x0110, "O2", "O2Micro CCID SC Reader", character()), true
	case LevelTPDU:
		return Describe(0x08E6, 0x3437, 0x0100, "Gemplus", "GemPC Twin Reader",
			Interface{Interrupt: true, CCID: Class(0x00010230, 271, nil)}), true
	case LevelShort:
		return Describe(0x076B, 0x5121, 0x0200, "OMNIKEY", "Smart Card Reader USB",
			Interface{Interrupt: true, CCID: Class(0x000207B2, 271, nil)}), true
	case LevelExtended:
		// The only one here with a list of rates, from which the host chooses.
		return Describe(0x058F, 0x9540, 0x0120, "Generic", "EMV Smartcard Reader", Interface{
			Interrupt: true,
			Rates:     RatesOfAlcor(),
			CCID: Class(0x000404BE, 272, func(d *device.ClassDescriptor) {
				d.DefaultClock = 3700
				d.MaximumClock = 3700
				d.DataRate = 9946
				d.MaxDataRate = 318280
				d.DataRatesSupported = 53
				d.ClassGetResponse = 0xFF
				d.ClassEnvelope = 0xFF
			}),
		}), true
	}

	return Profile{}, false
}

// PINPad describes a reader with a keypad, of TPDU level.
func PINPad() Profile {
	return Describe(0x072F, 0x8201, 0x5000, "ACS", "APG8201 PINhandy 1", Interface{
		Interrupt: true,
		CCID: Class(0x00010030, 271, func(d *device.ClassDescriptor) {
			d.VoltageSupport = 1
			d.MaxDataRate = 344100
			d.PINSupport = 3
		}),
	})
}

// Describe is a device with these readers.
func Describe(
	vendor, product, release uint16, manufacturer, name string, interfaces ...Interface,
) Profile {
	return Profile{
		Info: device.Info{
			Vendor:       vendor,
			Product:      product,
			Release:      release,
			Manufacturer: manufacturer,
			Name:         name,
		},
		Interfaces: interfaces,
	}
}

// Class is a class descriptor with the usual values, but for features, length
// (dwMaxCCIDMessageLength) and what more changes.
func Class(
	features device.Feature, length uint32, more func(*device.ClassDescriptor),
) device.ClassDescriptor {
	d := device.ClassDescriptor{
		Release:          0x0110,
		VoltageSupport:   7,
		Protocols:        3,
		DefaultClock:     4000,
		MaximumClock:     4000,
		DataRate:         10752,
		MaxDataRate:      344086,
		MaxIFSD:          254,
		Features:         features,
		MaxMessageLength: length,
		MaxBusySlots:     1,
	}
	if more != nil {
		more(&d)
	}
	return d
}

// character is a reader of character level that has its class descriptor behind an endpoint.
func character() Interface {
	return Interface{
		Interrupt:      true,
		BehindEndpoint: true,
		CCID: Class(0x00000030, 271, func(d *device.ClassDescriptor) {
			d.DataRate = 9600
			d.MaxDataRate = 307200
		}),
	}
}

// RatesOfAlcor are the 53 data rates, in bit/s, of the readers of that maker.
func RatesOfAlcor() []uint32 {
	return []uint32{
		1807, 1989, 2409, 2487, 3315, 3613, 3978, 4818, 4973, 6631,
		7227, 7957, 9635, 9946, 13262, 14453, 15914, 19271, 19892, 21680,
		23871, 26523, 28906, 29839, 31828, 36133, 38542, 39785, 43359, 48177,
		49731, 53047, 57813, 59677, 63656, 66308, 72266, 77083, 79570, 86719,
		96354, 99462, 106093, 115625, 119355, 132616, 144531, 154167, 159140, 198925,
		212186, 231250, 318280,
	}
}
